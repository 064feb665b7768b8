"""The prior: what a sampler knows before it has learnt anything."""

import math
from collections.abc import Mapping

import torch

import bgbench


class Prior(bgbench.AbstractDensitySampler):
    """Every coordinate normal around the start structure, with `width` nm; its density is exact."""

    def __init__(self, width: float = 0.02) -> None:
        if not 0 < width < math.inf:
            raise bgbench.BgbenchError(f"prior: width must be a positive number of nm, got {width}")
        self.width = width

    @classmethod
    def from_options(cls, options: Mapping[str, str]) -> "Prior":
        """Option `width`, nm.

        Raises:
            BgbenchError: for another option or a value that is no number.
        """
        unknown = sorted(set(options) - {"width"})
        if unknown:
            raise bgbench.BgbenchError(f"prior has no option {', '.join(unknown)}; it has width")
        try:
            return cls(**{name: float(value) for name, value in options.items()})
        except ValueError as error:
            raise bgbench.BgbenchError(f"prior: {error}") from error

    def draw(self, task: bgbench.Task, n_samples: int) -> bgbench.Proposal:
        start = task.system.positions
        noise = torch.randn(n_samples, *start.shape, generator=task.generator, dtype=start.dtype)
        x = start + self.width * noise
        task.oracle.count("drawn", n_samples, 0.0)
        return bgbench.Proposal(x, self.log_prob(task, x))

    def log_prob(self, task: bgbench.Task, x: torch.Tensor) -> torch.Tensor:
        z = (x - task.system.positions.to(x)) / self.width
        constant = 3 * task.system.n_atoms * (math.log(self.width) + 0.5 * math.log(2 * math.pi))
        return -0.5 * z.square().sum((1, 2)) - constant

    def latent(self, task: bgbench.Task, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        z = (x - task.system.positions.to(x)) / self.width
        log_det = -3 * task.system.n_atoms * math.log(self.width)
        return z, torch.full((len(x),), log_det, dtype=x.dtype)
