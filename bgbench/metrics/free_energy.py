"""Free-energy differences between metastable states, with standard errors, beside the reference's.

States: φ > 0 against φ < 0 of every φ (radians, IUPAC sign), and the two k-means basins of the reference's
first two TICs. ΔF = −ln(P_a/P_b) in kT; its error by the delta method between groups of dependent points
(`Estimate.group`; the reference's replicas).
"""

import math
import warnings
from typing import Any

import torch
from torch import Tensor

from bgbench.core.abstract import Estimate
from bgbench.core.types import Reference, System
from bgbench.estimators.weights import enough_groups, error_of_sum
from bgbench.metrics.distances import tica_points
from bgbench.systems.features import torsions

CHUNK = 10_000


def free_energies(system: System, estimate: Estimate, reference: Reference) -> dict[str, Any]:
    """By state: `delta_f`, `error`, `reference`, `reference_error` in kT, and the `pull` of their difference.

    None where a side has no weight in one of the two states.
    """
    ensemble = estimate.ensemble
    even = torch.full((reference.n_samples,), 1 / reference.n_samples, dtype=torch.float64)
    ours, truth = states(system, ensemble.x, reference), states(system, reference.x, reference)
    found = {}
    for name, inside in truth.items():
        value, error = difference(ours[name], ensemble.weights, estimate.group)
        known, known_error = difference(inside, even, reference.replica)
        gap = math.hypot(error, known_error)
        found[name] = {
            "delta_f": value,
            "error": error,
            "reference": known,
            "reference_error": known_error,
            "pull": (value - known) / gap if 0 < gap < math.inf else None,
        }
    return found


def difference(inside: Tensor, weights: Tensor, group: Tensor | None) -> tuple[float, float]:
    """−ln(P/Q) of the weights P inside and Q outside of `inside (n,)`, and its standard error, kT.

    Infinite where one state has no weight. The error is infinite where either has its weight in too few
    groups: the rarer state decides the difference, however many points the other has.
    """
    parts = weights.double() * inside, weights.double() * ~inside
    p, q = (float(part.sum()) for part in parts)
    if p <= 0 or q <= 0:
        return (math.inf if p <= 0 else -math.inf), math.inf
    error = error_of_sum(parts[0] / p - parts[1] / q, weights, group)
    told = all(enough_groups(part, group) for part in parts)
    return math.log(q) - math.log(p), error if told else math.inf


def states(system: System, x: Tensor, reference: Reference) -> dict[str, Tensor]:
    """`(n,)` True in the first state of each pair: `phi1` …, and `tica` where the reference has a model."""
    phi = torch.cat([torsions(system, part).phi for part in x.split(CHUNK)])
    found = {f"phi{k + 1}": phi[:, k] > 0 for k in range(phi.shape[1])}
    model = reference.tica
    if model is None:
        return found

    def points(frames: Tensor) -> Tensor:
        parts = [tica_points(system, model, part) for part in frames.split(CHUNK)]
        return torch.cat(parts)[:, :2].double()

    centres = basins(points(reference.x))
    nearest = torch.cdist(points(x), centres).argmin(1)
    return {**found, "tica": nearest == 0}


def basins(points: Tensor) -> Tensor:
    """Centres `(2, k)` of the two k-means clusters of `points (n, k)`, the more populated one second."""
    from sklearn.cluster import KMeans

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = KMeans(n_clusters=2, random_state=0).fit(points.numpy())
    centres = torch.from_numpy(model.cluster_centers_)
    share = float((torch.from_numpy(model.labels_) == 0).double().mean())
    return centres if share <= 0.5 else centres.flip(0)
