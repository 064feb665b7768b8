"""Numbers that a network in training is judged by."""

from collections.abc import Iterable

import torch
from torch import Tensor

from bgbench import ess


def ess_fraction(log_w: Tensor) -> float:
    """Kish's ESS as a fraction, (Σw)²/(N Σw²); weights that are not finite count as zero."""
    return ess(torch.where(torch.isfinite(log_w), log_w, -torch.inf))


def mean(values: Iterable[float]) -> float:
    """Arithmetic mean."""
    numbers = list(values)
    return sum(numbers) / len(numbers)
