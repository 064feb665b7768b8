"""The smallest useful plugin: Gaussian noise around the start structure, with its exact density."""

import math

import torch

import bgbench


class Wobble(bgbench.AbstractDensitySampler):
    """Every coordinate N(start, width²), nm."""

    def __init__(self, width: float) -> None:
        self.width = width

    def draw(self, task: bgbench.Task, n_samples: int) -> bgbench.Proposal:
        start = task.system.positions.float()
        noise = torch.randn(n_samples, *start.shape, generator=task.generator)
        x = start + self.width * noise
        return bgbench.Proposal(x, self.log_prob(task, x))

    def log_prob(self, task: bgbench.Task, x: torch.Tensor) -> torch.Tensor:
        z = (x - task.system.positions.to(x)) / self.width
        constant = 3 * task.system.n_atoms * (math.log(self.width) + 0.5 * math.log(2 * math.pi))
        return -0.5 * z.square().sum((1, 2)) - constant


@bgbench.hookimpl
def bgbench_samplers() -> list[bgbench.SamplerPlugin]:
    return [
        bgbench.SamplerPlugin(
            name="wobble",
            summary="Gaussian noise around the start structure",
            build=lambda options: Wobble(float(options.get("width", "0.005"))),
            card=lambda options: bgbench.Card(name="wobble"),
            estimator="snis",
        )
    ]
