"""Where an annealing stands: t from exactly 0 to exactly 1, evenly or by constant conditional ESS."""

import math

import torch
from torch import Tensor

HALVINGS = 60


def conditional_ess(log_w: Tensor, increment: Tensor) -> float:
    """Conditional ESS as a fraction, (Σ W v)²/Σ W v², of `increment` log v `(n,)` on weights `log_w (n,)`.

    Source: Zhou, Johansen, Aston 2016.
    """
    log_share = torch.log_softmax(log_w, 0)
    alive = torch.isfinite(log_share)
    first, second = (torch.logsumexp((log_share + k * increment)[alive], 0) for k in (1, 2))
    return math.exp(float(2 * first - second)) if math.isfinite(float(first)) else 0.0


def even(step: int, steps: int) -> float:
    """t after increment number `step` (from 1) of `steps`; exactly 1 after the last."""
    return step / steps


def by_conditional_ess(t: float, log_w: Tensor, rate: Tensor, aim: float) -> float:
    """The t at which the conditional ESS falls to `aim`, at most 1; `rate (n,)` is d log w/dt."""
    if conditional_ess(log_w, (1 - t) * rate) >= aim:
        return 1.0
    low, high = t, 1.0
    for _ in range(HALVINGS):
        middle = 0.5 * (low + high)
        if conditional_ess(log_w, (middle - t) * rate) >= aim:
            low = middle
        else:
            high = middle
    return high
