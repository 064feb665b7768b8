"""Verse refined: weighted samples of a network join the frames it is trained on next."""

import pytest
import torch

from bgbench import BgbenchError, System, energy
from bgbench_verse import refinement
from bgbench_verse.chemistry import molecule, together
from bgbench_verse.data import Peptide, TrainingSet, survey
from bgbench_verse.density import log_density
from bgbench_verse.hydrogens import renamed
from bgbench_verse.network import Config, Verse
from bgbench_verse.refinement import refined, weighed
from bgbench_verse.training import train
from bgbench_verse.tree import padded, plan
from bgbench_verse.weights import Trained, load

NAMES = ("GG", "GS")


@pytest.fixture(scope="module")
def folder(tmp_path_factory, make_reference):
    folder = tmp_path_factory.mktemp("refinement")
    for name in NAMES:
        make_reference(folder, name)
    return folder


@pytest.fixture(scope="module")
def options(folder):
    return {"config": "verse-tiny", "data": str(folder), "batch": "8", "optimizer": "muon", "steps": "3"}


@pytest.fixture(scope="module")
def start(options, tmp_path_factory):
    return load(train({**options, "out": str(tmp_path_factory.mktemp("start"))}))


def test_weights_are_those_of_the_target_but_for_the_highest():
    system = System.from_sequence("GS")
    noise = torch.randn(200, system.n_atoms, 3, generator=torch.Generator().manual_seed(0))
    tree = plan([atom.element for atom in system.atoms], system.bonds)
    frames = renamed((system.positions.float() + 0.004 * noise)[:, tree.order], padded([tree]))[:, tree.place]
    peptide = Peptide("GS", frames, system.atoms, (), ())
    vocabulary, table = survey([peptide])
    with torch.random.fork_rng():
        torch.random.default_generator.manual_seed(0)
        net = Verse(Config(len(vocabulary) + 1, width=32, n_layers=2, geometry=8))
    start = Trained(net, vocabulary, table)
    x, log_w = weighed(start, peptide, 400, torch.Generator().manual_seed(0))
    one = molecule(peptide.atoms, peptide.bonds, start.vocabulary, start.table)
    m = together([one])
    with torch.no_grad():
        log_q = log_density(start.net, renamed(x[:, one.tree.order], m.tree), m).double()
    u = energy(system, "batched").energy(x.double()).double()
    plain = torch.where(torch.isfinite(u), -u - log_q, -torch.inf)
    # Half a percent of 400 are two; they are lowered to the weight below them, the others are as they were.
    rounding, highest = 1e-3 * len(peptide.atoms), plain.topk(3)
    others = torch.ones(400, dtype=torch.bool).index_fill(0, highest.indices[:2], False)
    assert torch.allclose(log_w[others], plain[others], atol=rounding, rtol=0)
    assert torch.allclose(log_w[~others], highest.values[2].expand(2), atol=rounding, rtol=0)
    assert float(highest.values[1] - highest.values[2]) > 2 * rounding


def test_a_network_too_poor_to_teach_leaves_the_frames_alone(start, folder):
    peptides = TrainingSet([folder], 0).peptides
    found = refined(start, peptides, 100, seed=0)
    assert found.taught == []
    assert found.peptides == list(peptides)
    assert found.evaluations == 100 * len(NAMES)


def test_samples_join_the_frames_and_the_card_tells_what_they_cost(
    start, folder, options, tmp_path, monkeypatch
):
    monkeypatch.setattr(refinement, "FEWEST", 0.0)
    peptides = TrainingSet([folder], 0).peptides
    found, again = refined(start, peptides, 100, seed=3), refined(start, peptides, 100, seed=3)
    for before, after, same in zip(peptides, found.peptides, again.peptides, strict=True):
        assert len(after.x) == 2 * len(before.x)
        assert torch.equal(after.x[: len(before.x)], before.x)
        assert torch.equal(after.x, same.x)
    source = train({**options, "out": str(tmp_path / "first")})
    path = train({**options, "out": str(tmp_path / "next"), "start": str(source), "refine": "50"})
    card = load(path).card
    assert card["refined"] == list(NAMES)
    assert card["training_evaluations"] == 50 * len(NAMES)


def test_without_weights_there_is_nothing_to_sample(options, tmp_path):
    with pytest.raises(BgbenchError, match="add --set start=WEIGHTS"):
        train({**options, "out": str(tmp_path), "refine": "50"})
