"""Quality of the importance weights: ESS over all weights, and how far to trust it."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from bgbench.core.abstract import Estimate, MetricCase
from bgbench.core.types import Draws
from bgbench.estimators.pareto import fit_tail
from bgbench.estimators.weights import cut_weights, ess
from bgbench.systems.faults import has_fault


def pareto_k(log_w: Tensor) -> float:
    """Shape of the generalised Pareto tail of the weights `log_w (n,)` (arXiv 1507.02646).

    Above 0.7 the estimates are not to be trusted. NaN with fewer than 25 weights or a flat tail.
    """
    tail = fit_tail(log_w)
    return math.nan if tail is None else tail.shape


def importance(case: MetricCase) -> Mapping[str, float]:
    """Kish's ESS as a fraction of all weights, and its companions.

    Returns:
        `ess`; `ess_after_cut`, of the weights that the published cut leaves, and `ess_truncated`, with the
        largest ones truncated instead; `max_weight_share`, the largest fraction of the weight on one point;
        `pareto_k`; and `unique_fraction`, the fraction of distinct conformers.
    """
    log_w = case.estimate.log_w
    weights = torch.softmax(log_w.double(), 0)
    return {
        "ess": ess(log_w),
        "ess_after_cut": ess_of_finite(cut_weights(log_w, "drop")),
        "ess_truncated": ess(cut_weights(log_w, "truncate")),
        "max_weight_share": float(weights.max()),
        "pareto_k": pareto_k(log_w),
        "unique_fraction": distinct_fraction(case.estimate),
    }


def ess_of_finite(log_w: Tensor) -> float:
    """ESS as a fraction of the weights that are not zero: the denominator of the published ESS."""
    return ess(log_w[torch.isfinite(log_w)])


def distinct_fraction(estimate: Estimate) -> float:
    """The fraction of an estimate's points whose conformer no earlier point has; NaN where nobody looked."""
    draws = estimate.draws
    if draws is None:
        return unique_fraction(estimate.ensemble.x)
    distinct = count_distinct(draws)
    return math.nan if distinct is None else distinct / draws.n


def count_distinct(draws: Draws) -> int | None:
    """The number of draws whose conformer no earlier one has; None where nobody looked."""
    return None if draws.faults is None else int((~has_fault(draws.faults, "copy")).sum())


def unique_fraction(x: Tensor) -> float:
    """The fraction of conformers `x (n, atoms, 3)` that are distinct."""
    return len(torch.unique(x.flatten(1), dim=0)) / max(len(x), 1)
