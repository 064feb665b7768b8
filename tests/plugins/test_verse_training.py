"""What Verse learns from: frames, and how uneven the weights of their energies are."""

import pytest
import torch

from bgbench_verse.data import TrainingSet, chances
from bgbench_verse.density import log_density
from bgbench_verse.recipe import Recipe
from bgbench_verse.training import FAR, Training, train, uneven
from bgbench_verse.weights import load


@pytest.fixture(scope="module")
def folder(tmp_path_factory, make_reference):
    folder = tmp_path_factory.mktemp("lessons")
    for name in ("GG", "GS"):
        make_reference(folder, name)
    return folder


def made(folder, **changes):
    recipe = Recipe(config="verse-tiny", data=str(folder), batch=8, **changes)
    return Training(recipe, TrainingSet(recipe.folders, 0))


def test_even_weights_cost_nothing_whatever_their_level(rng):
    level = torch.from_numpy(rng.normal(size=(3, 1)))
    assert float(uneven(level.expand(3, 7)).abs().max()) < 1e-20


def test_uneven_weights_cost_half_their_variance_until_one_lies_far_off(rng):
    log_w = torch.from_numpy(rng.normal(size=(4, 500)) * 0.3)
    variance = log_w.var(1, correction=0)
    assert torch.allclose(uneven(log_w).mean(1), variance / 2, rtol=1e-6)
    lone = torch.tensor([[0.0] * 999 + [1000.0]], dtype=torch.float64)
    assert float(uneven(lone)[0, -1]) == pytest.approx(FAR * (999.0 - FAR / 2))


def test_frames_come_with_their_own_energies(folder):
    data = TrainingSet([folder], 0)
    x, u, m = data.batch(3, 8)
    assert len(m.mask) == 2
    for k, peptide in enumerate(data.peptides):
        one = data.molecule(peptide)
        found = x[4 * k : 4 * k + 4, : one.tree.n_atoms][:, one.tree.place]
        lengths = (found[:, :, None] - found[:, None]).norm(dim=-1).sum((1, 2))
        known = (peptide.x[:, :, None] - peptide.x[:, None]).norm(dim=-1).sum((1, 2))
        nearest = (lengths[:, None] - known).abs().argmin(1)
        assert torch.equal(u[4 * k : 4 * k + 4], peptide.u[nearest])


def test_peptides_are_drawn_by_size_or_alike():
    assert chances([20, 40, 40], 2) == pytest.approx([4 / 6, 1 / 6, 1 / 6])
    assert chances([20, 40, 40], 0) == pytest.approx([1 / 3, 1 / 3, 1 / 3])


def test_the_loss_is_the_fit_plus_its_share_of_unevenness(folder):
    plain, both = made(folder), made(folder, energies=0.5)
    both.network.load_state_dict(plain.network.state_dict())
    x, u, m = plain.data.batch(5, 8)
    with torch.no_grad():
        log_q = log_density(plain.network, x, m).view(2, 4)
        degrees = 3 * m.mask.sum(1, keepdim=True) - 6
        expected = -(log_q / degrees).mean()
        assert torch.allclose(plain.loss(5), expected)
        expected = expected + 0.5 * (uneven(-u.view(2, 4) - log_q) / degrees).mean()
        assert torch.allclose(both.loss(5), expected)


def test_cards_tell_what_the_frames_cost(folder, tmp_path):
    options = {"config": "verse-tiny", "data": str(folder), "batch": "8", "steps": "2"}
    first = train({**options, "out": str(tmp_path / "first")})
    assert load(first).card["training_evaluations"] == 2 * 240
    again = train({**options, "out": str(tmp_path / "again"), "start": str(first)})
    assert load(again).card["training_evaluations"] == 4 * 240
