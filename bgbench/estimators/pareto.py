"""The tail of importance weights as a generalised Pareto distribution (Vehtari et al., arXiv 1507.02646).

The fit is that of Zhang and Stephens (Technometrics 51, 2009) with the weak prior of Vehtari et al.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

FEWEST, SHORTEST = 25, 5
"""No tail is fitted to fewer weights, or to fewer of them in the tail."""


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


def fitted_tail(log_w: Tensor) -> Tail | None:
    """The tail of the finite of `log_w (n,)`: min(n/5, 3√n) of them. None with too few, or a flat tail."""
    finite = log_w.double()[torch.isfinite(log_w)]
    n = len(finite)
    size = min(n // 5, math.ceil(3 * math.sqrt(n)))
    if n < FEWEST or size < SHORTEST:
        return None
    w = np.sort(np.exp((finite - finite.max()).numpy()))
    threshold = float(w[-size - 1])
    excess = w[-size:] - threshold
    if excess[-1] <= 0:
        return None
    return Tail(size, threshold, *_generalised_pareto(excess))


def pareto_smoothed(log_w: Tensor) -> Tensor:
    """`log_w (n,)` with its tail replaced by the fit's expected order statistics, none above the largest.

    As it is where no tail can be fitted.
    """
    tail = fitted_tail(log_w)
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
