"""k-means, as metrics use it: scikit-learn's, always from the same start."""

import warnings
from typing import TYPE_CHECKING

from torch import Tensor

if TYPE_CHECKING:
    from sklearn.cluster import KMeans


def fit_clusters(points: Tensor, n_clusters: int) -> "KMeans":
    """The k-means model of `points (n, d)` with `n_clusters` centres (`random_state` 0).

    Fewer distinct points than centres leave some clusters empty, which is an answer and not a fault:
    scikit-learn's ConvergenceWarning of it is not shown. Any other warning is.
    """
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return KMeans(n_clusters=n_clusters, random_state=0).fit(points.numpy())
