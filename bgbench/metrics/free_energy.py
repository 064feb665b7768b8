"""Free-energy differences between metastable states, with standard errors, beside the reference's.

States: φ > 0 against φ < 0 of every φ (radians, IUPAC sign), and the two k-means basins of the reference's
first two TICs. ΔF = −ln(P_a/P_b) in kT; its error by the delta method between groups of dependent points
(`Estimate.group`; the reference's replicas).
"""

import math
from typing import Any

import torch
from torch import Tensor

from bgbench.core.abstract import Estimate
from bgbench.core.types import Reference, System
from bgbench.estimators.weights import enough_groups, error_of_sum
from bgbench.metrics.clusters import fit_clusters
from bgbench.metrics.distances import tica_points
from bgbench.systems.features import torsions

CHUNK = 10_000
"""Frames whose torsions are held at a time."""


def free_energies(system: System, estimate: Estimate, reference: Reference) -> dict[str, Any]:
    """Free-energy differences between pairs of states, beside the reference's.

    Returns:
        By pair of states: `delta_f`, `error`, `reference`, `reference_error` in kT, and `pull`, the
        difference of the two in units of its standard error. Differences and errors are infinite where a
        side has no weight in one of the two states, and the pull is None where an error is not known.
    """
    ensemble = estimate.ensemble
    even = torch.full((reference.n_samples,), 1 / reference.n_samples, dtype=torch.float64)
    ours, truth = states(system, ensemble.x, reference), states(system, reference.x, reference)
    differences = {}
    for name, inside in truth.items():
        delta_f, error = difference(ours[name], ensemble.weights, estimate.group)
        expected, expected_error = difference(inside, even, reference.replica)
        combined = math.hypot(error, expected_error)
        differences[name] = {
            "delta_f": delta_f,
            "error": error,
            "reference": expected,
            "reference_error": expected_error,
            "pull": (delta_f - expected) / combined if 0 < combined < math.inf else None,
        }
    return differences


def difference(inside: Tensor, weights: Tensor, group: Tensor | None) -> tuple[float, float]:
    """−ln(P/Q) with P the weight inside of a state and Q the weight outside, and its standard error, kT.

    Args:
        inside: `(n,)` True for points inside.
        weights: `(n,)`, normalised.
        group: `(n,)`; points of one group may depend on each other. None: all are independent.

    Returns:
        The difference, infinite where one side has no weight. The error, infinite where either has its weight
        in too few groups: the rarer side decides the difference, however many points the other has.

    >>> value, error = difference(torch.arange(100) < 20, torch.full((100,), 0.01), None)
    >>> round(value, 3), round(error, 3)
    (1.386, 0.251)
    """
    parts = weights.double() * inside, weights.double() * ~inside
    p, q = (float(part.sum()) for part in parts)
    if p <= 0 or q <= 0:
        return (math.inf if p <= 0 else -math.inf), math.inf
    error = error_of_sum(parts[0] / p - parts[1] / q, weights, group)
    known = all(enough_groups(part, group) for part in parts)
    return math.log(q) - math.log(p), error if known else math.inf


def states(system: System, x: Tensor, reference: Reference) -> dict[str, Tensor]:
    """`(n,)` True in the first state of each pair: `phi1` …, and `tica` where the reference has a model."""
    phi = torch.cat([torsions(system, part).phi for part in x.split(CHUNK)])
    pairs = {f"phi{k + 1}": phi[:, k] > 0 for k in range(phi.shape[1])}
    model = reference.tica
    if model is None:
        return pairs

    def points(frames: Tensor) -> Tensor:
        parts = [tica_points(system, model, part) for part in frames.split(CHUNK)]
        return torch.cat(parts)[:, :2].double()

    centres = basins(points(reference.x))
    nearest = torch.cdist(points(x), centres).argmin(1)
    return {**pairs, "tica": nearest == 0}


def basins(points: Tensor) -> Tensor:
    """Centres `(2, k)` of the two k-means clusters of `points (n, k)`, the more populated one second."""
    model = fit_clusters(points, 2)
    centres = torch.from_numpy(model.cluster_centers_)
    population = float((torch.from_numpy(model.labels_) == 0).double().mean())
    return centres if population <= 0.5 else centres.flip(0)
