"""Draws that pass: which conformers stay, what is noted of the others, and that memory does not grow."""

import math

import numpy as np
import pytest
import torch

from bgbench import AbstractDensitySampler, BgbenchError, Ensemble, Estimate, Proposal
from bgbench.core.abstract import Thinning
from bgbench.estimators.reservoir import Reservoir, thin_estimate
from bgbench.estimators.snis import SNIS, SNISOptions
from bgbench.estimators.weights import cut_weights, ess
from bgbench.systems.faults import BITS, find_faults, fingerprints, mark_copies
from bgbench.testing import Wide, analytic_task, peptide_task


def numbered(n):
    """Conformers of one particle whose position is their number."""
    return torch.arange(float(n))[:, None, None].expand(n, 1, 3)


def passed(log_w, sizes, most, seed, dropped=0):
    reservoir = Reservoir(most, torch.Generator().manual_seed(seed), dropped)
    x = numbered(len(log_w))
    for part, weights in zip(x.split(sizes), log_w.split(sizes), strict=True):
        reservoir.add(part, weights)
    assert torch.equal(reservoir.x[:, 0, 0].long(), reservoir.at)
    return reservoir.at


@pytest.mark.parametrize("dropped", [0, 3])
def test_conformers_are_multinomial_draws_by_their_weights(generator, dropped):
    n, most, rounds = 60, 200, 100
    log_w = 1.5 * torch.randn(n, generator=generator, dtype=torch.float64)
    log_w[5:15] = -torch.inf
    log_w[:20] = -torch.inf  # the first parts have no weight at all
    expected = torch.softmax(log_w, 0)
    if dropped:
        order = torch.argsort(log_w, stable=True)
        expected = torch.softmax(log_w.index_fill(0, order[-dropped:], -torch.inf), 0)
    counts = torch.zeros(n, dtype=torch.float64)
    for seed in range(rounds):
        counts += torch.bincount(passed(log_w, [7] * 8 + [4], most, seed, dropped), minlength=n)
    total = most * rounds
    error = (expected * (1 - expected) * total).sqrt()
    assert bool((counts[expected == 0] == 0).all())
    pulls = ((counts - expected * total) / error)[expected > 0]
    assert float(pulls.abs().max()) < 4.5
    # Independent places: the counts of one round vary as multinomial ones do, not more and not less.
    assert 0.6 < float(pulls.square().mean()) < 1.5


def test_what_is_dropped_is_what_the_published_cut_drops(generator):
    log_w = torch.randint(0, 4, (1000,), generator=generator).double()
    kept = torch.isfinite(cut_weights(log_w, "drop"))
    at = passed(log_w, [100] * 10, 20_000, 0, dropped=2)
    assert set(at.tolist()) <= set(torch.nonzero(kept).flatten().tolist())
    assert int((~kept).sum()) == 2


def test_streamed_draws_are_those_of_a_run_that_holds_them_all(monkeypatch):
    monkeypatch.setattr("bgbench.estimators.snis.BLOCK", 300)
    whole = SNIS().estimate(Wide([0.1, 0.1, 0.1]), analytic_task("analytic:harmonic", 2000))
    task = analytic_task("analytic:harmonic", 2000)
    object.__setattr__(task, "thinning", Thinning(500))
    sampler = Wide([0.1, 0.1, 0.1])
    sampler.chunk = 100
    whole_again = SNIS().estimate(sampler, analytic_task("analytic:harmonic", 2000))
    thinned = SNIS().estimate(sampler, task)
    draws = thinned.draws
    assert whole.draws is None
    assert draws.n == 2000
    assert torch.equal(draws.log_w, whole_again.ensemble.log_w)
    assert torch.equal(draws.u, whole_again.ensemble.u)
    assert torch.equal(draws.log_q, whole_again.proposal.log_q)
    assert torch.equal(thinned.ensemble.x, whole_again.ensemble.x.float()[draws.at])
    assert thinned.ensemble.n_samples == 500
    assert torch.equal(thinned.group, draws.at)
    same = ("ess_against_n", "log_z", "log_z_error", "ess", "mean_energy", "nonfinite")
    assert {name: thinned.diagnostics[name] for name in same} == {
        name: whole_again.diagnostics[name] for name in same
    }


def test_the_control_variate_and_the_rates_are_those_of_all_draws(monkeypatch):
    monkeypatch.setattr("bgbench.estimators.snis.BLOCK", 64)
    options = SNISOptions(control="virial")

    class Cloud(AbstractDensitySampler):
        """Near the start structure; every fourth is a mirror image."""

        chunk = 32

        def draw(self, task, n_samples):
            x = task.system.positions + 1e-3 * task.normal(n_samples, task.system.n_atoms, 3)
            sign = torch.where(torch.arange(n_samples) % 4 == 0, -1.0, 1.0)
            return Proposal(x * sign[:, None, None], self.log_prob(task, x))

        def log_prob(self, task, x):
            return -0.5 * ((x - task.system.positions) / 1e-3).square().sum((1, 2))

    results = []
    for thinning in (None, Thinning(50)):
        task = peptide_task("AA", budget=256)
        object.__setattr__(task, "thinning", thinning)
        results.append(SNIS(options).estimate(Cloud(), task))
    whole, thinned = results
    assert whole.diagnostics["handedness"] == thinned.diagnostics["handedness"]
    assert whole.diagnostics["handedness"]["mirrored"] == 0.25
    assert whole.diagnostics["mean_energy"] == thinned.diagnostics["mean_energy"]


@pytest.mark.parametrize("cut", ["none", "drop", "psis"])
def test_what_an_estimator_returns_whole_is_thinned_by_the_core(generator, cut):
    task = peptide_task("GG")
    object.__setattr__(task, "thinning", Thinning(40, cut))
    x = task.system.positions + 0.01 * torch.randn(400, 17, 3, generator=generator, dtype=torch.float64)
    log_w = torch.randn(400, generator=generator, dtype=torch.float64)
    log_w[100:] = -torch.inf
    u = torch.arange(400.0)
    estimate = Estimate(Ensemble(x, u, log_w), Proposal(x, log_q=2 * u, u=u))
    thinned = thin_estimate(estimate, task)
    at = thinned.draws.at
    assert thinned.ensemble.n_samples == 40
    assert bool((at < 100).all())
    assert torch.equal(thinned.ensemble.u, u[at])
    assert torch.equal(thinned.proposal.log_q, 2 * u[at])
    assert torch.equal(thinned.log_w, log_w)
    if cut == "drop":
        assert int(torch.argmax(log_w)) not in at.tolist()
    equal = Estimate(Ensemble.unweighted(x, u), Proposal(x), group=torch.arange(400) // 10)
    evenly = thin_estimate(equal, task)
    assert evenly.draws.at.tolist() == list(range(0, 400, 10))
    assert evenly.group.tolist() == list(range(40))
    assert thin_estimate(evenly, task) is evenly


def test_faults_are_those_of_each_conformer(generator):
    task = peptide_task("AA")
    start = task.system.positions
    clash = start.clone()
    far = (start[:, None] - start[None]).norm(dim=-1)
    a, b = divmod(int(far.argmax()), len(start))
    clash[a] = start[b] + 0.01
    x = torch.stack([start, -start, 2 * start, clash, start * math.nan, start])
    faults = find_faults(task.system, x, torch.tensor([0.0, 0.0, 0.0, 0.0, 0.0, math.inf]))
    assert faults[:3].tolist() == [0, BITS["wrong_hand"], BITS["torn"]]
    assert faults[3] & BITS["clash"]
    assert faults[4] & BITS["nonfinite"]
    assert faults[5] == BITS["nonfinite"]
    marked = mark_copies(faults, fingerprints(x.float()))
    assert (marked & BITS["copy"]).tolist() == [0, 0, 0, 0, 0, BITS["copy"]]


def test_fingerprints_tell_conformers_apart_by_one_bit(generator):
    x = torch.randn(1, 30, 3, generator=generator).expand(2000, 30, 3).clone()
    bits = x.view(torch.int32)
    for k in range(1, 2000):
        bits[k].view(-1)[k % 90] ^= 1 << (k // 90)
    assert len(np.unique(fingerprints(x))) == 2000


def test_weights_that_the_cut_leaves_none_of_are_said_to_be(generator):
    task = analytic_task("analytic:harmonic", 100)
    object.__setattr__(task, "thinning", Thinning(10, "drop"))
    log_w = torch.full((100,), -torch.inf)
    log_w[7] = 0.0
    x = numbered(100).clone()
    estimate = Estimate(Ensemble(x, torch.zeros(100), log_w), Proposal(x))
    with pytest.raises(BgbenchError, match=r"leaves none: only 1 of 100 points have a weight"):
        thin_estimate(estimate, task)
    assert ess(log_w) == pytest.approx(0.01)
