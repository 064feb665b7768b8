"""Importance weights: log Z with its standard error, cuts, resampling, standard errors of weighted means."""

import math
from typing import Literal, get_args

import torch
from torch import Tensor

from bgbench.core.types import Ensemble, check_floats, check_shape
from bgbench.estimators.pareto import smooth_tail

CUT_FRACTION = 0.002
"""The published cut: the top 0.2 % of the weights (arXiv 2508.18175)."""

FEWEST_GROUPS = 5
"""With fewer than five independent groups of points there is no standard error."""

Cut = Literal["none", "truncate", "drop", "psis"]
"""Cuts of the largest weights, see `cut_weights`."""

Scheme = Literal["systematic", "stratified", "multinomial"]
"""Resampling schemes, see `resampling_places`."""

CUTS: tuple[Cut, ...] = get_args(Cut)
SCHEMES: tuple[Scheme, ...] = get_args(Scheme)


def ess(log_w: Tensor) -> float:
    """Kish's effective sample size as a fraction of the number of points, (Σw)²/(n Σw²).

    Args:
        log_w: Log weights `(n,)`, not normalised; −inf is a point of no weight.

    Returns:
        A number from 1/n, where one point has all the weight, to 1, where all weights are equal; 0 without
        points or if every weight is zero.

    Raises:
        TypeError: for anything but a tensor, such as a list.
        ValueError: for another shape or dtype, and for NaN or +inf.

    Source: Kish, Survey Sampling (1965).

    Example:
        >>> import bgbench, torch
        >>> bgbench.ess(torch.tensor([0.0, 0.0, -torch.inf, -torch.inf]))
        0.5
    """
    check_floats("log_w", log_w)
    check_shape("log_w", log_w, (None,))
    log_w = log_w.double()
    n = log_w.shape[0]
    if bool((log_w.isnan() | (log_w == torch.inf)).any()):
        raise ValueError("log_w holds NaN or +inf: give impossible points a weight of -inf")
    if n == 0 or not bool(torch.isfinite(log_w).any()):
        return 0.0
    return math.exp(float(2 * torch.logsumexp(log_w, 0) - torch.logsumexp(2 * log_w, 0))) / n


def effective_points(ensemble: Ensemble) -> float:
    """Kish's effective number of points, (Σw)²/Σw², after adding up the weights of identical conformers.

    An ensemble of n equal weights on m distinct conformers, each as often, has m effective points, not n.
    """
    distinct, place = torch.unique(ensemble.x.flatten(1), dim=0, return_inverse=True)
    total = torch.zeros(len(distinct), dtype=torch.float64).index_add_(0, place, ensemble.weights.double())
    return float(total.sum() ** 2 / total.square().sum())


def log_z(log_w: Tensor) -> tuple[float, float]:
    """log of the mean weight of `log_w (n,)`, and its standard error by the delta method."""
    log_w = log_w.double()
    n = log_w.shape[0]
    mean = float(torch.logsumexp(log_w, 0)) - math.log(n)
    w = torch.exp(log_w - mean)
    return mean, float(w.std()) / math.sqrt(n) if n > 1 else math.inf


def sum_by_group(values: Tensor, group: Tensor | None) -> Tensor:
    """Sums `(groups,)` of `values (n,)` over the points of each `group (n,)`; the values where it is None."""
    if group is None:
        return values
    _, place = torch.unique(group, return_inverse=True)
    return values.new_zeros(int(place.max()) + 1).index_add_(0, place, values)


def mean_and_error(values: Tensor, weights: Tensor, group: Tensor | None = None) -> tuple[float, float]:
    """Σ w f of `values (n,)` with normalised `weights (n,)`, and its standard error.

    The error of a ratio by the delta method, √(Σ_g (Σ_{i in g} w (f − mean))² · G/(G − 1)): points of one
    `group` may depend on each other, groups may not. Values of points without weight are ignored.
    """
    weights = weights.double()
    values = torch.where(weights > 0, values.double(), 0.0)
    mean = (weights * values).sum()
    return float(mean), error_of_sum(weights * (values - mean), weights, group)


def error_of_sum(parts: Tensor, weights: Tensor, group: Tensor | None) -> float:
    """Standard error of the sum of `parts (n,)`, which have mean zero, of points with these `weights (n,)`.

    Infinite where the weights have fewer than FEWEST_GROUPS effective groups.
    """
    if not enough_groups(weights, group):
        return math.inf
    sums = sum_by_group(parts, group)
    return math.sqrt(float(sums.square().sum()) * len(sums) / (len(sums) - 1))


def enough_groups(weights: Tensor, group: Tensor | None) -> bool:
    """Whether `weights (n,)`, not all zero, have FEWEST_GROUPS effective groups or more."""
    fractions = sum_by_group(weights.double(), group) / weights.double().sum()
    # The margin keeps five equal groups five after rounding.
    return float(fractions.square().sum()) * FEWEST_GROUPS <= 1 + 1e-9


def cut_weights(log_w: Tensor, rule: str) -> Tensor:
    """Cut the largest of the weights.

    Args:
        log_w: Log weights `(n,)`.
        rule: `none`: no cut. `truncate`: weights above the (1 − 0.2 %) quantile become that quantile. `drop`:
            they become zero. `psis`: the tail is Pareto-smoothed (arXiv 1507.02646).

    Raises:
        ValueError: for another rule.
    """
    if rule == "none":
        return log_w
    if rule == "psis":
        return smooth_tail(log_w)
    keep = log_w.shape[0] - math.ceil(CUT_FRACTION * log_w.shape[0])
    limit = torch.sort(log_w).values[max(keep - 1, 0)]
    if rule == "truncate":
        return log_w.clamp_max(float(limit))
    if rule == "drop":
        order = torch.argsort(log_w, stable=True)
        return log_w.index_fill(0, order[max(keep, 1) :], -torch.inf)
    raise ValueError(f"cut must be one of {', '.join(CUTS)}, got '{rule}'")


def resampling_places(n: int, generator: torch.Generator, scheme: str) -> Tensor:
    """Draw `n` places in [0, 1], float64, at which `points_at` reads the cumulative weights.

    `systematic`: one random offset, the same in each of n equal intervals; `stratified`: a random offset for
    each interval; `multinomial`: n independent uniform numbers.

    Source: Douc, Cappé, Moulines 2005.

    Raises:
        ValueError: for another scheme.
    """
    if scheme not in SCHEMES:
        raise ValueError(f"resampling must be one of {', '.join(SCHEMES)}, got '{scheme}'")
    offsets = torch.rand(1 if scheme == "systematic" else n, generator=generator, dtype=torch.float64)
    return offsets if scheme == "multinomial" else (torch.arange(n, dtype=torch.float64) + offsets) / n


def points_at(weights: Tensor, places: Tensor) -> Tensor:
    """Index `(n,)` of the point in whose part of the cumulative `weights (m,)` each of `places (n,)` lies.

    Places are in [0, 1]. Weights are summed in float64 whatever their dtype, and rounding leads neither past
    the last point nor to a point of no weight.

    Raises:
        ValueError: for weights that are NaN or all zero.
    """
    edges = torch.cumsum(weights.double(), 0)
    if not bool(edges[-1] > 0):
        raise ValueError(f"weights must be numbers and not all zero, they sum to {float(edges[-1])}")
    index = torch.searchsorted(edges, places * edges[-1], right=True)
    return index.clamp_max(int(torch.nonzero(weights)[-1]))


def resample(ensemble: Ensemble, n: int, generator: torch.Generator, scheme: str = "systematic") -> Ensemble:
    """`n` points of equal weight, by `systematic`, `stratified` or `multinomial` resampling."""
    index = points_at(ensemble.weights, resampling_places(n, generator, scheme))
    return Ensemble.unweighted(ensemble.x[index], ensemble.u[index])
