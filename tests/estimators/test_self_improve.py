"""Self-improvement: exact however the rounds went, inside the budget, on a copy."""

import copy
import math

import numpy as np
import pytest
import torch

from bgbench import AbstractDensitySampler, BgbenchError, Proposal, Tunable, Unsupported
from bgbench.core.errors import NonFinite
from bgbench.core.types import tuned_card
from bgbench.estimators.self_improve import SelfImprove, SelfImproveOptions, reserve_file, tempering_power
from bgbench.estimators.weights import ess, mean_and_error
from bgbench.systems.analytic import KINDS, analytic
from bgbench.testing import WIDTHS, Wide, analytic_task


class Learner(AbstractDensitySampler, Tunable):
    """A normal that learns its width by maximum likelihood; remembers where it was saved."""

    def __init__(self, widths, saved=None):
        self.inner, self.saved = Wide(widths), [] if saved is None else saved

    def draw(self, task, n_samples):
        return self.inner.draw(task, n_samples)

    def log_prob(self, task, x):
        return self.inner.log_prob(task, x)

    def finetuned(self, task, x, tuning):
        del task, tuning
        # A little wider than the samples, so that weights stay bounded.
        return Learner((1.1 * x[:, 0].square().mean(0).sqrt()).tolist(), self.saved)

    def save(self, path, notes):
        self.saved.append((path, notes))
        path.write_bytes(b"weights")


def improved(name, budget, seed=0, **settings):
    task = analytic_task(name, budget, seed)
    sampler = Learner([3 * width for width in WIDTHS[name]])
    before = copy.deepcopy(sampler.inner.widths)
    estimate = SelfImprove(SelfImproveOptions(**settings)).estimate(sampler, task)
    assert torch.equal(sampler.inner.widths, before)
    return estimate, task, sampler


@pytest.mark.parametrize("name", KINDS)
def test_self_improve_recovers_log_z_and_moments(name):
    pulls, gains = [], []
    for seed in range(20):
        estimate, _, _ = improved(name, 5000, seed)
        diagnostics = estimate.diagnostics
        pulls.append((diagnostics["log_z"] - analytic(name).log_z) / diagnostics["log_z_error"])
        gains.append(diagnostics["ess"] / diagnostics["self_improve"]["rounds"][0]["ess"])
        y = estimate.ensemble.x[:, 0].square()
        for axis, truth in enumerate(analytic(name).second_moments):
            value, error = mean_and_error(y[:, axis], estimate.ensemble.weights, estimate.group)
            assert abs(value - float(truth)) < 4.5 * error
    assert max(abs(pull) for pull in pulls) < 4
    assert sum(pull**2 for pull in pulls) < 20 + 4 * math.sqrt(40)
    assert np.median(gains) > 2


def test_the_error_shrinks_as_one_over_root_n():
    name, spread = "analytic:double-well", {}
    for budget in (500, 8000):
        errors = [improved(name, budget, seed, fewest=20)[0].diagnostics["log_z"] for seed in range(60)]
        spread[budget] = float(np.std(errors))
    assert abs(math.log(spread[500] / spread[8000] / 4)) < 4 * math.sqrt(2 / (2 * 60))


@pytest.mark.parametrize("budget", [1, 4, 7, 10_000, 10**6 - 1])
def test_every_round_is_charged_and_nothing_is_left(budget):
    estimate, task, _ = improved("analytic:harmonic", budget)
    share = budget // 5
    ledger = task.oracle.ledger
    assert task.oracle.remaining == 0
    assert ledger.get("tune", {}).get("energy", {"calls": 0})["calls"] == 4 * share
    assert ledger["sample"]["energy"]["calls"] == budget - 4 * share
    assert estimate.diagnostics["points"] == budget - 4 * share
    assert estimate.ensemble.n_samples >= task.n_samples
    assert len(estimate.diagnostics["self_improve"]["rounds"]) == (4 if share else 0)


def test_training_weights_are_tempered_only_where_they_must_be(generator):
    log_w = 20 * torch.randn(1000, generator=generator, dtype=torch.float64)
    power = tempering_power(log_w, 100)
    assert 0 < power < 1
    assert ess(power * log_w) == pytest.approx(0.1, rel=1e-3)
    assert tempering_power(torch.zeros(1000), 100) == 1.0
    assert tempering_power(log_w, 10) > power
    dead = torch.where(torch.arange(1000) < 980, -torch.inf, log_w)
    assert ess(torch.where(dead == -torch.inf, dead, tempering_power(dead, 100) * dead)) * 1000 >= 9.99


def test_the_copy_can_be_saved_beside_what_is_there(tmp_path):
    path = tmp_path / "new" / "own.safetensors"
    for expected in ("own", "own-2", "own-3"):
        estimate, _, sampler = improved("analytic:harmonic", 500, save=path)
        written, notes = sampler.saved[0]
        assert written.stem == expected
        assert estimate.diagnostics["saved"] == str(written)
        assert written.read_bytes() == b"weights"
        assert (notes["system"], notes["evaluations"]) == ("analytic:harmonic", 400)
    (tmp_path / "file").write_text("")
    with pytest.raises(BgbenchError, match="cannot write"):
        reserve_file(tmp_path / "file" / "own.safetensors")


def test_a_tuned_card_owns_up_to_its_lessons():
    before = {"name": "mini", "training_sequences": ["GG"], "training_evaluations": 5, "training_hours": 1.0}
    after = tuned_card(before, {"system": "AA", "evaluations": 400, "hours": 0.5})
    assert after["name"] == "mini-tuned"
    assert after["training_sequences"] == ["AA", "GG"]
    assert (after["training_evaluations"], after["training_hours"]) == (405, 1.5)
    assert before["training_sequences"] == ["GG"]


def test_samplers_that_cannot_learn_and_wrong_options_say_so():
    with pytest.raises(Unsupported, match="Wide cannot be fine-tuned"):
        SelfImprove().estimate(Wide([0.1, 0.2, 0.4]), analytic_task("analytic:harmonic", 100))
    nothing_to_save = SelfImprove.build({"save": "x.safetensors", "rounds": "0"})
    with pytest.raises(Unsupported, match=r"Wide has no weights to write to x\.safetensors"):
        nothing_to_save.estimate(Wide([0.1, 0.2, 0.4]), analytic_task("analytic:harmonic", 100))
    with pytest.raises(
        BgbenchError, match=r"--set estimator\.save must name a \.safetensors file, got 'weights\.pth'"
    ):
        SelfImprove.build({"save": "weights.pth"})
    with pytest.raises(BgbenchError, match=r"--set estimator\.rounds must lie between 0 and 1000, got -1"):
        SelfImprove.build({"rounds": "-1"})

    class Hopeless(Learner):
        """Everything is outside the target."""

        def draw(self, task, n_samples):
            x = torch.full((n_samples, 1, 3), 10.0, dtype=torch.float64)
            return Proposal(x, self.log_prob(task, x))

    with pytest.raises(NonFinite, match="none of 20"):
        SelfImprove().estimate(Hopeless([1.0] * 3), analytic_task("analytic:torus-mixture", 100))
