"""The estimator: importance weights, raised to a power."""

from dataclasses import dataclass

import torch

import bgbench


@dataclass(frozen=True)
class PowerWeights(bgbench.AbstractEstimator):
    """log w = power · (−u − log q). The fields are the options of `--set estimator.NAME=VALUE`."""

    power: float = 1.0
    """1: unbiased weights; 0: equal ones."""

    def check_sampler(self, sampler: bgbench.AbstractSampler) -> None:
        if not isinstance(sampler, bgbench.AbstractDensitySampler):
            raise bgbench.BgbenchError(f"{type(sampler).__name__} has no density to weight by")

    def estimate(self, sampler: bgbench.AbstractSampler, task: bgbench.Task) -> bgbench.Estimate:
        proposal = sampler.sample(task, task.oracle.remaining)
        u = task.oracle.energy(proposal.x)
        log_w = self.power * (-u - proposal.log_q).double()
        log_w = torch.where(torch.isfinite(log_w), log_w, -torch.inf)
        return bgbench.Estimate(
            bgbench.Ensemble(proposal.x, u, log_w), proposal, diagnostics={"power_of_weights": self.power}
        )
