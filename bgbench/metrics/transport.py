"""Exact optimal transport between weighted point clouds, in memory that grows with n + m, not n · m.

Column generation: solve on a sparse set of candidate arcs (POT's network simplex), price *all* arcs
against its dual, add the arcs that violate it, repeat until none does. A dual that is feasible on every
arc proves the plan optimal (Kantorovich); the proof is part of the result. Candidates come from a
thinned problem's dual, extended by c-transforms (Schmitzer 2016, multiscale sparse transport).
"""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy.sparse import coo_array

from bgbench.core.errors import BgbenchError
from bgbench.metrics.pricing import cost_matrix, least_reduced, reduced_minimum

DENSE = 8_000_000
"""Problems of at most this many arcs are solved dense."""

COARSE = DENSE // 8
"""The same for thinned problems, whose dual is only a start."""

NEIGHBOURS = 8
"""Arcs of least reduced cost that every point starts with, and is given in a round at most."""
TOLERANCE = 1e-10
"""Largest dual violation left, in units of the largest cost seen."""

UNPROVED = 1e-6
"""Largest share of a cost that may be left unproved where rounding ends the rounds."""

ITERATIONS = 100_000_000


@dataclass(frozen=True)
class Transport:
    """`cost`: least mean squared cost (W2²). `certificate`: gap, worst dual violation, scale (the largest
    cost met), arcs, rounds."""

    cost: float
    certificate: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Problem:
    """Points `a (n, d)`, `b (m, d)`, positive weights summing to one, and the period (0: none)."""

    a: np.ndarray
    b: np.ndarray
    wa: np.ndarray
    wb: np.ndarray
    period: float

    def costs(self, i: np.ndarray, j: np.ndarray) -> np.ndarray:
        """Cost of arcs (i, j)."""
        gap = np.abs(self.a[i] - self.b[j])
        if self.period:
            gap = np.minimum(gap, self.period - gap)
        return (gap**2).sum(-1)


def exact_transport(
    a: np.ndarray,
    b: np.ndarray,
    weights_a: np.ndarray | None = None,
    weights_b: np.ndarray | None = None,
    periodic: bool = False,
) -> Transport:
    """Transport between `a (n, d)` and `b (m, d)` at cost Σ (difference)², wrapped at ±π if `periodic`.

    Weights are normalised, zero weights dropped; None means equal weights.

    Raises:
        ValueError: for empty clouds, NaN, unequal dimensions, or weights that are negative or all zero.
        BgbenchError: if rounding leaves no plan that can be proved optimal.
    """
    period = 2 * np.pi if periodic else 0.0
    left, right = _side(a, weights_a, period), _side(b, weights_b, period)
    if left[0].shape[1] != right[0].shape[1]:
        raise ValueError(f"clouds have {left[0].shape[1]} and {right[0].shape[1]} dimensions")
    problem = Problem(left[0], right[0], left[1], right[1], period)
    cost, _, certificate = _solve(problem, DENSE)
    refuse_unproved(cost, certificate)
    return Transport(max(cost, 0.0), certificate)


def refuse_unproved(cost: float, certificate: Mapping[str, float]) -> None:
    """Raise BgbenchError where a cost lies above what its dual proves: its gap, and the worst violation."""
    unproved = certificate["gap"] + certificate["violation"]
    if unproved > UNPROVED * cost + 2 * TOLERANCE * certificate["scale"]:
        raise BgbenchError(
            f"optimal transport ends at a cost of {cost:.6g}, and no less than {cost - unproved:.6g} can be "
            f"proved; costs reach {certificate['scale']:.3g}: are there points far from all others?"
        )


def _side(points: np.ndarray, weights: np.ndarray | None, period: float) -> tuple[np.ndarray, np.ndarray]:
    points = np.ascontiguousarray(points, dtype=np.float64)
    if points.ndim != 2 or not len(points):
        raise ValueError(f"transport needs (n, d) points, n ≥ 1, got shape {points.shape}")
    w = np.ones(len(points)) if weights is None else np.asarray(weights, dtype=np.float64)
    if not np.isfinite(points).all() or not np.isfinite(w).all():
        raise ValueError("transport of points or weights that hold NaN or infinity")
    if w.shape != (len(points),) or (w < 0).any() or not w.any():
        raise ValueError("weights must be one a point, none negative, not all zero")
    used = w > 0
    return _distinct(np.mod(points[used], period) if period else points[used], w[used] / w.sum())


def _distinct(points: np.ndarray, w: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Each point once, with the weight of all its copies: resampled ensembles have few, many times over."""
    order = np.lexsort(points.T)
    points, w = points[order], w[order]
    first = np.append(True, (points[1:] != points[:-1]).any(axis=1))
    if first.all():
        order = np.argsort(order)
        return points[order], w[order]
    return points[first], np.add.reduceat(w, np.flatnonzero(first))


def _solve(problem: Problem, dense: int) -> tuple[float, tuple[np.ndarray, np.ndarray], dict[str, float]]:
    n, m = len(problem.a), len(problem.b)
    if n * m <= dense:
        return _dense(problem)
    dual = _thinned_dual(problem, dense)
    arcs = _candidates(problem, dual)
    scale = float(problem.costs(*arcs).max()) or 1.0
    rounds, known = 0, 0
    # Every round brings arcs that were not there, so that there is a last one.
    while len(arcs[0]) > known:
        rounds, known = rounds + 1, len(arcs[0])
        cost, dual = _sparse(problem, arcs, dual)
        columns, slack = least_reduced(problem.a, problem.b, dual, problem.period, NEIGHBOURS)
        bad = slack < -TOLERANCE * scale
        rows = np.broadcast_to(np.arange(n)[:, None], bad.shape)
        arcs = _union(problem, arcs, (rows[bad], columns[bad]))
    worst = float(min(slack.min(), 0.0))
    bound = float(problem.wa @ dual[0] + problem.wb @ dual[1])
    certificate = {
        "gap": cost - bound,
        "violation": -worst,
        "scale": scale,
        "arcs": len(arcs[0]),
        "rounds": rounds,
    }
    return cost, dual, certificate


def _dense(problem: Problem) -> tuple[float, tuple[np.ndarray, np.ndarray], dict[str, float]]:
    import ot

    matrix = cost_matrix(problem.a, problem.b, problem.period)
    cost, log = ot.emd2(problem.wa, problem.wb, matrix, numItermax=ITERATIONS, log=True)
    u, v = np.asarray(log["u"]), np.asarray(log["v"])
    slack = float((matrix - u[:, None] - v[None]).min())
    gap = float(cost) - float(problem.wa @ u + problem.wb @ v)
    scale = float(matrix.max()) or 1.0
    certificate = {
        "gap": gap,
        "violation": max(-slack, 0.0),
        "scale": scale,
        "arcs": matrix.size,
        "rounds": 1,
    }
    return float(cost), (u, v), certificate


def _thinned_dual(problem: Problem, dense: int) -> tuple[np.ndarray, np.ndarray]:
    """The dual of every fourth point, extended to all points by two c-transforms (feasible)."""
    generator = np.random.default_rng(0)
    i, j = (np.sort(generator.permutation(n)[: max(1, n // 4)]) for n in (len(problem.a), len(problem.b)))
    wa, wb = problem.wa[i], problem.wb[j]
    thinned = Problem(problem.a[i], problem.b[j], wa / wa.sum(), wb / wb.sum(), problem.period)
    _, (u, _), _ = _solve(thinned, min(dense, COARSE))
    v = reduced_minimum(problem.b, thinned.a, u, problem.period)
    return reduced_minimum(problem.a, problem.b, v, problem.period), v


def _candidates(problem: Problem, dual: tuple[np.ndarray, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Arcs of least reduced cost from both sides, and a plan that is always feasible."""
    n, m = len(problem.a), len(problem.b)
    forward, _ = least_reduced(problem.a, problem.b, dual, problem.period, NEIGHBOURS)
    backward, _ = least_reduced(problem.b, problem.a, dual[::-1], problem.period, NEIGHBOURS)
    rows = np.concatenate([np.repeat(np.arange(n), NEIGHBOURS), backward.ravel()])
    columns = np.concatenate([forward.ravel(), np.repeat(np.arange(m), NEIGHBOURS)])
    return _union(problem, (rows, columns), _corner_plan(problem))


def _corner_plan(problem: Problem) -> tuple[np.ndarray, np.ndarray]:
    """Arcs of the north-west corner plan along the first coordinate: at most n + m − 1, feasible."""
    i, j = np.argsort(problem.a[:, 0]), np.argsort(problem.b[:, 0])
    ends_a, ends_b = np.cumsum(problem.wa[i]), np.cumsum(problem.wb[j])
    edges = np.sort(np.concatenate([[0.0], ends_a[:-1], ends_b[:-1]]))
    rows = np.searchsorted(ends_a, edges, side="right").clip(max=len(i) - 1)
    columns = np.searchsorted(ends_b, edges, side="right").clip(max=len(j) - 1)
    extra = (np.minimum(rows + 1, len(i) - 1), np.minimum(columns + 1, len(j) - 1))
    return np.concatenate([i[rows], i[extra[0]]]), np.concatenate([j[columns], j[extra[1]]])


def _union(problem: Problem, one: Any, other: Any) -> tuple[np.ndarray, np.ndarray]:
    m = len(problem.b)
    keys = np.sort(np.concatenate([part[0] * m + part[1] for part in (one, other)]))
    # Sorted and compared: np.unique hashes, which takes ten times as long here.
    keys = keys[np.append(True, keys[1:] != keys[:-1])]
    return keys // m, keys % m


def _sparse(problem: Problem, arcs: Any, dual: Any) -> tuple[float, tuple[np.ndarray, np.ndarray]]:
    import ot

    i, j = arcs
    # A stored zero would be taken for a missing arc.
    values = np.maximum(problem.costs(i, j), 1e-300)
    matrix = coo_array((values, (i, j)), shape=(len(problem.a), len(problem.b)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        plan, log = ot.emd(
            problem.wa,
            problem.wb,
            matrix,
            numItermax=ITERATIONS,
            log=True,
            center_dual=False,
            potentials_init=dual,
        )
    del plan
    return float(log["cost"]), (np.asarray(log["u"]), np.asarray(log["v"]))
