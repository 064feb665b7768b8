"""The prior: what a sampler knows before it has learnt anything."""

import math
from dataclasses import dataclass

import torch

import bgbench


@dataclass(frozen=True)
class Prior(bgbench.AbstractDensitySampler, bgbench.Invertible):
    """Every coordinate normal around the start structure; the density is exact."""

    card = bgbench.Card("prior")

    width: float = 0.02
    """Standard deviation of every coordinate, nm."""

    def __post_init__(self) -> None:
        if not 0 < self.width < math.inf:
            raise bgbench.BgbenchError(f"width must be positive, got {self.width:g} nm")

    def draw(self, task: bgbench.Task, n_samples: int) -> bgbench.Proposal:
        start = task.system.positions.to(task.device)
        x = start + self.width * task.normal(n_samples, *start.shape, dtype=start.dtype)
        task.oracle.count("drawn", n_samples, 0.0)
        return bgbench.Proposal(x, self.log_prob(task, x))

    def log_prob(self, task: bgbench.Task, x: torch.Tensor) -> torch.Tensor:
        x = x.to(task.device)
        z = (x - task.system.positions.to(x)) / self.width
        constant = 3 * task.system.n_atoms * (math.log(self.width) + 0.5 * math.log(2 * math.pi))
        return -0.5 * z.square().sum((1, 2)) - constant

    def latent(self, task: bgbench.Task, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        x = x.to(task.device)
        z = (x - task.system.positions.to(x)) / self.width
        return z, x.new_full((len(x),), -3 * task.system.n_atoms * math.log(self.width))
