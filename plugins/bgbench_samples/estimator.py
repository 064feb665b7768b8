"""`stored-weights`: the weights that samples come with."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch

import bgbench
from bgbench_samples.sampler import Samples


@dataclass(frozen=True)
class StoredWeights(bgbench.AbstractEstimator):
    """Frames of files with the weights that these hold; each of their energies is charged.

    A frame without a finite energy gets no weight, and neither does one without finite positions.
    """

    @classmethod
    def build(cls, options: Mapping[str, str]) -> "StoredWeights":
        """Build the estimator, which has no options.

        Raises:
            BgbenchError: for any option.
        """
        return bgbench.parse_options(cls, options, owner="estimator stored-weights", prefix="estimator")

    def check_sampler(self, sampler: bgbench.AbstractSampler) -> None:
        if not isinstance(sampler, Samples) or sampler.options.weights is None:
            raise bgbench.BgbenchError(
                "--estimator stored-weights is for samples with --set weights=FILE; name another estimator"
            )

    def estimate(self, sampler: bgbench.AbstractSampler, task: bgbench.Task) -> bgbench.Estimate:
        self.check_sampler(sampler)
        if not isinstance(sampler, Samples):
            raise TypeError(f"{type(sampler).__name__} has no stored weights")
        proposal, log_w = sampler.weighted(task, task.oracle.remaining)
        u = task.oracle.energy(proposal.x)
        log_w = log_w.masked_fill(~torch.isfinite(u), -torch.inf)
        if not bool(torch.isfinite(log_w).any()):
            raise bgbench.BgbenchError("none of the weighted samples has a finite energy")
        return bgbench.Estimate(bgbench.Ensemble(proposal.x, u, log_w), proposal)
