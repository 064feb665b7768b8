"""Schedules of an annealing: t from exactly 0 to exactly 1, evenly or at constant conditional ESS."""

import math

import torch
from torch import Tensor

HALVINGS = 60
"""Bisections for the next t: more than float64 resolves."""


def conditional_ess(log_w: Tensor, increment: Tensor) -> float:
    """Conditional ESS, (Σ W v)²/Σ W v², a fraction, of the increment log v of weights log W.

    Args:
        log_w: Log weights `(n,)` before, not normalised.
        increment: log v `(n,)`.

    Source: Zhou, Johansen, Aston 2016.
    """
    log_weight = torch.log_softmax(log_w, 0)
    alive = torch.isfinite(log_weight)
    first, second = (torch.logsumexp((log_weight + k * increment)[alive], 0) for k in (1, 2))
    return math.exp(float(2 * first - second)) if math.isfinite(float(first)) else 0.0


def step_evenly(step: int, steps: int) -> float:
    """t after increment number `step` (from 1) of `steps`; exactly 1 after the last."""
    return step / steps


def step_by_conditional_ess(t: float, log_w: Tensor, rate: Tensor, target: float) -> float:
    """The next t, at which the conditional ESS falls to `target`, at most 1; `rate (n,)` is d log w/dt."""
    if conditional_ess(log_w, (1 - t) * rate) >= target:
        return 1.0
    low, high = t, 1.0
    for _ in range(HALVINGS):
        middle = 0.5 * (low + high)
        if conditional_ess(log_w, (middle - t) * rate) >= target:
            low = middle
        else:
            high = middle
    return high
