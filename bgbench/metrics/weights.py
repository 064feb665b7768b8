"""Importance-weight hygiene: ESS over all weights, with what tells how far to trust it."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from bgbench.core.abstract import MetricCase
from bgbench.estimators.pareto import fit_tail
from bgbench.estimators.weights import cut_weights, ess


def pareto_k(log_w: Tensor) -> float:
    """Shape of the generalised Pareto tail of the weights (arXiv 1507.02646).

    Above 0.7 the estimates are not to be trusted. NaN with fewer than 25 weights or a flat tail.
    """
    tail = fit_tail(log_w)
    return math.nan if tail is None else tail.shape


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
