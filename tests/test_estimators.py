"""Estimators on systems with known answers: within 4 standard errors, and the error shrinks as N^(−1/2)."""

import math

import numpy as np
import pytest
import torch

import bgbench
from bgbench import BgbenchError, Ensemble, Proposal, Task
from bgbench.abstract import Conventions
from bgbench.energies.meter import MeteredEnergy
from bgbench.errors import NonFinite
from bgbench.estimators.handedness import settle
from bgbench.estimators.mcmc import MCMC
from bgbench.estimators.plain import Plain
from bgbench.estimators.snis import SNIS
from bgbench.systems.analytic import KINDS, AnalyticEnergy, analytic, analytic_reference, analytic_system
from bgbench.weights import cut_weights, ess, log_z, resample


class Wide(bgbench.AbstractDensitySampler):
    """A normal that covers the target; `bias` makes its log q deliberately wrong."""

    def __init__(self, scale, bias=0.0):
        self.scale, self.bias = torch.tensor(scale, dtype=torch.float64), bias

    def draw(self, task, n_samples):
        x = self.scale * torch.randn(n_samples, 1, 3, generator=task.generator, dtype=torch.float64)
        return Proposal(x, self.log_prob(task, x))

    def log_prob(self, task, x):
        z = x[:, 0] / self.scale
        normal = -0.5 * z.square().sum(-1) - self.scale.log().sum() - 1.5 * math.log(2 * math.pi)
        return normal + self.bias * z[:, 0]


SCALES = {
    "analytic:harmonic": [0.12, 0.25, 0.5],
    "analytic:double-well": [1.2, 0.35, 0.35],
    "analytic:torus-mixture": [1.8, 1.8, 0.6],
    "analytic:correlated": [0.35, 0.35, 0.3],
}


def task_of(name, budget, seed=0):
    system = analytic_system(name)
    generator = torch.Generator().manual_seed(seed)
    return Task(system, MeteredEnergy(AnalyticEnergy(system), budget), generator, budget)


@pytest.mark.parametrize("name", KINDS)
def test_exact_samples_have_the_moments_they_should(name, generator):
    density = analytic(name)
    y = density.draw(200_000, generator)
    square = y.square()
    error = square.std(0) / math.sqrt(len(y))
    assert ((square.mean(0) - density.second_moments).abs() < 4 * error).all()
    assert torch.isfinite(density.u(y)).all()


@pytest.mark.parametrize("name", KINDS)
def test_snis_recovers_log_z_and_moments(name):
    """Over 20 seeds, each within 4 of its own standard errors, and together as χ² says."""
    density, pulls = analytic(name), []
    for seed in range(20):
        estimate = SNIS().estimate(Wide(SCALES[name]), task_of(name, 4000, seed))
        found = estimate.diagnostics
        pulls.append((found["log_z"] - density.log_z) / found["log_z_error"])
        w = estimate.ensemble.weights
        y = estimate.ensemble.x[:, 0].square()
        mean = (w[:, None] * y).sum(0)
        error = ((w[:, None] * (y - mean)).square().sum(0)).sqrt()
        assert ((mean - density.second_moments).abs() < 4 * error).all()
    assert max(abs(pull) for pull in pulls) < 4
    assert sum(pull**2 for pull in pulls) < 20 + 4 * math.sqrt(40)


def test_snis_error_shrinks_as_one_over_root_n():
    name, truth = "analytic:double-well", analytic("analytic:double-well").log_z
    spread = {}
    for n in (250, 4000):
        errors = [
            SNIS().estimate(Wide(SCALES[name]), task_of(name, n, seed)).diagnostics["log_z"] - truth
            for seed in range(60)
        ]
        spread[n] = float(np.std(errors))
    assert spread[250] / spread[4000] == pytest.approx(4.0, rel=0.4)


def test_a_wrong_log_q_is_seen():
    name = "analytic:harmonic"
    found = SNIS().estimate(Wide(SCALES[name], bias=0.5), task_of(name, 4000)).diagnostics
    assert abs(found["log_z"] - analytic(name).log_z) > 4 * found["log_z_error"]


@pytest.mark.parametrize("budget", [1, 7, 1000])
def test_snis_spends_exactly_its_budget(budget):
    task = task_of("analytic:harmonic", budget)
    estimate = SNIS().estimate(Wide([0.1, 0.2, 0.4]), task)
    assert task.oracle.remaining == 0
    assert estimate.ensemble.n_samples == budget


def test_snis_wants_a_density_and_finite_weights():
    class Blind(bgbench.AbstractSampler):
        def sample(self, task, n_samples):
            return Proposal(torch.zeros(n_samples, 1, 3))

    class Broken(Wide):
        def draw(self, task, n_samples):
            return Proposal(torch.full((n_samples, 1, 3), torch.nan), torch.zeros(n_samples))

    with pytest.raises(BgbenchError, match="Blind has no density"):
        SNIS().estimate(Blind(), task_of("analytic:harmonic", 10))
    with pytest.raises(NonFinite, match="none of 10"):
        SNIS().estimate(Broken([1.0, 1.0, 1.0]), task_of("analytic:harmonic", 10))
    with pytest.raises(BgbenchError, match="returned no energies"):
        MCMC().estimate(Blind(), task_of("analytic:harmonic", 10))
    assert Plain().estimate(Blind(), task_of("analytic:harmonic", 10)).ensemble.n_samples == 10


def test_mirrored_samples_are_zeroed_flipped_or_folded(alanine):
    x = torch.stack([alanine.positions, -alanine.positions])
    proposal = Proposal(x, torch.zeros(2))
    zeroed, rates = settle(alanine, proposal, "zero")
    assert rates == {"rule": "zero", "wrong_hand": 0.5, "mirrored": 0.5, "unrepairable": 0.0}
    assert torch.equal(zeroed.x, x)
    flipped, _ = settle(alanine, proposal, "flip")
    assert torch.equal(flipped.x[1], alanine.positions)

    class Two(bgbench.AbstractDensitySampler):
        def draw(self, task, n_samples):
            return proposal

        def log_prob(self, task, x):
            return torch.zeros(len(x))

    def weights(rule):
        oracle = MeteredEnergy(bgbench.energy(alanine), 2)
        task = Task(alanine, oracle, torch.Generator(), 2, Conventions("gaussian", rule))
        return SNIS().estimate(Two(), task).ensemble.weights

    assert weights("zero").tolist() == [1.0, 0.0]
    assert torch.allclose(weights("flip"), torch.tensor([0.5, 0.5], dtype=torch.float64), atol=1e-3)


def test_kish_ess_and_log_z_by_hand():
    assert ess(torch.zeros(50)) == pytest.approx(1.0)
    assert ess(torch.tensor([0.0, -torch.inf, -torch.inf, -torch.inf])) == pytest.approx(0.25)
    assert ess(torch.full((3,), -torch.inf)) == 0.0
    w = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)
    assert ess(w.log()) == pytest.approx(36 / (3 * 14))
    assert ess(w.log() + 700) == pytest.approx(36 / (3 * 14))
    value, error = log_z(w.log())
    assert value == pytest.approx(math.log(2.0))
    assert error == pytest.approx(1 / math.sqrt(3) / 2)


def test_cuts_do_what_they_are_called():
    log_w = torch.arange(1000.0) / 1000
    assert int(torch.isinf(cut_weights(log_w, "drop")).sum()) == 2
    assert cut_weights(log_w, "truncate").max() == log_w[997]
    assert torch.equal(cut_weights(log_w, "none"), log_w)
    with pytest.raises(ValueError, match="squeeze"):
        cut_weights(log_w, "squeeze")


@pytest.mark.parametrize("scheme", ["systematic", "multinomial"])
def test_resampling_is_unbiased_and_stays_in_range(scheme, generator):
    log_w = torch.randn(1000, generator=generator)
    ensemble = Ensemble(torch.arange(3000.0).reshape(1000, 1, 3), torch.arange(1000.0), log_w)
    drawn = resample(ensemble, 200_000, generator, scheme)
    counts = torch.bincount(drawn.u.long(), minlength=1000) / 200_000
    expected = ensemble.weights
    sigma = (expected * (1 - expected) / 200_000).sqrt()
    assert ((counts - expected).abs() < 5 * sigma + 1e-5).all()
    spike = Ensemble(ensemble.x, ensemble.u, torch.where(torch.arange(1000) == 999, 0.0, -torch.inf))
    assert (resample(spike, 10_000, generator, scheme).u == 999).all()


def test_analytic_references_and_unknown_names():
    reference = analytic_reference("analytic:double-well")
    assert reference.grade == "gold"
    with pytest.raises(BgbenchError, match=r"unknown analytic system .*; known: analytic:harmonic"):
        analytic_system("analytic:nosuch")
