"""k-means, as metrics use it: scikit-learn's, always from the same start, on every machine."""

import math
import warnings
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

if TYPE_CHECKING:
    from sklearn.cluster import KMeans

TIE = 1e-9
"""Candidates whose potentials differ by less than this fraction are equally good: the first is chosen."""


def fit_clusters(points: Tensor, n_clusters: int) -> "KMeans":
    """The k-means model of `points (n, d)` with `n_clusters` centres (`random_state` 0).

    Fewer distinct points than centres leave some clusters empty, which is an answer and not a fault:
    scikit-learn's ConvergenceWarning of it is not shown. Any other warning is.
    """
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model = KMeans(n_clusters=n_clusters, init=initial_centres, n_init=1, random_state=0)
        return model.fit(points.numpy())


def initial_centres(points: np.ndarray, n_clusters: int, random_state: np.random.RandomState) -> np.ndarray:
    """Greedy k-means++ with the random numbers of scikit-learn's own, but for ties.

    Two candidates are exactly equally good where they are the only two points of a corner: either one leaves
    the same distances. scikit-learn decides by the last bit of a sum, which differs between machines, and the
    clusters found from either start differ by far more than a bit. Here the first candidate is chosen.

    Args:
        points: `(n, d)`.
        n_clusters: how many centres, n at most.
        random_state: every random number comes from it.

    Returns:
        `(n_clusters, d)`, each of them one of the points.

    >>> initial_centres(np.array([[0.0], [0.1], [9.0]]), 2, np.random.RandomState(0)).ravel().tolist()
    [0.1, 9.0]
    """
    n_candidates = 2 + int(math.log(n_clusters))
    centres = [random_state.choice(len(points), p=np.full(len(points), 1 / len(points)))]
    nearest = squared_distances(points, points[centres])[0]
    while len(centres) < n_clusters:
        thresholds = random_state.uniform(size=n_candidates) * nearest.sum()
        candidates = np.searchsorted(np.cumsum(nearest), thresholds).clip(max=len(points) - 1)
        closer = np.minimum(nearest, squared_distances(points, points[candidates]))
        potentials = closer.sum(axis=1)
        best = np.flatnonzero(potentials <= potentials.min() * (1 + TIE))[0]
        centres.append(candidates[best])
        nearest = closer[best]
    return points[centres]


def squared_distances(points: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """`(k, n)` squared distances of `points (n, d)` to `centres (k, d)`."""
    return ((points[None] - centres[:, None]) ** 2).sum(axis=2)
