"""Metrics: the published definitions to the digit, and the laws they obey."""

import itertools
import json
import math
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import ot
import pytest
import torch
from safetensors.torch import load_file
from scipy.spatial.distance import jensenshannon
from sklearn.cluster import KMeans

from bgbench import (
    Atom,
    BgbenchError,
    Ensemble,
    Estimate,
    MetricCase,
    Proposal,
    Reference,
    System,
    TicaModel,
    find_reference,
    peptide,
)
from bgbench.core.plugins import plugins
from bgbench.estimators.handedness import apply_chirality_rule
from bgbench.estimators.weights import points_at
from bgbench.evaluation.judging import judge
from bgbench.evaluation.protocols import get_protocol
from bgbench.metrics import names
from bgbench.metrics.clusters import fit_clusters
from bgbench.metrics.distances import torus_points
from bgbench.metrics.histograms import js_divergence
from bgbench.metrics.registry import METRICS
from bgbench.metrics.sides import evenly, sides
from bgbench.metrics.weights import pareto_k

DATA = Path(__file__).parents[1] / "data"
META = json.loads((DATA / "metrics_ARIP.json").read_text())
COMPUTE = {plugin.name: plugin.compute for plugin in METRICS}
DISTANCES = ("energy_w2", "torus_w2", "tica_w2", "torus_jsd", "tica_jsd", "mode_weights")


@pytest.fixture(scope="module")
def stored():
    return load_file(DATA / "metrics_ARIP.safetensors")


@pytest.fixture(scope="module")
def system(stored):
    atoms = tuple(Atom(residue, kind, name, name[0]) for residue, kind, name in META["atoms"])
    built = peptide("ARIP")
    place = {(a.residue, a.name): k for k, a in enumerate(built.atoms)}
    order = [place[a.residue, a.name] for a in atoms]
    inverse = {old: new for new, old in enumerate(order)}
    bonds = tuple(sorted(tuple(sorted((inverse[i], inverse[j]))) for i, j in built.bonds))
    return System("ARIP", built.positions[order], atoms, bonds, "ARIP", 310.0, built.forcefield)


@pytest.fixture(scope="module")
def reference(stored):
    tica = TicaModel(stored["tica_mean"].double(), stored["tica_projection"].double())
    n = len(stored["reference"])
    replica = torch.arange(n) % 2
    energy = stored["reference_energy_kT"].double()
    return Reference("ARIP", stored["reference"], energy, replica, {"grade": "bronze"}, tica)


def case_of(system, reference, x, u, options=None, log_w=None):
    log_w = torch.zeros(len(x), dtype=torch.float64) if log_w is None else log_w
    ensemble = Ensemble(x, u.double(), log_w)
    estimate = Estimate(ensemble, Proposal(x))
    n = min(len(x), reference.n_samples)
    return MetricCase(system, estimate, reference, n, torch.Generator().manual_seed(0), options or {})


PUBLISHED = {
    "energy-w2": ("energy_w2", "energy_w2"),
    "energy-w1": ("energy_w2", "energy_w1"),
    "torus-w2": ("torus_w2", "torus_w2"),
    "tica-w2": ("tica_w2", "tica_w2"),
    "tica-k-jsd": ("tica_jsd", "tica_jsd"),
    "torus-k-jsd": ("torus_jsd", "torus_jsd"),
}


@pytest.mark.parametrize("published", META["metrics"])
@pytest.mark.parametrize("protocol", [*plugins().protocols])
def test_published_definitions_to_the_digit(published, protocol, system, reference, stored):
    metric, key = PUBLISHED[published]
    options = get_protocol(protocol).options
    case = case_of(system, reference, stored["samples"], stored["samples_energy_kT"], options)
    assert COMPUTE[metric](case)[key] == pytest.approx(META["metrics"][published], rel=1e-4)


def test_the_published_protocol_as_runs_use_it_gives_the_published_numbers(
    system, reference, stored, make_bench
):
    case = case_of(system, reference, stored["samples"], stored["samples_energy_kT"])
    judged = judge(case.estimate, make_bench(system, reference, "paper@1"))
    expected = {PUBLISHED[name][1]: value for name, value in META["metrics"].items()}
    assert len(expected) == len(META["metrics"]) == 6
    assert {name: judged.metrics[name] for name in expected} == pytest.approx(expected, rel=1e-4)


def test_a_protocol_that_cuts_weights_reports_the_metrics_without_its_cut(
    system, reference, stored, make_bench
):
    equal = case_of(system, reference, stored["samples"], stored["samples_energy_kT"])
    bench = make_bench(system, reference, "paper@1")
    assert "metrics_uncut" not in judge(equal.estimate, bench).diagnostics
    ensemble = equal.estimate.ensemble
    log_w = torch.zeros_like(ensemble.log_w)
    log_w[3] = 8.0
    heavy = replace(equal.estimate, ensemble=Ensemble(ensemble.x, ensemble.u, log_w))
    judged = judge(heavy, bench)
    uncut = judged.diagnostics["metrics_uncut"]
    assert set(uncut) == set(judged.metrics)
    assert uncut["torus_w2"] > 1.5 * judged.metrics["torus_w2"]
    assert uncut["ess"] == judged.metrics["ess"]


def test_tica_features_are_the_published_ones(system, reference, stored):
    from bgbench.systems.features import tica_features

    features = tica_features(system, stored["reference"][:1].double())
    assert features.shape == (1, META["n_tica_features"])
    assert torch.allclose(features[0].float(), stored["tica_features_first_frame"].float(), atol=1e-4)


def test_mirrored_frames_are_flagged_as_published(system, stored):
    from bgbench.systems.chirality import is_mirrored

    x = stored["samples"].clone()
    x[::3] *= -1
    assert torch.equal(is_mirrored(system, x), stored["mirrored_every_third_flagged"].bool())


@pytest.mark.parametrize("name", DISTANCES)
def test_a_distance_is_zero_to_itself(name, system, reference):
    case = case_of(system, reference, reference.x, reference.u)
    assert COMPUTE[name](case)[name] == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize("name", DISTANCES)
def test_distances_ignore_rotation_translation_and_frame_order(name, system, reference, stored, generator):
    x, u = stored["samples"], stored["samples_energy_kT"]
    plain = COMPUTE[name](case_of(system, reference, x, u))[name]
    q, _ = torch.linalg.qr(torch.randn(3, 3, generator=generator))
    q = q * torch.sign(torch.linalg.det(q))
    order = torch.randperm(len(x), generator=generator)
    moved = COMPUTE[name](case_of(system, reference, (x @ q + 3.0)[order], u[order]))[name]
    assert moved == pytest.approx(plain, rel=2e-3)


def test_energy_distance_grows_with_a_shift_by_exactly_it(system, reference):
    values = [
        COMPUTE["energy_w2"](case_of(system, reference, reference.x, reference.u + shift))["energy_w2"]
        for shift in (0.5, 1.0, 4.0)
    ]
    assert values == pytest.approx([0.5, 1.0, 4.0])


@pytest.mark.parametrize("name", DISTANCES)
def test_distances_grow_as_weight_moves_to_one_frame(name, system, reference):
    """Each is convex in the mixture (1 − f) p + f δ and zero at f = 0, so it cannot fall."""
    values = []
    for share in (0.0, 0.05, 0.2, 0.5, 0.9):
        w = torch.full((600,), (1 - share) / 600, dtype=torch.float64)
        w[7] += share
        values.append(
            COMPUTE[name](case_of(system, reference, reference.x, reference.u, log_w=w.log()))[name]
        )
    assert values[0] == pytest.approx(0.0, abs=1e-6)
    assert all(below < above for below, above in itertools.pairwise(values))


def turned(system, x, angle):
    """Frames with the first ψ turned by `angle`: what follows its Cα–C bond turns as a whole (Rodrigues)."""
    place = system.atom_index
    moving = torch.tensor([atom.residue > 0 or atom.name == "O" for atom in system.atoms])
    axis = torch.nn.functional.normalize(x[:, place[0, "C"]] - x[:, place[0, "CA"]], dim=-1)[:, None]
    arm = x - x[:, place[0, "C"]][:, None]
    cross = torch.linalg.cross(axis.expand_as(arm), arm)
    along = axis * (axis * arm).sum(-1, keepdim=True) * (1 - math.cos(angle))
    there = x[:, place[0, "C"]][:, None] + arm * math.cos(angle) + cross * math.sin(angle) + along
    return torch.where(moving[:, None], there, x)


def test_torus_distance_grows_with_a_turn_never_above_it_and_wraps(system, reference):
    x = reference.x.double()

    def distance(angle):
        return COMPUTE["torus_w2"](case_of(system, reference, turned(system, x, angle), reference.u))[
            "torus_w2"
        ]

    turns = (0.1, 0.3, 0.6, 1.2)
    values = [distance(angle) for angle in turns]
    assert all(below < above for below, above in itertools.pairwise(values))
    assert all(value <= turn + 1e-6 for value, turn in zip(values, turns, strict=True))
    assert values[0] > 0.05
    assert distance(2 * math.pi) == pytest.approx(0.0, abs=1e-6)
    assert distance(2 * math.pi - 0.3) == pytest.approx(distance(-0.3), rel=1e-6)


def test_energy_distances_equal_general_transport(system, reference, stored, generator):
    """The one-dimensional route against POT's network simplex on the full cost matrix."""
    u, log_w = stored["samples_energy_kT"], torch.randn(600, generator=generator, dtype=torch.float64)
    distance = COMPUTE["energy_w2"](case_of(system, reference, stored["samples"], u, log_w=log_w))
    gap = np.abs(u.double().numpy()[:, None] - reference.u.numpy()[None])
    weights, equal = torch.softmax(log_w, 0).numpy(), np.full(600, 1 / 600)
    assert distance["energy_w1"] == pytest.approx(ot.emd2(weights, equal, gap), rel=1e-9)
    assert distance["energy_w2"] == pytest.approx(math.sqrt(ot.emd2(weights, equal, gap**2)), rel=1e-9)


def test_divergences_equal_scipys(rng):
    p, q = rng.random(20) * 100, rng.random(20) * 100
    assert js_divergence(p, q) == pytest.approx(jensenshannon(p, q, base=2) ** 2, rel=1e-8)
    assert js_divergence(np.array([5.0, 0.0]), np.array([0.0, 3.0])) == pytest.approx(1.0, abs=1e-7)


def test_a_cut_that_leaves_no_weight_is_said_not_scored(system, reference, stored):
    log_w = torch.full((600,), -torch.inf, dtype=torch.float64)
    log_w[5] = 0.0
    case = case_of(
        system,
        reference,
        stored["samples"],
        torch.arange(600.0),
        {"weights": "resampled", "cut": "drop"},
        log_w,
    )
    with pytest.raises(BgbenchError, match=r"ARIP: the protocol's cut .* only 1 of 600 points have a weight"):
        sides(case)
    with pytest.raises(ValueError, match="not all zero, they sum to nan"):
        points_at(torch.full((4,), torch.nan), torch.rand(3))


def test_resampled_draws_n_equal_points_by_weight_after_the_cut(system, reference, stored, generator):
    x, u = stored["samples"], torch.arange(600.0)
    log_w = torch.randn(600, generator=generator, dtype=torch.float64)
    top = torch.argsort(log_w)[-2:].tolist()
    seen = {}
    for cut in ("none", "drop"):
        case = case_of(system, reference, x, u, {"weights": "resampled", "cut": cut}, log_w)
        samples = [sides(case).ours for _ in range(60)]
        assert all(side.n_samples == 600 and not side.log_w.any() for side in samples)
        seen[cut] = torch.cat([side.u for side in samples])
    assert set(top) <= set(seen["none"].tolist())
    assert not set(top) & set(seen["drop"].tolist())
    w = torch.softmax(log_w, 0)
    mean = float((w * u).sum())
    error = math.sqrt(float((w * (u - mean) ** 2).sum()) / len(seen["none"]))
    assert abs(float(seen["none"].mean()) - mean) < 4 * error


@pytest.mark.parametrize("name", DISTANCES)
def test_resampled_repeats_with_its_generator_only(name, system, reference, stored, generator):
    log_w = torch.randn(600, generator=generator, dtype=torch.float64)
    x, u, options = stored["samples"], stored["samples_energy_kT"], {"weights": "resampled"}

    def value(seed):
        case = case_of(system, reference, x, u, options, log_w)
        return COMPUTE[name](replace(case, generator=torch.Generator().manual_seed(seed)))[name]

    assert value(1) == value(1)
    assert value(1) != value(2)


def test_no_tica_without_a_model(system, reference, stored):
    case = case_of(system, replace(reference, tica=None), stored["samples"], stored["samples_energy_kT"])
    assert COMPUTE["tica_w2"](case) == {}
    assert COMPUTE["tica_jsd"](case) == {}


@pytest.mark.parametrize("plugin", METRICS, ids=lambda plugin: plugin.name)
def test_the_first_value_of_a_metric_bears_its_name(plugin, system, reference, stored):
    values = plugin.compute(case_of(system, reference, stored["samples"], stored["samples_energy_kT"]))
    assert next(iter(values)) == plugin.name
    assert all(isinstance(value, float) for value in values.values())


@pytest.mark.parametrize("name", DISTANCES)
@pytest.mark.parametrize(
    ("fault", "complaint"),
    [
        ("infinite positions", "NaN or infinite positions in 1 of 600"),
        ("nan energy", "u holds NaN"),
        ("bad reference energy", "reference holds energies that are not finite"),
        ("frozen", "same in every frame"),
        ("infinite weight", r"log_w holds \+inf"),
        ("no weight", "every weight is zero"),
    ],
)
def test_senseless_input_gets_a_sentence_never_a_number(name, fault, complaint, system, reference, stored):
    x, u = stored["samples"].clone(), stored["samples_energy_kT"].clone()
    log_w = torch.zeros(600, dtype=torch.float64)
    if fault == "infinite positions":
        x[3] = torch.inf
    if fault == "nan energy":
        u[3] = torch.nan
    if fault == "bad reference energy":
        reference = replace(reference, u=torch.where(torch.arange(600) == 3, torch.nan, reference.u))
    if fault == "frozen":
        x = x[:1].repeat(600, 1, 1)
    if fault == "infinite weight":
        log_w[3] = torch.inf
    if fault == "no weight":
        log_w -= torch.inf
    with pytest.raises((BgbenchError, ValueError), match=complaint):  # an `Ensemble` refuses some by itself
        COMPUTE[name](case_of(system, reference, x, u, log_w=log_w))


@pytest.mark.parametrize("value", [torch.inf, -torch.inf])
def test_ess_refuses_weights_that_mean_nothing(value, system, reference, stored):
    log_w = torch.full((600,), value, dtype=torch.float64)
    with pytest.raises((BgbenchError, ValueError), match=r"log_w|every weight"):
        COMPUTE["ess"](
            case_of(system, reference, stored["samples"], stored["samples_energy_kT"], log_w=log_w)
        )


def test_an_infinite_energy_counts_only_where_it_has_weight(system, reference, stored):
    x, u = stored["samples"], stored["samples_energy_kT"].clone()
    u[3] = torch.inf
    assert COMPUTE["energy_w2"](case_of(system, reference, x, u))["energy_w2"] == math.inf
    log_w = torch.where(torch.arange(600) == 3, -torch.inf, 0.0).double()
    assert math.isfinite(COMPUTE["energy_w2"](case_of(system, reference, x, u, log_w=log_w))["energy_w2"])


@pytest.mark.parametrize("name", DISTANCES)
def test_weights_count_like_repeated_points(name, system, reference, stored):
    x, u = stored["samples"], stored["samples_energy_kT"]
    pick = torch.cat([torch.arange(300), torch.arange(300)])
    repeated = COMPUTE[name](case_of(system, reference, x[pick], u[pick]))[name]
    log_w = torch.where(torch.arange(600) < 300, 0.0, -torch.inf).double()
    weighted = COMPUTE[name](case_of(system, reference, x, u, log_w=log_w))[name]
    assert weighted == pytest.approx(repeated, rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("name", DISTANCES)
def test_nan_constants_and_too_few_frames_are_refused(name, system, reference, stored):
    x, u = stored["samples"].clone(), stored["samples_energy_kT"]
    x[3, 5] = torch.nan
    with pytest.raises(BgbenchError, match="holds NaN"):
        COMPUTE[name](case_of(system, reference, x, u))
    constant = Reference(
        "ARIP",
        reference.x[:1].repeat(600, 1, 1),
        reference.u[:1].repeat(600),
        reference.replica,
        {},
        reference.tica,
    )
    with pytest.raises(BgbenchError, match="same in every frame"):
        COMPUTE[name](case_of(system, constant, stored["samples"], u))
    case = case_of(system, reference, stored["samples"][:100], u[:100])
    short = MetricCase(system, case.estimate, reference, 600, case.generator, {})
    with pytest.raises(BgbenchError, match="600 frames a side"):
        COMPUTE[name](short)


def test_equal_weights_are_worth_all_samples(system, reference, stored):
    """ESS 1 whatever the constant; a shift of log w changes no value."""
    x, u = stored["samples"], stored["samples_energy_kT"]
    for constant in (0.0, -800.0, 800.0):
        log_w = torch.full((600,), constant, dtype=torch.float64)
        value = COMPUTE["ess"](case_of(system, reference, x, u, log_w=log_w))
        assert value["ess"] == pytest.approx(1.0)
        assert value["ess_after_cut"] == pytest.approx(1.0)
        assert value["max_weight_share"] == pytest.approx(1 / 600)
    repeated = COMPUTE["ess"](case_of(system, reference, x[torch.arange(600) % 150], u))
    assert repeated["unique_fraction"] == pytest.approx(0.25)


def test_weight_hygiene(system, reference, stored, rng):
    log_w = torch.from_numpy(rng.standard_normal(600))
    case = case_of(system, reference, stored["samples"], stored["samples_energy_kT"], log_w=log_w)
    values = COMPUTE["ess"](case)
    w = np.exp(log_w.numpy())
    assert values["ess"] == pytest.approx(w.sum() ** 2 / (w**2).sum() / 600)
    assert values["max_weight_share"] == pytest.approx(w.max() / w.sum())
    assert values["unique_fraction"] == 1.0
    assert values["ess_after_cut"] > values["ess"]


@pytest.mark.parametrize("shape", [0.2, 0.7, 1.2])
def test_pareto_k_finds_the_tail(shape, rng):
    """The shape of an exact generalised Pareto tail, within 4 standard errors (1 + k)/√tail."""
    n = 40_000
    w = ((1 - rng.random(n)) ** -shape - 1) / shape + 1.0
    tail = math.ceil(3 * math.sqrt(n))
    assert abs(pareto_k(torch.from_numpy(np.log(w))) - shape) < 4 * (1 + shape) / math.sqrt(tail) + 0.02
    assert math.isnan(pareto_k(torch.zeros(1000)))


def test_validity_counts_every_kind(system, reference, stored):
    x = stored["reference"][:8].clone()
    x[0] *= -1
    x[1, 4] += 1.0
    u = stored["reference_energy_kT"][:8].clone()
    u[2] = torch.inf
    values = COMPUTE["validity"](case_of(system, reference, x, u))
    assert values["validity_wrong_hand"] >= 1 / 8
    assert values["validity_torn"] == pytest.approx(1 / 8)
    assert values["validity_nonfinite"] == pytest.approx(1 / 8)
    assert values["validity"] == pytest.approx(5 / 8)


def test_numbers_that_are_not_finite_are_not_valid(system, reference, stored):
    x, u = stored["reference"][:4].clone(), stored["reference_energy_kT"][:4]
    x[0, 5], x[1, system.atom_index[1, "CA"]] = torch.nan, torch.inf
    values = COMPUTE["validity"](case_of(system, reference, x, u))
    assert values["validity"] == pytest.approx(0.5)
    assert values["validity_nonfinite"] == pytest.approx(0.5)


@pytest.mark.parametrize("rule", ["flip", "zero"])
def test_hands_are_counted_before_their_repair(rule, system, reference, stored):
    """A quarter mirrored, one frame beyond repair: flipping mends the ensemble, not the rates."""
    x, u = stored["reference"][:40].clone(), stored["reference_energy_kT"][:40]
    x[:10] *= -1
    swap = [system.atom_index[1, "CB"], system.atom_index[1, "HA"]]
    x[20, swap] = x[20, swap[::-1]]
    proposal, rates = apply_chirality_rule(system, Proposal(x), rule)
    case = case_of(system, reference, proposal.x, u)
    estimate = Estimate(case.estimate.ensemble, proposal, {"handedness": rates})
    values = COMPUTE["validity"](replace(case, estimate=estimate))
    assert values["validity_wrong_hand"] == pytest.approx(11 / 40)
    assert values["validity_unrepairable"] == pytest.approx(1 / 40)
    assert values["validity"] == pytest.approx(39 / 40 if rule == "flip" else 29 / 40)


def test_a_deleted_mode_is_missed(system, reference):
    from bgbench.systems.features import torsions

    keep = torsions(system, reference.x).psi[:, 0] > 0
    pick = torch.nonzero(keep).flatten()
    pick = pick[torch.arange(600) % len(pick)]
    whole = COMPUTE["mode_weights"](case_of(system, reference, reference.x, reference.u))
    values = COMPUTE["mode_weights"](case_of(system, reference, reference.x[pick], reference.u[pick]))
    assert values["mode_weights"] > whole["mode_weights"] + 0.05


def test_missing_modes_are_counted_by_their_rule(system, reference):
    """Each state emptied in turn: missed exactly once, and the error is the population it had."""
    labels = state_labels(system, reference)
    for state in labels.unique():
        log_w = torch.where(labels == state, -torch.inf, 0.0).double()
        share = float((labels == state).double().mean())
        values = COMPUTE["mode_weights"](case_of(system, reference, reference.x, reference.u, log_w=log_w))
        assert values["mode_weights"] == pytest.approx(share)
        assert values["modes_missed"] == (1.0 if share >= 0.01 else 0.0)


def state_labels(system, reference):
    """The documented states, found anew: six k-means cells of (sin, cos) of φ and ψ."""
    from bgbench.systems.features import torsions

    angles = torsions(system, reference.x.double())
    points = torch.cat([angles.phi, angles.psi], 1)
    circles = torch.cat([torch.sin(points), torch.cos(points)], 1).numpy()
    return torch.from_numpy(KMeans(n_clusters=6, random_state=0).fit_predict(circles))


@pytest.mark.parametrize("n", [2_500, 1_000, 999, 10_000])
def test_thinning_a_reference_meets_every_replica_alike(n):
    from bgbench.metrics.sides import evenly

    replica = torch.arange(10_000) % 16
    index = evenly(replica, n)
    assert len(torch.unique(index)) == n
    counts = torch.bincount(replica[index], minlength=16)
    assert int(counts.max() - counts.min()) <= 1


@pytest.mark.parametrize("name", ["torus_w2", "tica_w2"])
def test_thinned_transport_ignores_the_order_of_frames(name, system, reference, stored, generator):
    x, u = stored["samples"], stored["samples_energy_kT"]
    log_w = torch.randn(len(x), generator=generator, dtype=torch.float64)
    order = torch.randperm(len(x), generator=generator)
    options = {"weights": "weighted", "transport": 150}
    plain = COMPUTE[name](case_of(system, reference, x, u, options, log_w))[name]
    moved = COMPUTE[name](case_of(system, reference, x[order], u[order], options, log_w[order]))[name]
    assert moved == pytest.approx(plain, rel=1e-9)


def test_fewer_distinct_points_than_clusters_are_no_fault_and_other_warnings_are_shown(monkeypatch):
    """Warnings are errors in tests: only scikit-learn's ConvergenceWarning may be silent."""
    points = torch.arange(3.0).repeat(10)[:, None]
    assert len(set(fit_clusters(points, 6).labels_)) == 3
    fit = KMeans.fit

    def warn(self, *words):
        warnings.warn("a new default", FutureWarning, stacklevel=1)
        return fit(self, *words)

    monkeypatch.setattr(KMeans, "fit", warn)
    with pytest.raises(FutureWarning):
        fit_clusters(points, 2)


def test_clusters_do_not_depend_on_the_last_bit_of_a_sum(generator):
    """Two of HM's frames are alone in their corner, so that either is as good a start for k-means++."""
    reference = find_reference(peptide("HM"))
    angles = torus_points(peptide("HM"), reference.x[evenly(reference.replica, 106)])
    points = torch.cat([torch.sin(angles), torch.cos(angles)], dim=1)
    noise = torch.randn(20, *points.shape, generator=generator, dtype=torch.float64)
    fits = [fit_clusters(points + 1e-15 * shift, 6) for shift in noise]
    assert {tuple(fit.labels_) for fit in fits} == {tuple(fit_clusters(points, 6).labels_)}


def test_clusters_are_those_of_scikit_learn_where_nothing_ties(generator):
    for n_clusters in (2, 6, 20):
        points = torch.randn(300, 4, generator=generator, dtype=torch.float64)
        theirs = KMeans(n_clusters=n_clusters, random_state=0).fit(points.numpy())
        assert (fit_clusters(points, n_clusters).labels_ == theirs.labels_).all()


def test_the_lists_of_leading_metrics_name_registered_ones():
    registered = {plugin.name for plugin in METRICS}
    assert set(names.HEADLINE) | set(names.CURVES) <= registered
    assert set(names.CURVES) <= set(names.RANKED) < set(names.COMPARED) < set(names.HEADLINE)
    assert set(names.WITH_SKILL) < set(names.WITH_FLOOR) == set(DISTANCES)
