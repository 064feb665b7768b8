"""A mixture of normals truncated to an interval, so that r stays positive and θ off 0 and π.

With density p and cumulative distribution F of the mixture, on low ≤ y ≤ high

    p_truncated(y) = p(y) / (F(high) − F(low)).

Where the mixture leaves less than `LEAST_MASS` to the interval, the truncated density is uniform instead:
sampling by rejection would not end, and the quotient would lose its digits. Sampling and density share this
rule. Values and bounds are standardised coordinates, without a unit.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

import bgbench.data
from bgbench_verse.mixtures import GaussianMixture

LEAST_MASS = 0.01
"""The least probability of the interval under the mixture; with less, the density is uniform."""


@dataclass(frozen=True)
class Bounds:
    """Where an interval begins and ends, `(…,)` each, standardised."""

    low: Tensor
    high: Tensor


@dataclass(frozen=True)
class TruncatedMixture:
    """`mixture` conditioned on lying within `bounds`."""

    mixture: GaussianMixture
    bounds: Bounds

    def log_prob(self, value: Tensor) -> Tensor:
        """log density `(…,)` at `value (…,)`; −inf outside the bounds."""
        low, high = self.bounds.low, self.bounds.high
        mass = self.mixture.cdf(high) - self.mixture.cdf(low)
        inside = self.mixture.log_prob(value) - torch.log(mass.clamp_min(LEAST_MASS))
        inside = torch.where(mass < LEAST_MASS, -torch.log(high - low), inside)
        return torch.where((value >= low) & (value <= high), inside, -torch.inf)

    def cdf(self, value: Tensor) -> Tensor:
        """Cumulative distribution `(…,)` at `value (…,)`."""
        low, high = self.bounds.low, self.bounds.high
        start = self.mixture.cdf(low)
        mass = self.mixture.cdf(high) - start
        truncated = (self.mixture.cdf(value) - start) / mass.clamp_min(LEAST_MASS)
        return torch.where(mass < LEAST_MASS, (value - low) / (high - low), truncated)

    def sample(self, generator: torch.Generator) -> Tensor:
        """One value each, `(…,)`, by rejection."""
        low, high = self.bounds.low, self.bounds.high
        is_uniform = self.mixture.cdf(high) - self.mixture.cdf(low) < LEAST_MASS
        value = self.mixture.sample(generator)
        if bool(is_uniform.any()):
            fraction = bgbench.data.uniform_noise(generator, value.shape, value)
            value = torch.where(is_uniform, low + (high - low) * fraction, value)
        while bool((rejected := ~is_uniform & ((value < low) | (value > high))).any()):
            value = torch.where(rejected, self.mixture.sample(generator), value)
        return value
