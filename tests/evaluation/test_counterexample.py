"""Why distances stand beside floors: few exact points look worse than many biased ones, and are not."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from bgbench import peptide
from bgbench.core.abstract import Task
from bgbench.core.plugins import energy, plugins
from bgbench.core.types import Ensemble
from bgbench.energies.meter import MeteredEnergy
from bgbench.estimators.weights import effective_points
from bgbench.evaluation.floors import FEWEST_EFFECTIVE, round_down
from bgbench.evaluation.judging import judge
from bgbench.evaluation.protocols import get_protocol
from bgbench.metrics.transport import exact_transport
from bgbench.references.providers import find_reference

N, DISTINCT, MINOR = 1_500, 60, 0.03


def draws(random, n, minor=MINOR):
    """Two modes on a torus of four angles; the minor one lies 0.7 rad away in each angle."""
    mode = random.random(n) < minor
    points = 0.9 * random.normal(size=(n, 4)) + 0.7 * mode[:, None]
    return np.mod(points + np.pi, 2 * np.pi) - np.pi, mode


def w2(a, b):
    return exact_transport(a, b, periodic=True).cost ** 0.5


@pytest.fixture(scope="module")
def sides():
    random = np.random.default_rng(0)
    truth, truth_mode = draws(random, N)
    few, few_mode = draws(random, DISTINCT)
    again = random.integers(0, DISTINCT, N)
    biased, biased_mode = draws(random, N, minor=0.0)
    other, _ = draws(random, N)
    floor_few = w2(draws(random, DISTINCT)[0][random.integers(0, DISTINCT, N)], other)
    return {
        "truth": truth, "exact": few[again], "biased": biased, "floor at n": w2(other, truth),
        "floor at few": floor_few, "modes": (truth_mode, few_mode, biased_mode),
    }  # fmt: skip


def test_raw_distance_ranks_the_exact_sampler_below_the_biased_one(sides):
    assert w2(sides["exact"], sides["truth"]) > 1.3 * w2(sides["biased"], sides["truth"])


def test_beside_its_own_floor_the_exact_sampler_is_not_worse(sides):
    """At its number of distinct points the exact sampler is where independent exact draws are."""
    assert w2(sides["exact"], sides["truth"]) == pytest.approx(sides["floor at few"], rel=0.1)


def judge_control(variant, bench):
    """The control `reference` judged under `bgbench@1`."""
    system, reference = bench.system, bench.reference
    target = energy(system, "batched")
    n = reference.n_samples
    task = Task(system, MeteredEnergy(target, n), torch.Generator().manual_seed(0), n)
    sampler = plugins().samplers["reference"].build({"variant": variant})
    estimate = plugins().estimators["none"].build({}).estimate(sampler, task)
    return judge(estimate, bench)


def ranking_score(judgement, metric):
    floors = judgement.diagnostics["floors_at_n_eff"]
    return get_protocol("bgbench@1").score_for_ranking(metric, judgement.metrics[metric], floors)


@pytest.mark.slow
def test_exact_but_few_is_not_ranked_below_biased_but_many(make_bench):
    """250 exact frames of AA against all frames of all modes but one."""
    system = peptide("AA")
    reference = find_reference(system, "dipeptides-mini@1")
    # The control draws from one half of the replicas; it is judged by the other.
    bench = replace(make_bench(system, reference), reference=reference.halves()[1])
    few, biased = (judge_control(variant, bench) for variant in ("few-points", "mode-deleted"))
    assert few.diagnostics["effective_points"] <= 250 + 1e-6
    for metric in ("torus_w2", "energy_w2", "mode_weights", "tica_w2", "torus_jsd"):
        assert few.floors[metric] < few.diagnostics["floors_at_n_eff"][metric]
        assert ranking_score(few, metric) < ranking_score(biased, metric), metric


@pytest.mark.parametrize("n", [5, 20, 100, 400])
def test_fewer_points_buy_a_biased_sampler_no_rank(n, sides):
    """Thinned to n points, the biased sampler's score does not fall below that of all its points."""
    protocol = get_protocol("bgbench@1")
    random = np.random.default_rng(7)
    distance, floor = w2(sides["biased"], sides["truth"]), sides["floor at n"]
    full = protocol.score_for_ranking("torus_w2", distance, {"torus_w2": floor})
    scores = []
    for _ in range(8):
        thinned, _ = draws(random, n, minor=0.0)
        floor = w2(draws(random, max(n, FEWEST_EFFECTIVE))[0], sides["truth"])
        distance = w2(thinned, sides["truth"])
        scores.append(protocol.score_for_ranking("torus_w2", distance, {"torus_w2": floor}))
    error = np.std(scores, ddof=1) / np.sqrt(len(scores))
    assert np.mean(scores) > full - 4 * error
    if n < FEWEST_EFFECTIVE:
        assert min(scores) > full + 0.1


def test_ranks_are_of_squares_and_of_divergences_as_they_are():
    score = get_protocol("bgbench@1").score_for_ranking
    assert score("torus_w2", 0.5, {"torus_w2": 0.3}) == pytest.approx(0.16)
    assert score("torus_jsd", 0.5, {"torus_jsd": 0.3}) == pytest.approx(0.2)
    assert score("ess", 0.5, {"torus_w2": 0.3}) == 0.5
    assert get_protocol("paper@1").score_for_ranking("torus_w2", 0.5, {"torus_w2": 0.3}) == 0.5


def test_few_effective_points_earn_no_more_allowance_than_a_hundred():
    x = torch.randn(1000, 3, 3, generator=torch.Generator().manual_seed(0))
    one = Ensemble(x, torch.zeros(1000), torch.full((1000,), -torch.inf).index_fill(0, torch.tensor(3), 0.0))
    assert effective_points(one) == 1
    again = Ensemble.unweighted(x[torch.arange(1000) % 40], torch.zeros(1000))
    assert effective_points(again) == pytest.approx(40)
    assert [round_down(value) for value in (100.0, 257.3, 9_999.0, 10_000.0)] == [100, 250, 9_900, 10_000]
    assert round_down(max(effective_points(one), FEWEST_EFFECTIVE)) == 100
