"""Reduced costs c(i, j) − u_i − v_j of all arcs, computed from the points, never stored."""

import numpy as np
from numba import njit

jit = njit(fastmath={"contract", "arcp", "nsz", "reassoc"}, nogil=True, cache=True)


@jit
def _cost(a, b, period):  # type: ignore[no-untyped-def]
    total = 0.0
    for k in range(a.shape[0]):
        gap = abs(a[k] - b[k])
        if period > 0.0:
            gap = min(gap, period - gap)
        total += gap * gap
    return total


@jit
def _minimum(a, b, v, period, out):  # type: ignore[no-untyped-def]
    for i in range(a.shape[0]):
        least = np.inf
        for j in range(b.shape[0]):
            least = min(least, _cost(a[i], b[j], period) - v[j])
        out[i] = least


@jit
def _least(a, b, dual, period, columns, slack):  # type: ignore[no-untyped-def]
    u, v = dual
    kept = columns.shape[1]
    for i in range(a.shape[0]):
        for k in range(kept):
            slack[i, k] = np.inf
        for j in range(b.shape[0]):
            value = _cost(a[i], b[j], period) - u[i] - v[j]
            if value < slack[i, kept - 1]:
                k = kept - 1
                while k > 0 and slack[i, k - 1] > value:
                    slack[i, k] = slack[i, k - 1]
                    columns[i, k] = columns[i, k - 1]
                    k -= 1
                slack[i, k] = value
                columns[i, k] = j


def reduced_minimum(a: np.ndarray, b: np.ndarray, v: np.ndarray, period: float) -> np.ndarray:
    """min_j c(a_i, b_j) − v_j for every row: the c-transform `(n,)`."""
    out = np.empty(len(a))
    _minimum(a, b, v, period, out)
    return out


def least_reduced(
    a: np.ndarray, b: np.ndarray, dual: tuple[np.ndarray, np.ndarray], period: float, kept: int
) -> tuple[np.ndarray, np.ndarray]:
    """The `kept` columns of least reduced cost of every row, and those costs: `(n, kept)` each."""
    columns = np.zeros((len(a), kept), np.int64)
    slack = np.empty((len(a), kept))
    _least(a, b, dual, period, columns, slack)
    return columns, slack
