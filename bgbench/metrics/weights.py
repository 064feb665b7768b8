"""Importance-weight hygiene: ESS over all weights, with what tells how far to trust it."""

import math
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from bgbench.abstract import MetricCase
from bgbench.weights import cut_weights, ess


def pareto_k(log_w: Tensor) -> float:
    """Shape of the generalised Pareto tail of the weights (Vehtari et al. 2024; fit: Zhang, Stephens 2009).

    Above 0.7 the estimates are not to be trusted. NaN with fewer than 25 weights or a flat tail.
    """
    finite = log_w.double()[torch.isfinite(log_w)]
    n = len(finite)
    tail = min(n // 5, math.ceil(3 * math.sqrt(n)))
    if n < 25 or tail < 5:
        return math.nan
    w = np.sort(np.exp((finite - finite.max()).numpy()))
    excess = w[-tail:] - w[-tail - 1]
    if excess[-1] <= 0:
        return math.nan
    return _generalised_pareto_shape(excess)


def _generalised_pareto_shape(x: np.ndarray) -> float:
    """Posterior mean of the shape for sorted excesses, with the weak prior of Vehtari et al."""
    n = len(x)
    m = 30 + int(math.sqrt(n))
    quartile = max(x[max(int(n / 4 + 0.5) - 1, 0)], 1e-300)
    b = 1 / x[-1] + (1 - np.sqrt(m / (np.arange(1, m + 1) - 0.5))) / (3 * quartile)
    k = np.log1p(-b[:, None] * x).mean(1)
    with np.errstate(invalid="ignore", divide="ignore"):
        score = n * (np.log(-b / k) - k - 1)
    score = np.where(np.isfinite(score), score, -np.inf)
    weight = np.exp(score - score.max())
    mean_b = float((b * weight).sum() / weight.sum())
    shape = float(np.log1p(-mean_b * x).mean())
    return (n * shape + 10 * 0.5) / (n + 10)


def importance(case: MetricCase) -> Mapping[str, float]:
    """Kish ESS as a fraction of all weights, and its companions."""
    log_w = case.estimate.ensemble.log_w
    weights = case.estimate.ensemble.weights
    return {
        "ess": ess(log_w),
        "ess_after_cut": ess_of_kept(cut_weights(log_w, "drop")),
        "ess_truncated": ess(cut_weights(log_w, "truncate")),
        "max_weight_share": float(weights.max()),
        "pareto_k": pareto_k(log_w),
        "unique_fraction": unique_fraction(case.estimate.ensemble.x),
    }


def ess_of_kept(log_w: Tensor) -> float:
    """ESS as a fraction of the weights a cut left over (the published denominator)."""
    return ess(log_w[torch.isfinite(log_w)])


def unique_fraction(x: Tensor) -> float:
    """Distinct conformers as a fraction."""
    return len(torch.unique(x.flatten(1), dim=0)) / max(len(x), 1)
