"""The loss of Verse: likelihood of frames, and the log-variance of their weights."""

import pytest
import torch

from bgbench_verse.batches import PeptideBatches, sampling_probabilities
from bgbench_verse.density import log_density
from bgbench_verse.recipe import VerseRecipe
from bgbench_verse.training import HUBER_DELTA, LikelihoodTraining, log_variance_loss, train
from bgbench_verse.weights import load


@pytest.fixture(scope="module")
def folder(tmp_path_factory, make_training_file):
    folder = tmp_path_factory.mktemp("verse-training")
    for name in ("GG", "GS"):
        make_training_file(folder, name)
    return folder


def build_training(folder, **changes):
    recipe = VerseRecipe(config="verse-tiny", data=str(folder), batch=8, **changes)
    return LikelihoodTraining(recipe, PeptideBatches(recipe.folders, 0))


def test_equal_weights_cost_nothing_whatever_their_size(rng):
    level = torch.from_numpy(rng.normal(size=(3, 1)))
    assert float(log_variance_loss(level.expand(3, 7)).abs().max()) < 1e-20


def test_weights_cost_half_their_log_variance_until_one_lies_far_off(rng):
    log_w = torch.from_numpy(rng.normal(size=(4, 500)) * 0.3)
    variance = log_w.var(1, correction=0)
    assert torch.allclose(log_variance_loss(log_w).mean(1), variance / 2, rtol=1e-6)
    lone = torch.tensor([[0.0] * 999 + [1000.0]], dtype=torch.float64)
    assert float(log_variance_loss(lone)[0, -1]) == pytest.approx(HUBER_DELTA * (999.0 - HUBER_DELTA / 2))


def test_frames_come_with_their_own_energies(folder):
    data = PeptideBatches([folder], 0)
    batch = data.batch(3, 8)
    assert len(batch.molecules.mask) == 2
    for k, peptide in enumerate(data.peptides):
        zmatrix = data.molecule(peptide).zmatrix
        x = batch.x[4 * k : 4 * k + 4, : zmatrix.n_atoms][:, zmatrix.step_of_atom]
        lengths = (x[:, :, None] - x[:, None]).norm(dim=-1).sum((1, 2))
        known = (peptide.x[:, :, None] - peptide.x[:, None]).norm(dim=-1).sum((1, 2))
        nearest = (lengths[:, None] - known).abs().argmin(1)
        assert torch.equal(batch.u[4 * k : 4 * k + 4], peptide.u[nearest])


def test_peptides_are_sampled_by_size_or_alike():
    assert sampling_probabilities([20, 40, 40], 2) == pytest.approx([4 / 6, 1 / 6, 1 / 6])
    assert sampling_probabilities([20, 40, 40], 0) == pytest.approx([1 / 3, 1 / 3, 1 / 3])


def test_the_loss_is_the_likelihood_plus_a_multiple_of_the_log_variance(folder):
    plain, both = build_training(folder), build_training(folder, energies=0.5)
    both.network.load_state_dict(plain.network.state_dict())
    batch = plain.data.batch(5, 8)
    with torch.no_grad():
        log_q = log_density(plain.network, batch.x, batch.molecules).view(2, 4)
        degrees = 3 * batch.molecules.mask.sum(1, keepdim=True) - 6
        expected = -(log_q / degrees).mean()
        assert torch.allclose(plain.loss(5), expected)
        expected = expected + 0.5 * (log_variance_loss(-batch.u.view(2, 4) - log_q) / degrees).mean()
        assert torch.allclose(both.loss(5), expected)


def test_cards_count_the_evaluations_behind_the_frames(folder, tmp_path):
    options = {"config": "verse-tiny", "data": str(folder), "batch": "8", "steps": "2"}
    first = train({**options, "out": str(tmp_path / "first")})
    assert load(first).card["training_evaluations"] == 2 * 240
    again = train({**options, "out": str(tmp_path / "again"), "start": str(first)})
    assert load(again).card["training_evaluations"] == 4 * 240
