"""The sampler: Gaussian noise around the start structure, with its exact density."""

import math
from dataclasses import dataclass

import torch

import bgbench


@dataclass(frozen=True)
class Wobble(bgbench.AbstractDensitySampler):
    """Every coordinate normal around the start structure. The fields are the options of `--set`."""

    card = bgbench.Card("wobble")

    width: float = 0.005
    """Standard deviation of every coordinate, nm."""

    def __post_init__(self) -> None:
        if not 0 < self.width < math.inf:
            raise bgbench.BgbenchError(f"width must be positive, got {self.width:g} nm")

    def draw(self, task: bgbench.Task, n_samples: int) -> bgbench.Proposal:
        start = task.system.positions.float()
        noise = torch.randn(n_samples, *start.shape, generator=task.generator)
        x = start + self.width * noise
        return bgbench.Proposal(x, self.log_prob(task, x))

    def log_prob(self, task: bgbench.Task, x: torch.Tensor) -> torch.Tensor:
        z = (x - task.system.positions.to(x)) / self.width
        constant = 3 * task.system.n_atoms * (math.log(self.width) + 0.5 * math.log(2 * math.pi))
        return -0.5 * z.square().sum((1, 2)) - constant
