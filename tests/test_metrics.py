"""Metrics: the published definitions to the digit, and the laws they obey."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from bgbench import Atom, BgbenchError, Ensemble, Estimate, MetricCase, Proposal, Reference, System, TicaModel
from bgbench.metrics.registry import METRICS
from bgbench.metrics.weights import pareto_k
from bgbench.protocols import PROTOCOLS, get_protocol, halves

DATA = Path(__file__).parent / "data"
META = json.loads((DATA / "metrics_ARIP.json").read_text())
COMPUTE = {plugin.name: plugin.compute for plugin in METRICS}
DISTANCES = ("energy_w2", "torus_w2", "tica_w2", "torus_jsd", "tica_jsd", "mode_weights")


@pytest.fixture(scope="module")
def stored():
    return load_file(DATA / "metrics_ARIP.safetensors")


@pytest.fixture(scope="module")
def system(stored):
    atoms = tuple(Atom(residue, kind, name, name[0]) for residue, kind, name in META["atoms"])
    built = System.from_sequence("ARIP")
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
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_published_definitions_to_the_digit(published, protocol, system, reference, stored):
    metric, key = PUBLISHED[published]
    options = get_protocol(protocol).options
    case = case_of(system, reference, stored["samples"], stored["samples_energy_kT"], options)
    assert COMPUTE[metric](case)[key] == pytest.approx(META["metrics"][published], rel=1e-4)


def test_tica_features_are_the_published_ones(system, reference, stored):
    from bgbench.chemistry.features import tica_features

    features = tica_features(system, stored["reference"][:1].double())
    assert features.shape == (1, META["n_tica_features"])
    assert torch.allclose(features[0].float(), stored["tica_features_first_frame"].float(), atol=1e-4)


def test_mirrored_frames_are_flagged_as_published(system, stored):
    from bgbench.chemistry.chirality import is_mirrored

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


def test_weight_hygiene(system, reference, stored, rng):
    log_w = torch.from_numpy(rng.standard_normal(600))
    case = case_of(system, reference, stored["samples"], stored["samples_energy_kT"], log_w=log_w)
    found = COMPUTE["ess"](case)
    w = np.exp(log_w.numpy())
    assert found["ess"] == pytest.approx(w.sum() ** 2 / (w**2).sum() / 600)
    assert found["max_weight_share"] == pytest.approx(w.max() / w.sum())
    assert found["unique_fraction"] == 1.0
    assert found["ess_after_cut"] > found["ess"]


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
    found = COMPUTE["validity"](case_of(system, reference, x, u))
    assert found["validity_wrong_hand"] >= 1 / 8
    assert found["validity_torn"] == pytest.approx(1 / 8)
    assert found["validity_nonfinite"] == pytest.approx(1 / 8)
    assert found["validity"] == pytest.approx(5 / 8)


def test_a_deleted_mode_is_missed(system, reference):
    from bgbench.chemistry.features import torsions

    keep = torsions(system, reference.x).psi[:, 0] > 0
    pick = torch.nonzero(keep).flatten()
    pick = pick[torch.arange(600) % len(pick)]
    whole = COMPUTE["mode_weights"](case_of(system, reference, reference.x, reference.u))
    found = COMPUTE["mode_weights"](case_of(system, reference, reference.x[pick], reference.u[pick]))
    assert found["mode_weights"] > whole["mode_weights"] + 0.05


def test_halves_are_independent_replicas(reference):
    first, second = halves(reference)
    assert set(first.replica.tolist()) & set(second.replica.tolist()) == set()
    assert first.n_samples + second.n_samples == reference.n_samples


def test_protocols_judge_with_floors_and_list_what_they_know(system, reference, stored):
    estimate = case_of(system, reference, stored["samples"], stored["samples_energy_kT"]).estimate
    for name in PROTOCOLS:
        judgement = get_protocol(name).judge(estimate, reference, system, torch.Generator().manual_seed(1))
        assert set(DISTANCES) <= set(judgement.metrics)
        assert set(judgement.floors) <= set(judgement.metrics)
        assert judgement.floors["torus_w2"] < judgement.metrics["torus_w2"] * 3
        assert judgement.diagnostics["frames_compared"] == 600
    with pytest.raises(BgbenchError, match="known: bgbench@1, paper@1"):
        get_protocol("nosuch@1")
