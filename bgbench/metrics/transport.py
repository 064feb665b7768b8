"""Exact optimal transport between weighted point clouds, in memory that grows with n + m, not n · m.

Column generation: solve on a sparse set of candidate arcs (POT's network simplex), price *all* arcs
against its dual, add the arcs that violate it, repeat until none does. A dual that is feasible on every
arc proves the plan optimal (Kantorovich); the proof is part of the result. Candidates come from a
thinned problem's dual, extended by c-transforms (Schmitzer 2016, multiscale sparse transport).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from scipy.sparse import coo_array

from bgbench.core.errors import BgbenchError
from bgbench.metrics.pricing import Dual, cost_matrix, least_reduced, reduced_minimum

DENSE = 8_000_000
"""Problems of at most this many arcs are solved with the whole cost matrix."""

COARSE = DENSE // 8
"""The same for thinned problems, whose dual is only a start."""

NEIGHBOURS = 8
"""Arcs of least reduced cost that every point starts with, and that a round adds to it at most."""

TOLERANCE = 1e-10
"""Largest dual violation left, in units of the largest cost seen."""

UNPROVED = 1e-6
"""Largest fraction of a cost that may be left unproved where rounding ends the rounds."""

ITERATIONS = 100_000_000
"""Steps of the network simplex, at most; never reached by a problem that can be solved."""


class Arcs(NamedTuple):
    """Arcs from point `rows[k]` of one side to point `columns[k]` of the other."""

    rows: np.ndarray
    columns: np.ndarray


@dataclass(frozen=True)
class Transport:
    """A solved problem.

    Attributes:
        cost: the least mean squared cost (W2²).
        certificate: the proof. `gap` between cost and dual, worst `violation` of the dual, `scale` (the
            largest cost met), and the `arcs` and `rounds` it took.
    """

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

    def costs(self, arcs: Arcs) -> np.ndarray:
        """The cost of each arc."""
        gap = np.abs(self.a[arcs.rows] - self.b[arcs.columns])
        if self.period:
            gap = np.minimum(gap, self.period - gap)
        return (gap**2).sum(-1)


@dataclass(frozen=True)
class Solution:
    """Cost, dual and certificate of a problem."""

    cost: float
    dual: Dual
    certificate: dict[str, float]


def exact_transport(
    a: np.ndarray,
    b: np.ndarray,
    weights_a: np.ndarray | None = None,
    weights_b: np.ndarray | None = None,
    periodic: bool = False,
) -> Transport:
    """Optimal transport at cost Σ (difference)², proved optimal.

    Args:
        a: points `(n, d)`.
        b: points `(m, d)`.
        weights_a: `(n,)`, normalised here; zero weights are left out. None means equal weights.
        weights_b: `(m,)`, likewise.
        periodic: whether coordinates are angles (rad), whose differences are wrapped at ±π.

    Raises:
        ValueError: for empty clouds, NaN, unequal dimensions, or weights that are negative or all zero.
        BgbenchError: if the solver fails, or rounding leaves no plan that can be proved optimal.

    >>> exact_transport(np.zeros((2, 1)), np.array([[1.0], [3.0]])).cost
    5.0
    """
    period = 2 * np.pi if periodic else 0.0
    left, right = _side(a, weights_a, period), _side(b, weights_b, period)
    if left[0].shape[1] != right[0].shape[1]:
        raise ValueError(f"clouds have {left[0].shape[1]} and {right[0].shape[1]} dimensions")
    solution = _solve(Problem(left[0], right[0], left[1], right[1], period), DENSE)
    refuse_unproved(solution.cost, solution.certificate)
    return Transport(max(solution.cost, 0.0), solution.certificate)


def refuse_unproved(cost: float, certificate: Mapping[str, float]) -> None:
    """Raise BgbenchError where a cost lies above what its dual proves: its gap, and the worst violation."""
    unproved = certificate["gap"] + certificate["violation"]
    if unproved > UNPROVED * cost + 2 * TOLERANCE * certificate["scale"]:
        raise BgbenchError(
            f"optimal transport ends at a cost of {cost:.6g}, and no less than {cost - unproved:.6g} can be "
            f"proved; costs reach {certificate['scale']:.3g}: are there points far from all others?"
        )


def refuse_unsolved(log: Mapping[str, Any]) -> None:
    """Raise BgbenchError where POT's network simplex says that it has not found the optimum."""
    if log["warning"]:
        raise BgbenchError(f"optimal transport was not solved: {log['warning']}")


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


def _solve(problem: Problem, dense: int) -> Solution:
    n, m = len(problem.a), len(problem.b)
    if n * m <= dense:
        return _dense(problem)
    dual = _thinned_dual(problem, dense)
    arcs = _candidates(problem, dual)
    scale = float(problem.costs(arcs).max()) or 1.0
    rounds, known = 0, 0
    # Every round brings arcs that were not there, so that there is a last one.
    while len(arcs.rows) > known:
        rounds, known = rounds + 1, len(arcs.rows)
        cost, dual = _sparse(problem, arcs, dual)
        columns, slack = least_reduced(problem.a, problem.b, dual, problem.period, NEIGHBOURS)
        bad = slack < -TOLERANCE * scale
        rows = np.broadcast_to(np.arange(n)[:, None], bad.shape)
        arcs = _union(problem, arcs, Arcs(rows[bad], columns[bad]))
    worst = float(min(slack.min(), 0.0))
    bound = float(problem.wa @ dual.u + problem.wb @ dual.v)
    certificate = {
        "gap": cost - bound,
        "violation": -worst,
        "scale": scale,
        "arcs": len(arcs.rows),
        "rounds": rounds,
    }
    return Solution(cost, dual, certificate)


def _dense(problem: Problem) -> Solution:
    import ot

    matrix = cost_matrix(problem.a, problem.b, problem.period)
    cost, log = ot.emd2(problem.wa, problem.wb, matrix, numItermax=ITERATIONS, log=True)
    refuse_unsolved(log)
    dual = Dual(np.asarray(log["u"]), np.asarray(log["v"]))
    slack = float((matrix - dual.u[:, None] - dual.v[None]).min())
    certificate = {
        "gap": float(cost) - float(problem.wa @ dual.u + problem.wb @ dual.v),
        "violation": max(-slack, 0.0),
        "scale": float(matrix.max()) or 1.0,
        "arcs": matrix.size,
        "rounds": 1,
    }
    return Solution(float(cost), dual, certificate)


def _thinned_dual(problem: Problem, dense: int) -> Dual:
    """The dual of every fourth point, extended to all points by two c-transforms (feasible)."""
    generator = np.random.default_rng(0)
    i, j = (np.sort(generator.permutation(n)[: max(1, n // 4)]) for n in (len(problem.a), len(problem.b)))
    wa, wb = problem.wa[i], problem.wb[j]
    thinned = Problem(problem.a[i], problem.b[j], wa / wa.sum(), wb / wb.sum(), problem.period)
    u = _solve(thinned, min(dense, COARSE)).dual.u
    v = reduced_minimum(problem.b, thinned.a, u, problem.period)
    return Dual(reduced_minimum(problem.a, problem.b, v, problem.period), v)


def _candidates(problem: Problem, dual: Dual) -> Arcs:
    """Arcs of least reduced cost from both sides, and a plan that is always feasible."""
    n, m = len(problem.a), len(problem.b)
    forward, _ = least_reduced(problem.a, problem.b, dual, problem.period, NEIGHBOURS)
    backward, _ = least_reduced(problem.b, problem.a, Dual(dual.v, dual.u), problem.period, NEIGHBOURS)
    rows = np.concatenate([np.repeat(np.arange(n), NEIGHBOURS), backward.ravel()])
    columns = np.concatenate([forward.ravel(), np.repeat(np.arange(m), NEIGHBOURS)])
    return _union(problem, Arcs(rows, columns), _corner_plan(problem))


def _corner_plan(problem: Problem) -> Arcs:
    """Arcs of the north-west corner plan along the first coordinate: at most n + m − 1, feasible."""
    i, j = np.argsort(problem.a[:, 0]), np.argsort(problem.b[:, 0])
    ends_a, ends_b = np.cumsum(problem.wa[i]), np.cumsum(problem.wb[j])
    edges = np.sort(np.concatenate([[0.0], ends_a[:-1], ends_b[:-1]]))
    rows = np.searchsorted(ends_a, edges, side="right").clip(max=len(i) - 1)
    columns = np.searchsorted(ends_b, edges, side="right").clip(max=len(j) - 1)
    next_rows, next_columns = np.minimum(rows + 1, len(i) - 1), np.minimum(columns + 1, len(j) - 1)
    return Arcs(np.concatenate([i[rows], i[next_rows]]), np.concatenate([j[columns], j[next_columns]]))


def _union(problem: Problem, one: Arcs, other: Arcs) -> Arcs:
    m = len(problem.b)
    keys = np.sort(np.concatenate([arcs.rows * m + arcs.columns for arcs in (one, other)]))
    # Sorted and compared: np.unique hashes, which takes ten times as long here.
    keys = keys[np.append(True, keys[1:] != keys[:-1])]
    return Arcs(keys // m, keys % m)


def _sparse(problem: Problem, arcs: Arcs, dual: Dual) -> tuple[float, Dual]:
    import ot

    # The solver would treat a stored zero as a missing arc.
    values = np.maximum(problem.costs(arcs), 1e-300)
    matrix = coo_array((values, (arcs.rows, arcs.columns)), shape=(len(problem.a), len(problem.b)))
    _, log = ot.emd(
        problem.wa,
        problem.wb,
        matrix,
        numItermax=ITERATIONS,
        log=True,
        center_dual=False,
        potentials_init=(dual.u, dual.v),
    )
    refuse_unsolved(log)
    return float(log["cost"]), Dual(np.asarray(log["u"]), np.asarray(log["v"]))
