"""Mixtures of normals on the circle and on the line: density, cumulative distribution and samples.

On the circle a component is a wrapped normal,

    p(φ) = Σ_k N(φ + 2πk; μ, σ²),   k = −1, 0, 1 being enough for σ ≤ 1.5 rad,

and on the line a normal. The last component of either mixture is broad and starts with little weight: it
keeps q from vanishing where the training data were thin, which importance weights p/q need. φ is in rad;
values on the line are standardised and have no unit.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

import bgbench.data

BROAD_LOGIT = -5.0
"""Added to the logit of the broad component, so that training starts with little weight on it."""

IMAGES = (-1, 0, 1)
"""Periodic images of a wrapped normal that are summed."""


@dataclass(frozen=True)
class WrappedNormalMixture:
    """Wrapped normals, the last one broad: as wide as `broad`, or uniform where that is infinite.

    Attributes:
        logit: `(…, k)`, of the weights before `BROAD_LOGIT`.
        centre: `(…, k)`, rad.
        width: `(…, k)`, rad; that of the last component is not used.
        broad: `(…,)`, rad, the width of the last component, about its own centre.
    """

    logit: Tensor
    centre: Tensor
    width: Tensor
    broad: Tensor

    def log_prob(self, phi: Tensor) -> Tensor:
        """log density per rad `(…,)` at φ `(…,)`."""
        difference = torch.remainder(phi[..., None] - self.centre + math.pi, 2 * math.pi) - math.pi
        width, is_uniform = self._widths()
        terms = [-0.5 * ((difference + 2 * math.pi * k) / width) ** 2 for k in IMAGES]
        wrapped = torch.logsumexp(torch.stack(terms), dim=0) - torch.log(width) - 0.5 * math.log(2 * math.pi)
        component = torch.where(is_uniform, -math.log(2 * math.pi), wrapped)
        return torch.logsumexp(self._log_weights() + component, dim=-1)

    def cdf(self, phi: Tensor) -> Tensor:
        """A function of φ `(…,)` whose slope is the density; its value at −π differs between mixtures."""
        difference = torch.remainder(phi[..., None] - self.centre + math.pi, 2 * math.pi) - math.pi
        width, is_uniform = self._widths()
        wrapped = sum(torch.special.ndtr((difference + 2 * math.pi * k) / width) for k in IMAGES)
        component = torch.where(is_uniform, phi[..., None] / (2 * math.pi), wrapped)
        return (torch.exp(self._log_weights()) * component).sum(-1)

    def arc_mass(self, middle: Tensor, half_length: Tensor) -> Tensor:
        """Probability `(…,)` of the arc `middle` ± `half_length` `(…,)` rad, `half_length` ≤ π."""
        width, is_uniform = self._widths()
        difference = torch.remainder(middle[..., None] - self.centre + math.pi, 2 * math.pi) - math.pi
        edge = half_length[..., None]
        wrapped = sum(
            torch.special.ndtr((difference + edge + 2 * math.pi * k) / width)
            - torch.special.ndtr((difference - edge + 2 * math.pi * k) / width)
            for k in IMAGES
        )
        component = torch.where(is_uniform, edge / math.pi, wrapped)
        return (torch.exp(self._log_weights()) * component).sum(-1)

    def sample(self, generator: torch.Generator) -> Tensor:
        """One φ in (−π, π] each, `(…,)`."""
        component = sample_component(self._log_weights(), generator)
        width, is_uniform = (part.gather(-1, component)[..., 0] for part in self._widths())
        centre = self.centre.gather(-1, component)[..., 0]
        noise = bgbench.data.normal_noise(generator, centre.shape, centre)
        uniform = 2 * math.pi * bgbench.data.uniform_noise(generator, centre.shape, centre)
        phi = torch.where(is_uniform, uniform, centre + width * noise)
        return torch.remainder(phi + math.pi, 2 * math.pi) - math.pi

    def _log_weights(self) -> Tensor:
        return torch.log_softmax(lower_broad_logit(self.logit), dim=-1)

    def _widths(self) -> tuple[Tensor, Tensor]:
        """Widths, and which component is uniform, `(…, k)` each."""
        last = torch.arange(self.width.shape[-1], device=self.width.device) == self.width.shape[-1] - 1
        broad = self.broad[..., None].expand_as(self.width)
        is_uniform = last & torch.isinf(broad)
        width = torch.where(last & ~is_uniform, broad, self.width)
        return width.clamp(0.01, 1.5), is_uniform


@dataclass(frozen=True)
class GaussianMixture:
    """Normals on the line, the last one `broad` wide.

    Attributes:
        logit: `(…, k)`, of the weights before `BROAD_LOGIT`.
        centre: `(…, k)`.
        log_width: `(…, k)`; that of the last component is not used.
        broad: The width of the last component.
    """

    logit: Tensor
    centre: Tensor
    log_width: Tensor
    broad: float

    def log_prob(self, value: Tensor) -> Tensor:
        """log density `(…,)` at `value (…,)`."""
        log_width = self._log_widths()
        difference = (value[..., None] - self.centre) * torch.exp(-log_width)
        component = -0.5 * difference**2 - log_width - 0.5 * math.log(2 * math.pi)
        return torch.logsumexp(self._log_weights() + component, dim=-1)

    def cdf(self, value: Tensor) -> Tensor:
        """Cumulative distribution `(…,)` at `value (…,)`."""
        difference = (value[..., None] - self.centre) * torch.exp(-self._log_widths())
        weight = torch.softmax(lower_broad_logit(self.logit), dim=-1)
        return (weight * torch.special.ndtr(difference)).sum(-1)

    def sample(self, generator: torch.Generator) -> Tensor:
        """One value each, `(…,)`."""
        component = sample_component(self._log_weights(), generator)
        centre = self.centre.gather(-1, component)[..., 0]
        width = torch.exp(self._log_widths().gather(-1, component)[..., 0])
        return centre + width * bgbench.data.normal_noise(generator, centre.shape, centre)

    def _log_weights(self) -> Tensor:
        return torch.log_softmax(lower_broad_logit(self.logit), dim=-1)

    def _log_widths(self) -> Tensor:
        last = torch.arange(self.logit.shape[-1], device=self.logit.device) == self.logit.shape[-1] - 1
        return torch.where(last, math.log(self.broad), self.log_width)


def lower_broad_logit(logit: Tensor) -> Tensor:
    """`logit (…, k)` with `BROAD_LOGIT` added to the last component."""
    last = torch.arange(logit.shape[-1], device=logit.device) == logit.shape[-1] - 1
    return logit + torch.where(last, BROAD_LOGIT, 0.0)


def sample_component(log_weights: Tensor, generator: torch.Generator) -> Tensor:
    """Indices `(…, 1)` of components with weights `exp(log_weights) (…, k)`."""
    edges = torch.cumsum(torch.exp(log_weights), dim=-1)
    fraction = bgbench.data.uniform_noise(generator, (*edges.shape[:-1], 1), edges)
    position = fraction * edges[..., -1:]
    return torch.searchsorted(edges, position).clamp_max(edges.shape[-1] - 1)
