"""Jensen–Shannon divergences over k-means cells, and populations of metastable states."""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from bgbench.core.abstract import MetricCase
from bgbench.core.types import System
from bgbench.metrics.clusters import fit_clusters
from bgbench.metrics.distances import tica_points, torus_points
from bgbench.metrics.sides import Sides, refuse_constant, sides
from bgbench.systems.features import has_backbone, torsions

CELLS = 20
"""k-means cells that divergences are taken over (arXiv 2508.18175)."""

STATES = 6
"""k-means cells that stand for metastable states."""

PRESENT, MISSED = 0.01, 0.1
"""A state of at least `PRESENT` of the reference is missed with less than `MISSED` of its population."""


def js_divergence(p: np.ndarray, q: np.ndarray) -> float:
    """Jensen–Shannon divergence (bit) of the counts `p (cells,)` and `q (cells,)`, 1e-10 added to each.

    >>> round(js_divergence(np.array([1.0, 0.0]), np.array([0.0, 1.0])), 6)
    1.0
    """
    p, q = ((counts + 1e-10) / (counts + 1e-10).sum() for counts in (p, q))
    m = 0.5 * (p + q)
    return float(0.5 * (p * np.log2(p / m)).sum() + 0.5 * (q * np.log2(q / m)).sum())


def cell_counts(truth: Tensor, ours: Tensor, weights: Tensor, cells: int) -> tuple[np.ndarray, np.ndarray]:
    """Counts over k-means cells fitted on the reference.

    Args:
        truth: points `(n, d)` of the reference.
        ours: points `(m, d)` of the ensemble.
        weights: `(m,)`, normalised.
        cells: number of cells.

    Returns:
        Counts of the reference and of the ensemble, `(cells,)` each; fewer cells where n is smaller.
    """
    refuse_constant("the reference", truth)
    model = fit_clusters(truth, min(cells, len(truth)))
    labels = model.predict(ours.numpy())
    counts = np.bincount(labels, weights.numpy() * len(labels), minlength=model.n_clusters)
    return np.bincount(model.labels_, minlength=model.n_clusters).astype(float), counts


def angle_features(system: System, x: Tensor) -> Tensor:
    """sin and cos of φ, ψ, ω, `(n, 6 (residues − 1))`: all sines and then all cosines of each."""
    angles = torsions(system, x.double())
    kinds = (angles.phi, angles.psi, angles.omega)
    return torch.cat([f(kind) for kind in kinds for f in (torch.sin, torch.cos)], dim=1)


def torus_jsd(case: MetricCase) -> Mapping[str, float]:
    """Divergence (bit) over k-means cells of φ, ψ, ω (arXiv 2508.18175); {} without any φ and ψ."""
    if not has_backbone(case.system):
        return {}
    s = sides(case)
    features = (angle_features(case.system, s.x), angle_features(case.system, s.ours.x))
    return {"torus_jsd": js_divergence(*cell_counts(*features, s.ours.weights, CELLS))}


def tica_jsd(case: MetricCase) -> Mapping[str, float]:
    """Divergence (bit) over k-means cells of the first two TICs; {} without a TICA model."""
    model = case.reference.tica
    if model is None:
        return {}
    s = sides(case)
    points = (tica_points(case.system, model, s.x), tica_points(case.system, model, s.ours.x))
    return {"tica_jsd": js_divergence(*cell_counts(*points, s.ours.weights, CELLS))}


def mode_weights(case: MetricCase) -> Mapping[str, float]:
    """Total variation of the populations of the reference's states, and the number of states missed.

    States are k-means cells of (sin, cos) of φ and ψ. A state of at least 1 % of the reference that gets less
    than a tenth of its population is missed. {} for a molecule without any φ and ψ.
    """
    if not has_backbone(case.system):
        return {}
    s = sides(case)
    truth, ours = _state_populations(case.system, s)
    missed = (truth >= PRESENT) & (ours < MISSED * truth)
    return {"mode_weights": float(0.5 * np.abs(truth - ours).sum()), "modes_missed": float(missed.sum())}


def _state_populations(system: System, s: Sides) -> tuple[np.ndarray, np.ndarray]:
    def circles(x: Tensor) -> Tensor:
        points = torus_points(system, x)
        return torch.cat([torch.sin(points), torch.cos(points)], dim=1)

    truth, ours = cell_counts(circles(s.x), circles(s.ours.x), s.ours.weights, STATES)
    return truth / truth.sum(), ours / max(ours.sum(), 1e-300)
