"""Importance weights: log Z with its error, cuts, systematic resampling."""

import math

import torch
from torch import Tensor

from bgbench.types import Ensemble

CUT_FRACTION = 0.002
"""The published cut: the top 0.2 % of the weights (arXiv 2508.18175)."""


def ess(log_w: Tensor) -> float:
    """Kish's effective sample size as a fraction, (Σw)²/(N Σw²), over all of `log_w (n,)`."""
    log_w = log_w.double()
    n = log_w.shape[0]
    if n == 0 or not bool(torch.isfinite(log_w).any()):
        return 0.0
    return math.exp(float(2 * torch.logsumexp(log_w, 0) - torch.logsumexp(2 * log_w, 0))) / n


def effective_points(ensemble: Ensemble) -> float:
    """Kish's n_eff = (Σw)²/Σw² with the weights of identical conformers added up first.

    An ensemble of n equal weights on m distinct points has m effective points, not n.
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


def cut_weights(log_w: Tensor, rule: str) -> Tensor:
    """`none`; `truncate`: weights above the (1 − 0.2 %) quantile become it; `drop`: they become zero.

    Raises:
        ValueError: for another rule.
    """
    if rule == "none":
        return log_w
    keep = log_w.shape[0] - math.ceil(CUT_FRACTION * log_w.shape[0])
    limit = torch.sort(log_w).values[max(keep - 1, 0)]
    if rule == "truncate":
        return log_w.clamp_max(float(limit))
    if rule == "drop":
        order = torch.argsort(log_w, stable=True)
        return log_w.index_fill(0, order[max(keep, 1) :], -torch.inf)
    raise ValueError(f"cuts are none, truncate and drop, not '{rule}'")


def resample(ensemble: Ensemble, n: int, generator: torch.Generator, scheme: str = "systematic") -> Ensemble:
    """`n` points of equal weight, by `systematic` or `multinomial` resampling."""
    edges = torch.cumsum(ensemble.weights, 0)
    if scheme == "systematic":
        offset = torch.rand(1, generator=generator, dtype=torch.float64)
        places = (torch.arange(n, dtype=torch.float64) + offset) / n
    else:
        places = torch.rand(n, generator=generator, dtype=torch.float64)
    index = torch.searchsorted(edges, places * edges[-1], right=True).clamp_max(len(edges) - 1)
    return Ensemble.unweighted(ensemble.x[index], ensemble.u[index])
