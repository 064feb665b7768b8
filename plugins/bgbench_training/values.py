"""Numbers that a network in training is judged by."""

import math
from collections.abc import Iterable

import torch
from torch import Tensor


def share(log_w: Tensor) -> float:
    """(Σw)²/Σw² / N; zero where no weight is finite."""
    log_w = torch.where(torch.isfinite(log_w), log_w, -torch.inf)
    if not bool(torch.isfinite(log_w).any()):
        return 0.0
    return math.exp(2 * torch.logsumexp(log_w, 0) - torch.logsumexp(2 * log_w, 0)) / len(log_w)


def mean(values: Iterable[float]) -> float:
    """Arithmetic mean."""
    numbers = list(values)
    return sum(numbers) / len(numbers)
