"""`mcmc`: time averages over the trajectory of a sampler, its frames equally weighted."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from bgbench.core.abstract import AbstractEstimator, AbstractSampler, Estimate, Task
from bgbench.core.calls import call_sample
from bgbench.core.errors import BgbenchError, registered_name
from bgbench.core.options import parse_options
from bgbench.core.types import Ensemble
from bgbench.estimators.controls import mean_energy
from bgbench.estimators.handedness import apply_chirality_rule

BLOCKS = 20
"""Blocks of equal length that the trajectory is divided into for standard errors."""


@dataclass(frozen=True)
class MCMC(AbstractEstimator):
    """The sampler spends the budget on a trajectory and returns frames evenly over it, with their energies.

    Frames near in time are correlated: standard errors are those of the means of blocks of the trajectory.
    """

    @classmethod
    def build(cls, options: Mapping[str, str]) -> "MCMC":
        """Build the estimator, which has no options.

        Raises:
            BgbenchError: for any option.
        """
        return parse_options(cls, options, owner="estimator mcmc", prefix="estimator")

    def estimate(self, sampler: AbstractSampler, task: Task) -> Estimate:
        proposal = call_sample(sampler, task, min(task.n_samples, task.oracle.remaining))
        if proposal.u is None:
            raise BgbenchError(
                f"{registered_name(sampler)} returned no energies: it makes no trajectory; use "
                "--estimator none"
            )
        _, rates = apply_chirality_rule(task.system, proposal, "zero")
        ensemble = Ensemble.unweighted(proposal.x, proposal.u)
        block = torch.arange(len(proposal.x)) * BLOCKS // max(len(proposal.x), 1)
        diagnostics = {"handedness": rates, "mean_energy": mean_energy(proposal.u, ensemble.weights, block)}
        return Estimate(ensemble, proposal, diagnostics, group=block)
