"""A mixture held between two ends, so that r stays positive and θ off 0 and π, in draws and density alike."""

from dataclasses import dataclass

import torch
from torch import Tensor

from bgbench_verse.mixtures import Line

LEAST = 0.01
"""Least probability that a conditional leaves to where it is held; where it leaves less, it is uniform."""

Ends = tuple[Tensor, Tensor]
"""Where from and where to, `(…,)` each, standardised."""


@dataclass(frozen=True)
class Held:
    """`line`, conditioned on lying between `ends`."""

    line: Line
    ends: Ends

    def log_prob(self, value: Tensor) -> Tensor:
        """log density `(…,)` at `value (…,)`; −inf beyond the ends."""
        low, high = self.ends
        mass = self.line.cdf(high) - self.line.cdf(low)
        inside = self.line.log_prob(value) - torch.log(mass.clamp_min(LEAST))
        inside = torch.where(mass < LEAST, -torch.log(high - low), inside)
        return torch.where((value >= low) & (value <= high), inside, -torch.inf)

    def cdf(self, value: Tensor) -> Tensor:
        """Cumulative distribution `(…,)` at `value (…,)`."""
        low, high = self.ends
        start = self.line.cdf(low)
        mass = self.line.cdf(high) - start
        held = (self.line.cdf(value) - start) / mass.clamp_min(LEAST)
        return torch.where(mass < LEAST, (value - low) / (high - low), held)

    def draw(self, generator: torch.Generator) -> Tensor:
        """One value for each, drawn again until it lies between the ends."""
        low, high = self.ends
        thin = self.line.cdf(high) - self.line.cdf(low) < LEAST
        value = self.line.draw(generator)
        if bool(thin.any()):
            even = torch.rand(value.shape, generator=generator, dtype=value.dtype)
            value = torch.where(thin, low + (high - low) * even, value)
        while bool((out := ~thin & ((value < low) | (value > high))).any()):
            value = torch.where(out, self.line.draw(generator), value)
        return value
