"""Estimators on systems with known answers: within 4 standard errors, and the error shrinks as N^(−1/2)."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import bgbench
from bgbench import BgbenchError, Ensemble, Proposal, Task
from bgbench.core.abstract import Conventions
from bgbench.core.errors import NonFinite
from bgbench.energies.meter import MeteredEnergy
from bgbench.estimators.handedness import apply_chirality_rule
from bgbench.estimators.mcmc import MCMC
from bgbench.estimators.plain import Plain
from bgbench.estimators.snis import SNIS, summarize
from bgbench.estimators.weights import (
    SCHEMES,
    cut_weights,
    ess,
    log_z,
    mean_and_error,
    points_at,
    resample,
    resampling_places,
)
from bgbench.evaluation.protocols import get_protocol
from bgbench.runs.planning import refuse_second_cut
from bgbench.systems.analytic import KINDS, analytic, analytic_reference, analytic_system
from bgbench.testing import WIDTHS, Wide, analytic_task


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
        estimate = SNIS().estimate(Wide(WIDTHS[name]), analytic_task(name, 4000, seed))
        diagnostics = estimate.diagnostics
        pulls.append((diagnostics["log_z"] - density.log_z) / diagnostics["log_z_error"])
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
            SNIS().estimate(Wide(WIDTHS[name]), analytic_task(name, n, seed)).diagnostics["log_z"] - truth
            for seed in range(60)
        ]
        spread[n] = float(np.std(errors))
    assert spread[250] / spread[4000] == pytest.approx(4.0, rel=0.4)


def test_a_wrong_log_q_is_seen():
    name = "analytic:harmonic"
    diagnostics = SNIS().estimate(Wide(WIDTHS[name], bias=0.5), analytic_task(name, 4000)).diagnostics
    assert abs(diagnostics["log_z"] - analytic(name).log_z) > 4 * diagnostics["log_z_error"]


@pytest.mark.parametrize("budget", [1, 7, 1000])
def test_snis_spends_exactly_its_budget(budget):
    task = analytic_task("analytic:harmonic", budget)
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
        SNIS().estimate(Blind(), analytic_task("analytic:harmonic", 10))
    with pytest.raises(NonFinite, match="none of 10"):
        SNIS().estimate(Broken([1.0, 1.0, 1.0]), analytic_task("analytic:harmonic", 10))
    with pytest.raises(BgbenchError, match="returned no energies"):
        MCMC().estimate(Blind(), analytic_task("analytic:harmonic", 10))
    assert Plain().estimate(Blind(), analytic_task("analytic:harmonic", 10)).ensemble.n_samples == 10


def test_mirrored_samples_are_zeroed_flipped_or_folded(alanine):
    x = torch.stack([alanine.positions, -alanine.positions])
    proposal = Proposal(x, torch.zeros(2))
    zeroed, rates = apply_chirality_rule(alanine, proposal, "zero")
    assert rates == {"rule": "zero", "wrong_hand": 0.5, "mirrored": 0.5, "unrepairable": 0.0}
    assert torch.equal(zeroed.x, x)
    flipped, _ = apply_chirality_rule(alanine, proposal, "flip")
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


@pytest.mark.parametrize("scheme", SCHEMES)
def test_resampling_is_unbiased_and_stays_in_range(scheme, generator):
    log_w = torch.randn(1000, generator=generator)
    ensemble = Ensemble(torch.arange(3000.0).reshape(1000, 1, 3), torch.arange(1000.0), log_w)
    samples = resample(ensemble, 200_000, generator, scheme)
    counts = torch.bincount(samples.u.long(), minlength=1000) / 200_000
    expected = ensemble.weights
    sigma = (expected * (1 - expected) / 200_000).sqrt()
    assert ((counts - expected).abs() < 5 * sigma + 1e-5).all()
    spike = Ensemble(ensemble.x, ensemble.u, torch.where(torch.arange(1000) == 999, 0.0, -torch.inf))
    assert (resample(spike, 10_000, generator, scheme).u == 999).all()


@settings(deadline=None, max_examples=12)
@given(
    seed=st.integers(0, 2**32),
    log_spread=st.floats(0.0, 80.0),
    zeros=st.sampled_from(["none", "first half", "last half", "all but one"]),
    scheme=st.sampled_from(SCHEMES),
)
def test_a_million_float32_particles_never_give_an_index_out_of_range(seed, log_spread, zeros, scheme):
    """Nor a point of no weight; and each point is drawn as often as its share says, to within one."""
    n = 10**6
    generator = torch.Generator().manual_seed(seed)
    log_w = log_spread * torch.randn(n, generator=generator)
    dead = {"none": slice(0, 0), "first half": slice(0, n // 2), "last half": slice(n // 2, n)}
    log_w[dead.get(zeros, slice(1, n))] = -torch.inf
    weights = torch.softmax(log_w, 0)
    assert weights.dtype == torch.float32
    index = points_at(weights, resampling_places(n, generator, scheme))
    assert index.shape == (n,)
    assert int(index.min()) >= 0
    assert int(index.max()) < n
    assert bool((weights[index] > 0).all())
    if scheme == "systematic":
        shares = weights.double() / weights.double().sum()
        counts = torch.bincount(index, minlength=n)
        assert bool(((counts - n * shares).abs() < 1 + 1e-6).all())


def test_the_ends_of_the_unit_interval_fall_on_points_of_some_weight():
    places = torch.tensor([0.0, 0.5, 1.0], dtype=torch.float64)
    assert points_at(torch.tensor([0.0, 1.0, 1.0, 0.0]), places).tolist() == [1, 2, 2]
    with pytest.raises(
        ValueError, match="resampling must be one of systematic, stratified, multinomial, got 'residual'"
    ):
        resampling_places(3, torch.Generator(), "residual")


@pytest.mark.parametrize("cut", ["truncate", "drop", "psis"])
def test_a_cut_is_named_and_the_uncut_estimate_stands_beside_it(cut):
    name = "analytic:double-well"
    plain = SNIS().estimate(Wide(WIDTHS[name]), analytic_task(name, 2000))
    estimate = SNIS.build({"cut": cut}).estimate(Wide(WIDTHS[name]), analytic_task(name, 2000))
    assert estimate.diagnostics["cut"] == cut
    assert torch.equal(estimate.log_w_uncut, plain.ensemble.log_w)
    assert torch.equal(estimate.ensemble.log_w, cut_weights(plain.ensemble.log_w, cut))
    for key in ("log_z", "log_z_error", "ess"):
        assert estimate.diagnostics["uncut"][key] == plain.diagnostics[key]
        assert estimate.diagnostics[key] != plain.diagnostics[key]
    assert plain.log_w_uncut is None
    assert "cut" not in plain.diagnostics


def test_weights_are_cut_once(make_cell):
    published, ours = get_protocol("paper@1"), get_protocol("bgbench@1")
    refuse_second_cut(make_cell(protocol="paper@1"), published)
    refuse_second_cut(make_cell(protocol="bgbench@1", estimator_options={"cut": "drop"}), ours)
    with pytest.raises(
        BgbenchError, match=r"paper@1 cuts the weights itself \('drop'\); leave out estimator.cut"
    ):
        refuse_second_cut(make_cell(protocol="paper@1", estimator_options={"cut": "truncate"}), published)


def test_pareto_smoothing_mends_the_mean_of_a_heavy_tail():
    """Weights of a Pareto with shape 0.6: no variance, mean known. Smoothed, the spread of the mean shrinks,
    its bias stays within 4 standard errors, and the order of the weights and what is not tail stay."""
    random = np.random.default_rng(3)
    raw, smooth = [], []
    for _ in range(200):
        log_w = torch.from_numpy(np.log(random.pareto(1 / 0.6, 1000) + 1))
        smoothed = cut_weights(log_w, "psis")
        assert bool((smoothed[torch.argsort(log_w)].diff() >= 0).all())
        assert float(smoothed.max()) <= float(log_w.max())
        assert int((smoothed != log_w).sum()) <= math.ceil(3 * math.sqrt(1000))
        raw.append(float(log_w.exp().mean()))
        smooth.append(float(smoothed.exp().mean()))
    assert np.std(smooth) < np.std(raw)
    assert abs(np.mean(smooth) - 2.5) < 4 * np.std(smooth) / math.sqrt(200) + 0.05
    flat = torch.zeros(100)
    assert torch.equal(cut_weights(flat, "psis"), flat)


def test_the_virial_controls_the_mean_energy_at_no_charge():
    """Harmonic: u is half its virial, so that nothing is left to chance; and one evaluation is one."""
    name = "analytic:harmonic"
    task = analytic_task(name, 500)
    estimate = SNIS.build({"control": "virial"}).estimate(Wide(WIDTHS[name]), task)
    energy = estimate.diagnostics["mean_energy"]
    assert task.oracle.used == 500
    assert abs(energy["value"] - 1.5) < 4 * energy["error"]
    assert energy["controlled"]["value"] == pytest.approx(1.5, abs=1e-9)
    wrong = SNIS.build({"control": "virial"}).estimate(
        Wide(WIDTHS[name], bias=0.5), analytic_task(name, 4000)
    )
    assert abs(wrong.diagnostics["mean_energy"]["virial"]["pull"]) > 4


def test_the_rule_for_chirality_is_an_option_and_wrong_options_say_so(alanine):
    x = torch.stack([alanine.positions, -alanine.positions])

    class Two(bgbench.AbstractDensitySampler):
        def draw(self, task, n_samples):
            return Proposal(x, torch.zeros(2))

        def log_prob(self, task, x):
            return torch.zeros(len(x))

    for rule, expected in (("zero", [1.0, 0.0]), ("fold", [0.5, 0.5]), ("protocol", [1.0, 0.0])):
        task = Task(alanine, MeteredEnergy(bgbench.energy(alanine), 2), torch.Generator(), 2)
        weights = SNIS.build({"handedness": rule}).estimate(Two(), task).ensemble.weights
        assert torch.allclose(weights, torch.tensor(expected, dtype=torch.float64), atol=1e-3)
    with pytest.raises(
        BgbenchError, match=r"estimator\.cut=clip: 'clip' is not one of none, truncate, drop, psis"
    ):
        SNIS.build({"cut": "clip"})
    for estimator in (Plain, MCMC):
        with pytest.raises(BgbenchError, match=r"--set estimator\.cut=drop: estimator \w+ has no options"):
            estimator.build({"cut": "drop"})


def test_errors_are_taken_between_groups_and_refused_with_too_few(generator):
    """Every point four times over tells no more, if it is known which belong together."""
    values = torch.randn(400, generator=generator, dtype=torch.float64)
    once = torch.full((400,), 1 / 400, dtype=torch.float64)
    mean, error = mean_and_error(values, once)
    again = values.repeat(4)
    even = torch.full((1600,), 1 / 1600, dtype=torch.float64)
    assert mean_and_error(again, even, torch.arange(400).repeat(4)) == pytest.approx((mean, error))
    assert mean_and_error(again, even)[1] == pytest.approx(error / 2, rel=0.01)
    assert mean_and_error(values, once, torch.arange(400) % 3)[1] == math.inf
    spike = torch.zeros(400, dtype=torch.float64).index_fill_(0, torch.tensor([7]), 1.0)
    values = torch.full_like(values, torch.inf).index_fill_(0, torch.tensor([7]), 2.0)
    assert mean_and_error(values, spike) == (2.0, math.inf)


def test_analytic_references_and_unknown_names():
    reference = analytic_reference("analytic:double-well")
    assert reference.grade == "gold"
    with pytest.raises(BgbenchError, match=r"unknown analytic system .* Known: analytic:harmonic"):
        analytic_system("analytic:nosuch")


@pytest.mark.parametrize(("width", "n", "known"), [(1.0, 500, True), (1.0, 99, False), (0.3, 2000, False)])
def test_weights_with_a_heavy_tail_or_few_points_have_no_errors(width, n, known, generator):
    """Errors of log Z and mean energies were told where k̂ > .7, and covered a fifth of what they promise."""
    x = width * torch.randn(n, 10, 3, generator=generator, dtype=torch.float64)
    u = 0.5 * x.square().sum((1, 2))
    log_w = -u + u / width**2
    summary = summarize(u, log_w, None)
    assert math.isfinite(summary["log_z_error"]) is known
    assert math.isfinite(summary["mean_energy"]["error"]) is known
    assert math.isfinite(summary["log_z"])
    assert math.isfinite(summary["mean_energy"]["value"])
