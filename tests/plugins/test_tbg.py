"""TBG's field: the published fixture, symmetries, masks, the exact divergence, weights in and out."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import bgbench
from bgbench import BgbenchError, peptide
from bgbench_tbg import import_weights
from bgbench_tbg.divergence import velocity_and_divergence
from bgbench_tbg.network import EncodedPeptides, Field, FieldConfig, encode_peptides
from bgbench_tbg.recipe import SIZES
from bgbench_tbg.weights import from_published, infer_lengths, load, save
from bgbench_training.weights import read_published

DATA = Path(__file__).parent.parent / "data"
WEIGHTS = DATA / "ecnf_small.weights.safetensors"


def loud(config, seed=0, dtype=torch.float32):
    """A field with random weights, loud enough for every part to matter."""
    field = Field(config)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in field.parameters():
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator))
    return field.requires_grad_(False).to(dtype)


def encode(sequence, config, dtype=torch.float32):
    m = encode_peptides([peptide(sequence).atoms], config)
    return EncodedPeptides(m.features.to(dtype), m.mask)


def one_by_one(field, x, t, m):
    """∇·v by one pass backward a coordinate."""
    x = x.clone().requires_grad_()
    v = field(x, t, m)
    total = torch.zeros(len(x), dtype=x.dtype)
    for i in range(x.shape[1]):
        for k in range(3):
            (row,) = torch.autograd.grad(v[:, i, k].sum(), x, retain_graph=True)
            total += row[:, i, k]
    return total


@pytest.fixture(scope="module")
def fixture():
    """The published field, its input and its answers."""
    description = json.loads((DATA / "ecnf_small.json").read_text())
    io = load_file(DATA / "ecnf_small.io.safetensors")
    field = from_published(read_published(WEIGHTS).tensors).requires_grad_(False)
    return field, encode(description["sequence"], field.config), io


def test_fixture_velocity_and_divergence(fixture):
    field, m, io = fixture
    v, divergence = velocity_and_divergence(field, io["x"], io["t"][:, 0], m)
    assert torch.equal(v, field(io["x"], io["t"][:, 0], m))
    assert float((v - io["velocity"]).abs().max()) < 1e-4 * float(io["velocity"].abs().max())
    assert torch.allclose(divergence, io["divergence"], rtol=1e-4)


@pytest.mark.parametrize(
    ("channels", "n_layers"), [(12, 1), (12, 2), (12, 3), (12, 5), (56, 3), (56, 2), (56, 4), (56, 6)]
)
def test_divergence_is_that_of_one_pass_a_coordinate(channels, n_layers, generator):
    config = FieldConfig(channels, n_layers)
    field, m = loud(config, dtype=torch.float64), encode("GG", config, torch.float64)
    x = torch.randn(3, m.mask.shape[1], 3, generator=generator, dtype=torch.float64)
    t = torch.rand(3, generator=generator, dtype=torch.float64)
    v, divergence = velocity_and_divergence(field, x, t, m)
    assert torch.allclose(v, field(x, t, m), atol=1e-12)
    expected = one_by_one(field, x, t, m)
    assert torch.allclose(divergence, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(("channels", "n_layers"), [(12, 3), (56, 2), (56, 3), (56, 6)])
def test_divergence_in_single_precision(channels, n_layers, generator):
    """Against double precision; louder weights than these lose digits by themselves."""
    config = FieldConfig(channels, n_layers)
    field, m = Field(config).requires_grad_(False), encode("GG", config)
    for parameter in field.parameters():
        width = parameter.shape[-1] ** -0.5
        parameter.copy_(width * (2 * torch.rand(parameter.shape, generator=generator) - 1))
    x, t = torch.randn(3, m.mask.shape[1], 3, generator=generator), torch.tensor(0.5)
    single = velocity_and_divergence(field, x, t, m)[1]
    expected = one_by_one(field.double(), x.double(), t.double(), encode("GG", config, torch.float64))
    assert float((single - expected).abs().max()) < 1e-5 * float(expected.abs().max())


def test_divergence_in_blocks_is_the_same(generator, monkeypatch):
    config = FieldConfig(channels=12, n_layers=4)
    field, m = loud(config), encode("GG", config)
    x = torch.randn(5, m.mask.shape[1], 3, generator=generator)
    whole = velocity_and_divergence(field, x, torch.tensor(0.4), m)[1]
    for room in (1, 3 * 17 * 144, 2 * (17 * 12) ** 2):
        monkeypatch.setattr("bgbench_tbg.jacobian_products.BLOCK_ELEMENTS", room)
        assert torch.allclose(velocity_and_divergence(field, x, torch.tensor(0.4), m)[1], whole, rtol=1e-4)


@pytest.mark.parametrize("channels", [8, 56])
def test_divergence_has_the_gradient_of_its_differences(channels, generator):
    config = FieldConfig(channels, n_layers=3)
    field, m = loud(config, dtype=torch.float64), encode("GG", config, torch.float64)
    x = torch.randn(1, m.mask.shape[1], 3, generator=generator, dtype=torch.float64)
    step = torch.randn(x.shape, generator=generator, dtype=torch.float64) * 1e-7
    t = torch.tensor(0.4, dtype=torch.float64)

    def divergence(y):
        return velocity_and_divergence(field, y, t, m)[1].sum()

    (slope,) = torch.autograd.grad(divergence(x.requires_grad_()), x)
    with torch.no_grad():
        difference = (divergence(x + step) - divergence(x - step)) / 2
    assert float((slope * step).sum()) == pytest.approx(float(difference), rel=1e-5)


def test_field_turns_mirrors_and_does_not_move_with_x(fixture, generator):
    field, m, io = fixture
    turn = torch.linalg.qr(torch.randn(3, 3, generator=generator))[0]
    assert float(torch.linalg.det(turn).abs()) == pytest.approx(1.0, abs=1e-5)
    x, t = io["x"], io["t"][:, 0]
    size = float(io["velocity"].abs().max())
    for mirror in (1, -1):
        turned = velocity_and_divergence(field, mirror * x @ turn + 2.0, t, m)
        assert float((turned[0] - mirror * io["velocity"] @ turn).abs().max()) < 1e-5 * size
        assert torch.allclose(turned[1], io["divergence"], rtol=1e-5)


def test_field_follows_exchanged_atoms_and_has_no_mean(fixture, generator):
    field, m, io = fixture
    order = torch.randperm(io["x"].shape[1], generator=generator)
    exchanged = EncodedPeptides(m.features[:, order], m.mask)
    v = field(io["x"][:, order], io["t"][:, 0], exchanged)
    assert float((v - io["velocity"][:, order]).abs().max()) < 1e-5 * float(v.abs().max())
    assert float(v.mean(1).abs().max()) < 1e-5 * float(v.abs().max())


@pytest.mark.parametrize(
    ("channels", "n_layers", "names"), [(16, 3, ("GG", "GS", "ARIP")), (64, 5, ("GG", "GS", "GA"))]
)
def test_padding_changes_nothing(channels, n_layers, names, generator):
    config = FieldConfig(channels, n_layers)
    field = loud(config)
    atoms = [peptide(name).atoms for name in names]
    m = encode_peptides(atoms, config)
    x = torch.zeros(6, m.mask.shape[1], 3)
    for k, row in enumerate(atoms):
        x[2 * k : 2 * k + 2, : len(row)] = torch.randn(2, len(row), 3, generator=generator)
    t = torch.rand(6, generator=generator)
    v, divergence = velocity_and_divergence(field, x, t, m)
    for k, name in enumerate(names):
        n, rows = len(atoms[k]), slice(2 * k, 2 * k + 2)
        alone = velocity_and_divergence(field, x[rows, :n], t[rows], encode(name, config))
        assert torch.allclose(v[rows, :n], alone[0], atol=1e-5 * float(v.abs().max()))
        assert bool((v[rows, n:] == 0).all())
        assert torch.allclose(divergence[rows], alone[1], rtol=1e-4)


@pytest.mark.parametrize(("name", "millions"), [("ecnf", 1), ("ecnf++", 4)])
def test_published_sizes(name, millions):
    assert Field(SIZES[name]).n_parameters() == pytest.approx(1e6 * millions, rel=0.2)


def test_weights_come_back(tmp_path, generator):
    field = loud(FieldConfig(channels=8, n_layers=2, longest=3))
    path = tmp_path / "w.safetensors"
    save(path, field, {"name": "loud"})
    loaded = load(path)
    again = loaded.network
    assert loaded.card == {"name": "loud"}
    x = torch.randn(2, peptide("GGG").n_atoms, 3, generator=generator)
    m, t = encode("GGG", field.config), torch.tensor(0.5)
    assert torch.equal(field(x, t, m), again(x, t, m))
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(BgbenchError, match="holds no TBG weights"):
        load(path)


def test_published_weights_are_imported(tmp_path, fixture):
    field, m, io = fixture
    loaded = load(import_weights(WEIGHTS, tmp_path / "w.safetensors"))
    again = loaded.network
    assert "imported from" in loaded.card["notes"]
    assert torch.equal(again(io["x"], io["t"][:, 0], m), field(io["x"], io["t"][:, 0], m))


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda s: s.pop("egnn.gcl_1.att_mlp.0.bias"), "missing layers.1.attention.bias"),
        (lambda s: s.update({"egnn.gcl_1.extra.0.bias": torch.zeros(2)}), "unexpected egnn.gcl_1.extra"),
        (lambda s: s.update({"egnn.gcl_0.edge_mlp.2.bias": torch.zeros(2)}), r"edge_out.bias is \(2,\)"),
        (lambda s: s.pop("egnn.embedding.weight"), "not published ECNF weights"),
        (lambda s: s.update({"egnn.embedding.weight": torch.zeros(32, 81)}), "81 inputs an atom"),
    ],
)
def test_strange_state_dicts_are_refused_by_name(change, complaint, tmp_path):
    state = load_file(WEIGHTS)
    change(state)
    save_file(state, tmp_path / "w.safetensors")
    with pytest.raises(BgbenchError, match=complaint):
        from_published(read_published(tmp_path / "w.safetensors").tensors)


def test_inputs_of_two_residues_alone_have_no_length():
    config = FieldConfig(channels=4, n_layers=1, longest=2)
    assert infer_lengths(config.n_features + 1) == (2, 2)
    assert infer_lengths(FieldConfig(longest=8).n_features + 1) == (2, 8)
    field = loud(config)
    state = {f"egnn.{name}": tensor for name, tensor in field.state_dict().items() if "embedding" in name}
    assert state["egnn.embedding.weight"].shape[1] == 54 + 2 + 20 + 1
    with pytest.raises(BgbenchError, match="missing layers"):
        from_published({**state, "egnn.gcl_0.att_mlp.0.bias": torch.zeros(1)})


def test_a_peptide_too_long_is_refused():
    with pytest.raises(BgbenchError, match="a peptide of 5 residues: this field knows 2 to 4"):
        encode_peptides([peptide("GGGGG").atoms], FieldConfig())
    with pytest.raises(BgbenchError, match="no such vector field"):
        replace(FieldConfig(), channels=0)
    assert bgbench.encode_atoms(peptide("GG").atoms).sequence_length == 2
