"""Prose against the published algorithm's numbers (tests/data/prose_small.*) and against exact Jacobians."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from bgbench import Atom, BgbenchError, peptide
from bgbench_prose.decode import invert
from bgbench_prose.network import Config, Prose, Tokens, tokens
from bgbench_prose.permutations import NAMES, permutation
from bgbench_prose.sampler import log_centre
from bgbench_prose.weights import from_published, load, save
from bgbench_training.weights import fill, read_published

DATA = Path(__file__).parent.parent / "data"
TABLES = json.loads((DATA / "chemistry_tables.json").read_text())
META = json.loads((DATA / "prose_small.json").read_text())
ARIP = [Atom(residue, kind, name, name[0]) for residue, kind, name in META["atoms"]]
FIRST = ("N", "H", "H2", "H3", "CA", "HA", "C", "O", "CB", "HB1", "HB2", "HB3")
LAST = ("N", "H", "CA", "HA", "C", "O", "CB", "HB1", "HB2", "HB3", "OXT")
AA = [Atom(k, "ALA", name, name[0]) for k, names in enumerate((FIRST, LAST)) for name in names]


ABLATIONS = [
    {},
    {"lookahead": False},
    {"orders": ("n2c_residue-by-residue_standard", "n2c_residue-by-residue_standard_flip")},
    {"conditioning": "additive"},
]


@pytest.fixture(scope="module")
def published():
    return load_file(DATA / "prose_small.weights.safetensors")


@pytest.fixture(scope="module")
def flow(published):
    return from_published(published, META["head_dim"]).requires_grad_(False)


@pytest.fixture(scope="module")
def io():
    return load_file(DATA / "prose_small.io.safetensors")


@pytest.mark.parametrize("sequence", TABLES)
@pytest.mark.parametrize("name", NAMES)
def test_permutations_equal_the_published_ones(sequence, name):
    table = TABLES[sequence]
    atoms = [Atom(residue, kind, atom, atom[0]) for residue, kind, atom in table["atoms"]]
    assert permutation(atoms, name).tolist() == table["permutations"][name]


def test_permutations_do_not_depend_on_the_files_atom_order():
    shuffled = AA[::-1]
    for name in NAMES:
        a = [AA[k].name + str(AA[k].residue) for k in permutation(AA, name)]
        b = [shuffled[k].name + str(shuffled[k].residue) for k in permutation(shuffled, name)]
        assert a == b


def test_unknown_orders_and_atoms_are_named():
    with pytest.raises(BgbenchError, match="unknown order 'sideways'"):
        permutation(AA, "sideways")
    with pytest.raises(BgbenchError, match="QQ of ALA"):
        permutation([*AA, Atom(1, "ALA", "QQ", "C")], NAMES[0])


def test_forward_equals_the_published_numbers(flow, io):
    z, log_det = flow(io["x"], tokens([ARIP], flow.config))
    assert torch.allclose(z, io["z"], atol=1e-4)
    assert torch.allclose(log_det, io["logdet"], atol=1e-4)


def test_cached_inverse_equals_the_published_numbers(flow, io):
    x, log_det = invert(flow, io["z0"], tokens([ARIP], flow.config))
    assert torch.allclose(x, io["x_from_z0"], atol=1e-4)
    assert torch.allclose(log_det, io["logdet_reverse"], atol=1e-4)


def test_padded_batches_equal_the_published_numbers(flow, io):
    z, log_det = flow(io["pad_x"], Tokens(*padded(flow, 178)))
    assert torch.allclose(z, io["pad_z"], atol=1e-4)
    assert torch.allclose(log_det, io["pad_logdet"], atol=1e-4)


def padded(flow, width):
    """Token fields of ARIP and AA, padded to `width`."""
    t = tokens([ARIP, AA], flow.config)
    extra = width - t.mask.shape[1]
    tail = torch.arange(t.mask.shape[1], width)
    codes = (t.atom_type, t.residue_type, t.residue_position, t.sequence_length, t.mask)
    orders = torch.cat([t.orders, tail.expand(*t.orders.shape[:2], -1)], dim=2)
    return [*(torch.nn.functional.pad(code, (0, extra)) for code in codes), orders]


def test_centre_of_mass_adjustment_equals_the_published_one(io):
    c = io["x"].mean(1)
    adjustment = log_centre(c, io["x"].shape[1] ** -0.5, "chi")
    assert torch.allclose(adjustment, io["com_adjustment_of_x"], atol=1e-4)


def test_gaussian_centre_is_a_normal_density():
    c = torch.tensor([[0.1, -0.2, 0.3]], dtype=torch.float64)
    normal = torch.distributions.Normal(torch.zeros(3, dtype=torch.float64), 0.25)
    assert torch.allclose(log_centre(c, 0.25, "gaussian"), normal.log_prob(c).sum(-1))


def random_flow(generator, **sizes):
    flow = Prose(Config(**{"channels": 16, "n_blocks": 3, "n_layers": 2, "head_dim": 8, **sizes})).double()
    with torch.no_grad():
        for parameter in flow.parameters():
            parameter.copy_(0.15 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    return flow.requires_grad_(False)


@pytest.mark.parametrize("ablation", ABLATIONS)
def test_log_det_equals_the_exact_jacobian(generator, ablation):
    flow = random_flow(generator, **ablation)
    atoms = peptide("GG").atoms
    t = tokens([atoms], flow.config)
    x = torch.randn(1, len(atoms), 3, generator=generator, dtype=torch.float64)
    jacobian = torch.autograd.functional.jacobian(lambda y: flow(y, t)[0], x).reshape(3 * len(atoms), -1)
    _, log_det = flow(x, t)
    assert torch.linalg.slogdet(jacobian).logabsdet.item() == pytest.approx(log_det.item(), abs=1e-4)


def test_plain_tarflow_has_its_size_and_refuses_more_atoms_than_positions(generator):
    with torch.device("meta"):
        assert 110e6 < Prose(Config(conditioning="additive")).n_parameters() < 120e6
        assert 280e6 < Prose(Config()).n_parameters() < 295e6
    flow = random_flow(generator, conditioning="additive", most_tokens=10)
    atoms = peptide("GG").atoms
    with pytest.raises(BgbenchError, match="learned for 10 only"):
        flow(torch.zeros(1, len(atoms), 3, dtype=torch.float64), tokens([atoms], flow.config))
    with pytest.raises(BgbenchError, match="adaptive or additive"):
        Config(conditioning="none")


@pytest.mark.parametrize("ablation", ABLATIONS)
def test_inverse_of_forward_is_the_identity(generator, ablation):
    flow = random_flow(generator, **ablation)
    atoms = peptide("HW").atoms
    t = tokens([atoms], flow.config)
    x = torch.randn(5, len(atoms), 3, generator=generator, dtype=torch.float64)
    z, log_det = flow(x, t)
    back, reverse = invert(flow, z, t)
    assert torch.allclose(back, x, atol=1e-4)
    assert torch.allclose(reverse, -log_det, atol=1e-4)


@pytest.mark.parametrize("ablation", ABLATIONS)
def test_groups_share_their_conditioning(generator, ablation):
    """Four samples of two peptides as two groups equal the same batch with a row each."""
    flow = random_flow(generator, **ablation)
    peptides = [peptide(name).atoms for name in ("GA", "HW")]
    grouped = tokens(peptides, flow.config)
    single = tokens([peptides[0], peptides[0], peptides[1], peptides[1]], flow.config)
    x = torch.randn(4, grouped.mask.shape[1], 3, generator=generator, dtype=torch.float64)
    x = x * single.mask[..., None]
    for a, b in zip(flow(x, grouped), flow(x, single), strict=True):
        assert torch.allclose(a, b, atol=1e-10)


def test_conversion_complains_of_every_misfit(published, tmp_path):
    lacking = {name: value for name, value in published.items() if name != "blocks.0.proj_in.weight"}
    with pytest.raises(BgbenchError, match=r"missing blocks\.0\.proj_in\.weight"):
        from_published(lacking, META["head_dim"])
    with pytest.raises(BgbenchError, match="unexpected extra"):
        from_published({**published, "extra": torch.zeros(1)}, META["head_dim"])
    wrong = {**published, "blocks.0.proj_in.weight": torch.zeros(5, 3)}
    with pytest.raises(BgbenchError, match=r"proj_in\.weight is \(5, 3\), not \(32, 3\)"):
        from_published(wrong, META["head_dim"])
    with pytest.raises(BgbenchError, match="cond_embed"):
        from_published({}, 16)
    (tmp_path / "w.pth").write_bytes(b"not weights")
    with pytest.raises(BgbenchError, match="no state dict"):
        read_published(tmp_path / "w.pth")


def test_weights_survive_a_round_trip_with_their_card(flow, tmp_path):
    save(tmp_path / "w.safetensors", flow, {"steps": 3})
    loaded = load(tmp_path / "w.safetensors")
    again = loaded.network
    assert again.config == flow.config
    assert loaded.card == {"steps": 3}
    for name, value in flow.state_dict().items():
        assert torch.equal(again.state_dict()[name], value)
    (tmp_path / "w.safetensors").write_bytes((tmp_path / "w.safetensors").read_bytes()[:100])
    with pytest.raises(BgbenchError, match="holds no Prose weights"):
        load(tmp_path / "w.safetensors")
    save_file({"a": torch.zeros(1)}, tmp_path / "b.safetensors")
    with pytest.raises(BgbenchError, match="holds no Prose weights"):
        load(tmp_path / "b.safetensors")


def test_published_size_has_the_published_number_of_parameters():
    with torch.device("meta"):
        assert 280e6 < Prose(Config()).n_parameters() < 295e6


def test_wrong_sizes_are_refused(flow):
    with pytest.raises(BgbenchError, match="multiple of head_dim"):
        Config(channels=30, head_dim=16)
    with pytest.raises(BgbenchError, match="unknown atom orders"):
        replace(flow.config, orders=("sideways",))
    with pytest.raises(BgbenchError, match="entries do not fit"):
        fill(Prose(Config(16, 1, 1, 8)), flow.state_dict(), "here")
