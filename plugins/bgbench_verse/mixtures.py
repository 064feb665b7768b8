"""Mixtures on the circle and on the line: log density and draws, each from the same parameters."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

BROAD_LOGIT = -5.0
"""Where the broad component's logit starts: it keeps q from vanishing where the data were thin."""

IMAGES = (-1, 0, 1)


@dataclass(frozen=True)
class Circular:
    """Wrapped normals and one broad one: wrapped normal about the first centre's place, or uniform.

    `logit`, `centre`, `width (…, k)`, the last component being the broad one, of `broad (…,)` width (inf:
    uniform). Widths stay below π, so that three images are the whole of it.
    """

    logit: Tensor
    centre: Tensor
    width: Tensor
    broad: Tensor

    def log_prob(self, phi: Tensor) -> Tensor:
        """log density per rad `(…,)` at φ `(…,)`."""
        gap = torch.remainder(phi[..., None] - self.centre + math.pi, 2 * math.pi) - math.pi
        width, even = self._widths()
        terms = [-0.5 * ((gap + 2 * math.pi * k) / width) ** 2 for k in IMAGES]
        wrapped = torch.logsumexp(torch.stack(terms), dim=0) - torch.log(width) - 0.5 * math.log(2 * math.pi)
        each = torch.where(even, -math.log(2 * math.pi), wrapped)
        return torch.logsumexp(self._log_share() + each, dim=-1)

    def cdf(self, phi: Tensor) -> Tensor:
        """∫ of the density from wherever this branch starts to φ, `(…,)`: its slope is the density."""
        gap = torch.remainder(phi[..., None] - self.centre + math.pi, 2 * math.pi) - math.pi
        width, even = self._widths()
        wrapped = sum(torch.special.ndtr((gap + 2 * math.pi * k) / width) for k in IMAGES)
        each = torch.where(even, phi[..., None] / (2 * math.pi), wrapped)
        return (torch.exp(self._log_share()) * each).sum(-1)

    def mass(self, middle: Tensor, half: Tensor) -> Tensor:
        """Probability `(…,)` of the arc from `middle` − `half` to `middle` + `half`, `half` ≤ π."""
        width, even = self._widths()
        gap = torch.remainder(middle[..., None] - self.centre + math.pi, 2 * math.pi) - math.pi
        edge = half[..., None]
        wrapped = sum(
            torch.special.ndtr((gap + edge + 2 * math.pi * k) / width)
            - torch.special.ndtr((gap - edge + 2 * math.pi * k) / width)
            for k in IMAGES
        )
        each = torch.where(even, edge / math.pi, wrapped)
        return (torch.exp(self._log_share()) * each).sum(-1)

    def draw(self, generator: torch.Generator) -> Tensor:
        """One φ in (−π, π] for each, `(…,)`."""
        pick = choose(self._log_share(), generator)
        width, even = (part.gather(-1, pick)[..., 0] for part in self._widths())
        centre = self.centre.gather(-1, pick)[..., 0]
        noise = torch.randn(centre.shape, generator=generator, dtype=centre.dtype)
        turn = 2 * math.pi * torch.rand(centre.shape, generator=generator, dtype=centre.dtype)
        phi = torch.where(even, turn, centre + width * noise)
        return torch.remainder(phi + math.pi, 2 * math.pi) - math.pi

    def _log_share(self) -> Tensor:
        return torch.log_softmax(lowered(self.logit), dim=-1)

    def _widths(self) -> tuple[Tensor, Tensor]:
        """Widths, and which component is uniform, `(…, k)` each."""
        last = torch.arange(self.width.shape[-1]) == self.width.shape[-1] - 1
        broad = self.broad[..., None].expand_as(self.width)
        even = last & torch.isinf(broad)
        width = torch.where(last & ~even, broad, self.width)
        return width.clamp(0.01, 1.5), even


@dataclass(frozen=True)
class Line:
    """Normals, the last one `broad` wide; `log_width`: of the others. Parameters `(…, k)`."""

    logit: Tensor
    centre: Tensor
    log_width: Tensor
    broad: float

    def log_prob(self, value: Tensor) -> Tensor:
        """log density `(…,)` at `value (…,)`."""
        log_width = self._log_widths()
        gap = (value[..., None] - self.centre) * torch.exp(-log_width)
        each = -0.5 * gap**2 - log_width - 0.5 * math.log(2 * math.pi)
        return torch.logsumexp(torch.log_softmax(lowered(self.logit), dim=-1) + each, dim=-1)

    def cdf(self, value: Tensor) -> Tensor:
        """Cumulative distribution `(…,)` at `value (…,)`."""
        gap = (value[..., None] - self.centre) * torch.exp(-self._log_widths())
        share = torch.softmax(lowered(self.logit), dim=-1)
        return (share * torch.special.ndtr(gap)).sum(-1)

    def draw(self, generator: torch.Generator) -> Tensor:
        """One value for each, `(…,)`."""
        pick = choose(torch.log_softmax(lowered(self.logit), dim=-1), generator)
        centre = self.centre.gather(-1, pick)[..., 0]
        width = torch.exp(self._log_widths().gather(-1, pick)[..., 0])
        return centre + width * torch.randn(centre.shape, generator=generator, dtype=centre.dtype)

    def _log_widths(self) -> Tensor:
        last = torch.arange(self.logit.shape[-1]) == self.logit.shape[-1] - 1
        return torch.where(last, math.log(self.broad), self.log_width)


def lowered(logit: Tensor) -> Tensor:
    """Logits with the broad component, the last, started low."""
    last = torch.arange(logit.shape[-1]) == logit.shape[-1] - 1
    return logit + torch.where(last, BROAD_LOGIT, 0.0)


def choose(log_share: Tensor, generator: torch.Generator) -> Tensor:
    """Indices `(…, 1)` drawn from `log_share (…, k)`."""
    edges = torch.cumsum(torch.exp(log_share), dim=-1)
    place = torch.rand((*edges.shape[:-1], 1), generator=generator, dtype=edges.dtype) * edges[..., -1:]
    return torch.searchsorted(edges, place).clamp_max(edges.shape[-1] - 1)
