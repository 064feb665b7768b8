"""The tail of importance weights as a generalised Pareto distribution (Vehtari et al., arXiv 1507.02646).

The fit is that of Zhang and Stephens (Technometrics 51, 2009) with the weak prior of Vehtari et al.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

FEWEST_WEIGHTS = 25
"""Fewer weights than this have no tail to fit."""

SHORTEST_TAIL = 5
"""Fewest weights that a tail is fitted to."""


HEAVIEST_TAIL = 0.7
"""k̂ above which averages converge too slowly for their errors to mean anything (Vehtari et al.)."""

FEWEST_EFFECTIVE = 100
"""Effective points below which an error by the delta method is too small too often."""


@dataclass(frozen=True)
class Tail:
    """The `size` largest weights: they exceed `threshold` as a generalised Pareto of `shape` and `scale`.

    Weights are relative to the largest.
    """

    size: int
    threshold: float
    shape: float
    scale: float

    def quantiles(self) -> np.ndarray:
        """Expected order statistics `(size,)`: threshold + F⁻¹((z − ½)/size), z = 1 … size."""
        left = -np.log1p(-(np.arange(self.size) + 0.5) / self.size)
        if abs(self.shape) < 1e-12:
            return self.threshold + self.scale * left
        return self.threshold + self.scale * np.expm1(self.shape * left) / self.shape


def fit_tail(log_w: Tensor) -> Tail | None:
    """Fit the min(n/5, 3√n) largest of the finite `log_w (n,)`; None for too few weights or a flat tail."""
    finite = log_w.double()[torch.isfinite(log_w)]
    n = len(finite)
    size = min(n // 5, math.ceil(3 * math.sqrt(n)))
    if n < FEWEST_WEIGHTS or size < SHORTEST_TAIL:
        return None
    w = np.sort(np.exp((finite - finite.max()).numpy()))
    threshold = float(w[-size - 1])
    excess = w[-size:] - threshold
    if excess[-1] <= 0:
        return None
    return Tail(size, threshold, *_generalised_pareto(excess))


def errors_known(log_w: Tensor) -> bool:
    """Whether standard errors of averages by the independent weights `log_w (n,)` mean anything.

    They do not where the tail is heavier than `HEAVIEST_TAIL`, or with fewer than `FEWEST_EFFECTIVE`
    effective points: few draws from a density that is too narrow look even, and miss what it misses.

    >>> errors_known(torch.zeros(100)), errors_known(torch.zeros(99))
    (True, False)
    """
    tail, log_w = fit_tail(log_w), log_w.double()
    log_points = float(2 * torch.logsumexp(log_w, 0) - torch.logsumexp(2 * log_w, 0))
    enough = log_points >= math.log(FEWEST_EFFECTIVE) - 1e-9
    return enough and (tail is None or tail.shape <= HEAVIEST_TAIL)


def smooth_tail(log_w: Tensor) -> Tensor:
    """`log_w (n,)` with its tail replaced by expected order statistics of the fit, none above the largest.

    Weights whose tail cannot be fitted stay as they are.
    """
    tail = fit_tail(log_w)
    if tail is None:
        return log_w
    order = torch.argsort(log_w, stable=True)[-tail.size :]
    smooth = np.log(np.clip(tail.quantiles(), 1e-300, 1.0))
    return log_w.double().index_put((order,), torch.from_numpy(smooth) + float(log_w.max()))


def _generalised_pareto(x: np.ndarray) -> tuple[float, float]:
    """Posterior mean of shape and scale for sorted excesses."""
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
    return (n * shape + 10 * 0.5) / (n + 10), -shape / mean_b
