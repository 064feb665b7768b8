"""Noise floors: halves of the replicas against each other, measured once and remembered."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from bgbench import BgbenchError, Ensemble, Estimate, Proposal, Reference, TicaModel, peptide
from bgbench.core.plugins import plugins
from bgbench.evaluation.floors import FEWEST_EFFECTIVE, SPLITS, FloorKey, Floors
from bgbench.evaluation.judging import judge
from bgbench.evaluation.protocols import get_protocol
from bgbench.metrics.names import WITH_FLOOR
from bgbench.systems.features import tica_features

N = 400


@pytest.fixture(scope="module")
def system():
    return peptide("AA")


@pytest.fixture(scope="module")
def reference(system):
    """Made-up frames of 16 replicas, shaken twice as much as the prior."""
    generator = torch.Generator().manual_seed(3)
    replica = torch.arange(N) % 16
    x = system.positions.float() + 0.04 * torch.randn(N, system.n_atoms, 3, generator=generator)
    features = tica_features(system, x[:1].double()).shape[1]
    projection = torch.randn(features, 2, generator=generator, dtype=torch.float64)
    tica = TicaModel(torch.zeros(features, dtype=torch.float64), projection)
    u = torch.randn(N, generator=generator, dtype=torch.float64)
    return Reference("AA", x, u, replica, {"grade": "bronze"}, tica, sha256="abc")


@pytest.fixture
def floors(system, reference):
    return Floors(get_protocol("bgbench@1"), system, reference)


@pytest.fixture
def estimate(system, generator):
    x = system.positions.float() + 0.03 * torch.randn(N, system.n_atoms, 3, generator=generator)
    u = torch.randn(N, generator=generator, dtype=torch.float64)
    return Estimate(Ensemble.unweighted(x, u), Proposal(x))


@pytest.mark.parametrize("replicas", [16, 2])
def test_every_split_halves_the_replicas(reference, replicas):
    reference = replace(reference, replica=torch.arange(N) % replicas)
    groups = []
    for split in range(SPLITS):
        first, second = reference.halves(split)
        assert set(first.replica.tolist()).isdisjoint(second.replica.tolist())
        assert first.n_samples + second.n_samples == N
        assert first.sha256 == second.sha256 == ""
        groups.append(frozenset(first.replica.tolist()))
    assert len(set(groups)) == min(SPLITS, replicas)


def test_floors_are_means_over_splits_with_a_bound_above(floors):
    floors = floors.measure(floors.split_keys(100))
    each = [floors.scores[key]["torus_w2"] for key in floors.split_keys(100)]
    assert len(set(each)) == SPLITS
    assert floors.means(100)["torus_w2"] == pytest.approx(np.mean(each))
    # Student's 97.5 % point at three degrees of freedom is 3.182.
    reach = 3.182446 * np.std(each, ddof=1) * np.sqrt(1.25)
    assert floors.bounds(100)["torus_w2"] == pytest.approx(np.mean(each) + reach)


@pytest.mark.parametrize(("replicas", "bounded"), [(1, True), (2, False), (4, False), (5, True)])
def test_few_replicas_bound_no_noise(floors, reference, replicas, bounded):
    """Two can be halved in one way: four equal floors would say that noise has no width."""
    floors = replace(floors, reference=replace(reference, replica=torch.arange(N) % replicas))
    floors = floors.measure(floors.split_keys(100))
    assert set(floors.means(100)) == set(WITH_FLOOR)
    assert bool(floors.bounds(100)) is bounded


def test_measuring_leaves_the_value_as_it_was_and_measures_nothing_twice(floors, monkeypatch):
    keys = floors.judgement_keys(100, 250.0)
    more = floors.measure(keys)
    assert not floors.scores
    assert set(more.scores) == set(keys)
    with pytest.raises(KeyError):
        floors.means(100)
    monkeypatch.setattr(Floors, "_compare", None)
    assert more.measure(keys).scores == more.scores


def test_a_floor_at_as_many_effective_points_as_frames_is_the_floor_itself(floors):
    half = N // 2
    assert floors.effective_keys(N, 10_000.0) == floors.split_keys(N)[:1]
    assert floors.split_keys(N)[0].frames == half
    assert floors.effective_keys(N, 3.0)[0].effective_frames == FEWEST_EFFECTIVE
    assert floors.effective_keys(N, 157.0)[0].effective_frames == 150
    few = floors.measure([*floors.effective_keys(N, 3.0), *floors.split_keys(N)])
    assert few.at_effective(N, 3.0) != few.scores[few.split_keys(N)[0]] == few.at_effective(N, 10_000.0)


def test_a_floor_at_n_eff_is_a_mean_over_as_many_splits_as_the_protocol_says(floors):
    """It was one draw of one split, which all seeds shared."""
    four = replace(floors, protocol=replace(floors.protocol, effective_splits=4))
    keys = four.effective_keys(N, 120.0)
    assert [key.split for key in keys] == [0, 1, 2, 3]
    assert {key.effective_frames for key in keys} == {120}
    four = four.measure(keys)
    each = [four.scores[key]["torus_w2"] for key in keys]
    assert len(set(each)) == SPLITS
    assert four.at_effective(N, 120.0)["torus_w2"] == pytest.approx(np.mean(each))


def test_only_floors_of_the_same_reference_and_protocol_are_recalled(floors, reference):
    key = FloorKey(0, "bgbench@1", "abc", 10, 10)
    others = [replace(key, reference_sha256="def"), replace(key, protocol="paper@1")]
    scores = {known: {"torus_w2": 0.1} for known in (key, *others)}
    assert set(floors.recall(scores).scores) == {key}
    nameless = replace(floors, reference=replace(reference, sha256=""))
    assert not nameless.recall({replace(key, reference_sha256=""): {"torus_w2": 0.1}}).scores


def test_a_judgement_uses_the_floors_of_its_bench_and_returns_all_of_them(
    system, reference, estimate, make_bench, monkeypatch
):
    bench = make_bench(system, reference)
    first = judge(estimate, bench)
    assert not bench.floors.scores
    assert set(first.measured.scores) == set(bench.floors.judgement_keys(N, N))
    monkeypatch.setattr(Floors, "_compare", None)
    again = judge(estimate, replace(bench, floors=bench.floors.recall(first.measured.scores)))
    for part in ("metrics", "floors", "skills", "diagnostics"):
        assert getattr(again, part) == getattr(first, part)


@pytest.mark.parametrize("protocol", [*plugins().protocols])
def test_judgements_hold_floors_and_skills_of_what_they_measure(
    system, reference, estimate, make_bench, protocol
):
    judgement = judge(estimate, make_bench(system, reference, protocol))
    assert set(judgement.floors) == set(WITH_FLOOR) <= set(judgement.metrics)
    assert judgement.diagnostics["frames_compared"] == N
    assert judgement.diagnostics["floor_frames"] == N // 2
    controls = judgement.diagnostics["controls"]
    assert judgement.skills
    for metric, skill in judgement.skills.items():
        floor, control = judgement.floors[metric], controls[metric]
        assert skill == pytest.approx((control - judgement.metrics[metric]) / (control - floor))


def test_unknown_protocols_are_refused_with_the_known_ones():
    with pytest.raises(BgbenchError, match="known: bgbench@1, bgbench@2, paper@1, paper@2"):
        get_protocol("nosuch@1")
