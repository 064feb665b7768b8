"""One Langevin step of many particles at once, and the choice of its size.

y = x + b(x) + √(2ε) ξ with b = ε ∇ log π, each atom's part of b at most LONGEST_DRIFT noise widths long (a
particle far from the target may feel any force). For samplers whose centre of mass is divided out, noise and
b have mean zero over the atoms: the centre stays, and the density of the centre need not be known.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

LONGEST_DRIFT = 3.0
"""Longest drift of an atom in units of √(2ε)."""

TARGET_ACCEPTANCE = {"mala": 0.575, "ula": 0.95}
"""Mean acceptance that the step size is adapted to, by kernel: for `mala` the published 55–60 %; for `ula`,
whose steps are not rejected, nearly all."""

LARGEST_CHANGE = 3.0
"""Largest factor between the sizes of two steps in turn."""


@dataclass(frozen=True)
class LangevinStep:
    """A step of size `size` ε (nm²); with `centred` the centre of mass stays where it is."""

    size: float
    centred: bool

    def drift(self, gradient: Tensor) -> Tensor:
        """b `(n, atoms, 3)` nm of ∇ log π `(n, atoms, 3)` 1/nm."""
        b = self.size * self._centre(torch.nan_to_num(gradient, nan=0.0, posinf=0.0, neginf=0.0))
        limit = LONGEST_DRIFT * math.sqrt(2 * self.size)
        b = b * (limit / b.norm(dim=-1, keepdim=True).clamp_min(1e-300)).clamp_max(1.0)
        return self._centre(b)

    def move(self, x: Tensor, drift: Tensor, generator: torch.Generator) -> Tensor:
        """y `(n, atoms, 3)` nm."""
        noise = torch.randn(x.shape, generator=generator, dtype=x.dtype)
        return x + drift + math.sqrt(2 * self.size) * self._centre(noise)

    def log_ratio(self, x: Tensor, drift_x: Tensor, y: Tensor, drift_y: Tensor) -> Tensor:
        """log K(y → x) − log K(x → y), `(n,)`."""
        there = (y - x - drift_x).double().square().sum((1, 2))
        back = (x - y - drift_y).double().square().sum((1, 2))
        return (there - back) / (4 * self.size)

    def _centre(self, moved: Tensor) -> Tensor:
        return moved - moved.mean(1, keepdim=True) if self.centred else moved


def initial_size(score: Tensor, acceptance: float) -> float:
    """Step size (nm²) to begin with, ½ s² d^(−1/3), shorter where a higher acceptance is wanted.

    Args:
        score: ∇ log q `(n, atoms, 3)`, 1/nm. s² is the inverse of the median over particles of the mean
            squared score (of a Gaussian, the mean inverse variance); d is the number of coordinates.
        acceptance: The mean acceptance wanted.
    """
    precision = float(score.double().square().mean((1, 2)).nanmedian())
    degrees = score.shape[1] * score.shape[2]
    size = 0.5 / (precision if 0 < precision < math.inf else 1.0) * degrees ** (-1 / 3)
    return adapt_size(size, TARGET_ACCEPTANCE["mala"], acceptance)


def adapt_size(size: float, acceptance: float, target: float) -> float:
    """The next step size (nm²), from a step of `size` that had the mean `acceptance`, towards the `target`.

    The rejected fraction of small steps grows as size^(3/2) (Roberts and Rosenthal 1998).
    """
    rejected = max(1 - acceptance, 1e-12)
    factor = ((1 - target) / rejected) ** (2 / 3)
    return size * min(max(factor, 1 / LARGEST_CHANGE), LARGEST_CHANGE)
