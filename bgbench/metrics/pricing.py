"""Reduced costs c(i, j) − u_i − v_j of all arcs, computed from the points, never stored.

A row is priced in blocks of columns, one coordinate at a time over the whole block: the inner loops run in
SIMD lanes, and a block whose least value is no better than those a row has already is skipped.
"""

from typing import NamedTuple

import numpy as np

from bgbench.core.kernels import compiled

jit = compiled(fastmath={"contract", "arcp", "nsz", "reassoc", "nnan"}, nogil=True)

BLOCK = 512
"""Columns priced together: their values stay in the first-level cache."""


class Dual(NamedTuple):
    """A dual solution: potentials `u (n,)` of the rows and `v (m,)` of the columns."""

    u: np.ndarray
    v: np.ndarray


@jit
def _block(point, b, v, period, out):  # type: ignore[no-untyped-def]
    """c − v of the columns `b (d, n)` into `out`; returns the least."""
    n = v.shape[0]
    for j in range(n):
        out[j] = -v[j]
    for k in range(point.shape[0]):
        here, row = point[k], b[k]
        if period > 0.0:
            for j in range(n):
                gap = abs(here - row[j])
                rest = period - gap
                gap = gap if gap < rest else rest
                out[j] += gap * gap
        else:
            for j in range(n):
                gap = here - row[j]
                out[j] += gap * gap
    least = np.inf
    for j in range(n):
        least = out[j] if out[j] < least else least
    return least


@jit
def _minimum(a, b, v, period, out):  # type: ignore[no-untyped-def]
    values = np.empty(BLOCK)
    for i in range(a.shape[0]):
        least = np.inf
        for start in range(0, v.shape[0], BLOCK):
            stop = min(start + BLOCK, v.shape[0])
            least = min(least, _block(a[i], b[:, start:stop], v[start:stop], period, values))
        out[i] = least


@jit
def _least(a, b, dual, period, columns, slack):  # type: ignore[no-untyped-def]
    u, v = dual
    count = columns.shape[1]
    values = np.empty(BLOCK)
    for i in range(a.shape[0]):
        slack[i, :] = np.inf
        for start in range(0, v.shape[0], BLOCK):
            stop = min(start + BLOCK, v.shape[0])
            if _block(a[i], b[:, start:stop], v[start:stop], period, values) >= slack[i, count - 1]:
                continue
            for j in range(stop - start):
                k = count - 1
                if values[j] < slack[i, k]:
                    while k > 0 and slack[i, k - 1] > values[j]:
                        slack[i, k] = slack[i, k - 1]
                        columns[i, k] = columns[i, k - 1]
                        k -= 1
                    slack[i, k] = values[j]
                    columns[i, k] = start + j
        slack[i, :] -= u[i]


@jit
def _fill(a, b, period, out):  # type: ignore[no-untyped-def]
    free = np.zeros(b.shape[1])
    for i in range(a.shape[0]):
        _block(a[i], b, free, period, out[i])


def cost_matrix(a: np.ndarray, b: np.ndarray, period: float) -> np.ndarray:
    """Σ (difference)² of every pair, wrapped at `period` (0: not wrapped), `(n, m)`."""
    out = np.empty((len(a), len(b)))
    _fill(a, np.ascontiguousarray(b.T), period, out)
    return out


def reduced_minimum(a: np.ndarray, b: np.ndarray, v: np.ndarray, period: float) -> np.ndarray:
    """min_j c(a_i, b_j) − v_j for every row: the c-transform `(n,)`."""
    out = np.empty(len(a))
    _minimum(a, np.ascontiguousarray(b.T), v, period, out)
    return out


def least_reduced(
    a: np.ndarray, b: np.ndarray, dual: Dual, period: float, count: int
) -> tuple[np.ndarray, np.ndarray]:
    """The `count` columns of least reduced cost of every row, and those costs: `(n, count)` each."""
    columns = np.zeros((len(a), count), np.int64)
    slack = np.empty((len(a), count))
    _least(a, np.ascontiguousarray(b.T), (dual.u, dual.v), period, columns, slack)
    return columns, slack
