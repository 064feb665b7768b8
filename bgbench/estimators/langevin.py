"""One Langevin step of many particles at once, and how long it is.

y = x + b(x) + √(2ε) ξ with b = ε ∇ log π, each atom's part of b at most CAP noise widths long (a far-off
particle may feel any force). The noise of samplers whose centre of mass is divided out has mean zero over
the atoms, and so has b: the centre stays, and the density of the centre need not be known.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

CAP = 3.0
"""Longest drift of an atom in units of √(2ε)."""

AIMS = {"mala": 0.575, "ula": 0.95}
"""Mean acceptance aimed at: the published 55–60 %; for steps that are never rejected, nearly all."""

FASTEST = 3.0
"""No step is more than this many times longer or shorter than the one before."""


@dataclass(frozen=True)
class Step:
    """A step of size `size` (nm²), with the centre of mass held where `centred`."""

    size: float
    centred: bool

    def drift(self, gradient: Tensor) -> Tensor:
        """b `(n, atoms, 3)` nm of ∇ log π `(n, atoms, 3)` 1/nm."""
        b = self.size * self._held(torch.nan_to_num(gradient, nan=0.0, posinf=0.0, neginf=0.0))
        limit = CAP * math.sqrt(2 * self.size)
        b = b * (limit / b.norm(dim=-1, keepdim=True).clamp_min(1e-300)).clamp_max(1.0)
        return self._held(b)

    def move(self, x: Tensor, drift: Tensor, generator: torch.Generator) -> Tensor:
        """y `(n, atoms, 3)` nm."""
        noise = torch.randn(x.shape, generator=generator, dtype=x.dtype)
        return x + drift + math.sqrt(2 * self.size) * self._held(noise)

    def log_ratio(self, x: Tensor, drift_x: Tensor, y: Tensor, drift_y: Tensor) -> Tensor:
        """log K(y → x) − log K(x → y), `(n,)`."""
        there = (y - x - drift_x).double().square().sum((1, 2))
        back = (x - y - drift_y).double().square().sum((1, 2))
        return (there - back) / (4 * self.size)

    def _held(self, moved: Tensor) -> Tensor:
        return moved - moved.mean(1, keepdim=True) if self.centred else moved


def first_size(score: Tensor, aim: float) -> float:
    """A step for a density with ∇ log q `score (n, atoms, 3)`: ½ s² d^(−1/3), s² the inverse of the median
    over particles of the mean squared score (of a Gaussian, the mean inverse variance); shorter for a higher
    aim."""
    precision = float(score.double().square().mean((1, 2)).nanmedian())
    degrees = score.shape[1] * score.shape[2]
    size = 0.5 / (precision if 0 < precision < math.inf else 1.0) * degrees ** (-1 / 3)
    return adapted(size, AIMS["mala"], aim)


def adapted(size: float, acceptance: float, aim: float) -> float:
    """The next step: what is rejected of small steps grows as size^(3/2) (Roberts and Rosenthal 1998)."""
    rejected = max(1 - acceptance, 1e-12)
    factor = ((1 - aim) / rejected) ** (2 / 3)
    return size * min(max(factor, 1 / FASTEST), FASTEST)
