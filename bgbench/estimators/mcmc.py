"""`mcmc`: time averages of a sampler that walks; its frames, equally weighted."""

from bgbench.abstract import AbstractEstimator, AbstractSampler, Estimate, Task
from bgbench.errors import BgbenchError
from bgbench.estimators.handedness import settle
from bgbench.types import Ensemble


class MCMC(AbstractEstimator):
    """The sampler spends the budget on its walk and returns frames evenly over it, with energies."""

    def estimate(self, sampler: AbstractSampler, task: Task) -> Estimate:
        proposal = sampler.sample(task, min(task.n_samples, task.oracle.remaining))
        if proposal.u is None:
            raise BgbenchError(
                f"{type(sampler).__name__} returned no energies: it does not walk; use --estimator none"
            )
        _, rates = settle(task.system, proposal, "zero")
        return Estimate(Ensemble.unweighted(proposal.x, proposal.u), proposal, {"handedness": rates})
