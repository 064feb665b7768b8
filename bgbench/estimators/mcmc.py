"""`mcmc`: time averages of a sampler that walks; its frames, equally weighted."""

from collections.abc import Mapping

import torch

from bgbench.core.abstract import AbstractEstimator, AbstractSampler, Estimate, Task
from bgbench.core.errors import BgbenchError
from bgbench.core.options import nothing
from bgbench.core.types import Ensemble
from bgbench.estimators.controls import mean_energy
from bgbench.estimators.handedness import settle

BLOCKS = 20
"""Stretches of the walk that errors are taken between."""


class MCMC(AbstractEstimator):
    """The sampler spends the budget on its walk and returns frames evenly over it, with energies.

    Frames near in time depend on each other: errors are taken between blocks of the walk.
    """

    @classmethod
    def from_options(cls, options: Mapping[str, str]) -> "MCMC":
        """No options; any is an error (BgbenchError)."""
        nothing("mcmc", options)
        return cls()

    def estimate(self, sampler: AbstractSampler, task: Task) -> Estimate:
        proposal = sampler.sample(task, min(task.n_samples, task.oracle.remaining))
        if proposal.u is None:
            raise BgbenchError(
                f"{type(sampler).__name__} returned no energies: it does not walk; use --estimator none"
            )
        _, rates = settle(task.system, proposal, "zero")
        ensemble = Ensemble.unweighted(proposal.x, proposal.u)
        block = torch.arange(len(proposal.x)) * BLOCKS // max(len(proposal.x), 1)
        told = {"handedness": rates, "mean_energy": mean_energy(proposal.u, ensemble.weights, block)}
        return Estimate(ensemble, proposal, told, group=block)
