"""Transport distances between ensemble and reference: of the energy, on the torus, in TICs. All exact."""

import math
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from bgbench.core.abstract import MetricCase
from bgbench.core.types import System, TicaModel
from bgbench.metrics.sides import Sides, refuse_constant, sides
from bgbench.metrics.transport import exact_transport
from bgbench.systems.features import has_backbone, tica_features, torsions

CHUNK = 1_000
"""Frames whose TICA features are held at a time."""


def wasserstein_1d(a: Tensor, wa: Tensor | None, b: Tensor, power: int) -> float:
    """Wasserstein distance W_p between numbers on a line.

    Args:
        a: `(n,)`; may hold +inf.
        wa: weights `(n,)` of `a`, normalised; None means equal weights.
        b: `(m,)`, equally weighted.
        power: p.

    Returns:
        The distance in the numbers' unit; +inf where +inf carries weight.

    >>> wasserstein_1d(torch.tensor([0.0, 2.0]), None, torch.tensor([1.0, 3.0]), 2)
    1.0
    """
    import ot

    weights = np.full(len(a), 1.0 / len(a)) if wa is None else wa.numpy()
    used = weights > 0
    values = a.double().numpy()[used]
    if not np.isfinite(values).all():
        return math.inf
    cost = ot.emd2_1d(values, b.double().numpy(), weights[used], None, metric="minkowski", p=power)
    return float(max(cost, 0.0) ** (1.0 / power))


def energy_w2(case: MetricCase) -> Mapping[str, float]:
    """W2 of the reduced energy in kT (arXiv 2508.18175), and its companion W1."""
    s = sides(case)
    refuse_constant("the reference energy", s.u)
    weights = s.ours.weights
    return {
        "energy_w2": wasserstein_1d(s.ours.u, weights, s.u, 2),
        "energy_w1": wasserstein_1d(s.ours.u, weights, s.u, 1),
    }


def _w2(ours: Tensor, truth: Tensor, s: Sides, periodic: bool) -> float:
    refuse_constant("the reference", truth)
    result = exact_transport(ours.numpy(), truth.numpy(), s.ours.weights.numpy(), None, periodic)
    return math.sqrt(result.cost)


def transport_frames(case: MetricCase) -> int:
    """Frames on each side for transport in more than one dimension: the protocol's `transport`, if fewer."""
    return min(case.n_samples, int(case.options.get("transport", case.n_samples)))


def torus_points(system: System, x: Tensor) -> Tensor:
    """All φ and then all ψ, `(n, 2 (residues − 1))` rad."""
    angles = torsions(system, x.double())
    return torch.cat([angles.phi, angles.psi], dim=1)


def torus_w2(case: MetricCase) -> Mapping[str, float]:
    """Exact W2 over φ, ψ with wrapped differences, rad (arXiv 2508.18175); {} without any φ and ψ."""
    if not has_backbone(case.system):
        return {}
    s = sides(case, transport_frames(case))
    ours, truth = (torus_points(case.system, x) for x in (s.ours.x, s.x))
    return {"torus_w2": _w2(ours, truth, s, True)}


def tica_points(system: System, model: TicaModel, x: Tensor) -> Tensor:
    """The first two TICs, `(n, 2)`, computed `CHUNK` frames at a time: features are hundreds a frame."""
    parts = [model.transform(tica_features(system, part.double()).to(model.mean)) for part in x.split(CHUNK)]
    return torch.cat(parts)[:, :2]


def tica_w2(case: MetricCase) -> Mapping[str, float]:
    """Exact W2 on the first two TICs of the reference's model; {} without a TICA model."""
    model = case.reference.tica
    if model is None:
        return {}
    s = sides(case, transport_frames(case))
    ours, truth = (tica_points(case.system, model, x) for x in (s.ours.x, s.x))
    return {"tica_w2": _w2(ours, truth, s, False)}
