"""`none`: the proposal as it is, equal weights."""

from collections.abc import Mapping

from bgbench.core.abstract import AbstractEstimator, AbstractSampler, Estimate, Task
from bgbench.core.errors import NonFinite
from bgbench.core.options import nothing
from bgbench.core.types import Ensemble
from bgbench.estimators.handedness import settle


class Plain(AbstractEstimator):
    """As many samples as the protocol scores; their energies are charged like anyone's."""

    @classmethod
    def from_options(cls, options: Mapping[str, str]) -> "Plain":
        """No options; any is an error (BgbenchError)."""
        nothing("none", options)
        return cls()

    def estimate(self, sampler: AbstractSampler, task: Task) -> Estimate:
        n = min(task.n_samples, task.oracle.remaining)
        proposal, rates = settle(task.system, sampler.sample(task, n), "zero")
        u = task.oracle.energy(proposal.x) if proposal.u is None else proposal.u
        if not bool(u.isfinite().any()):
            raise NonFinite(f"none of {len(u)} samples has a finite energy")
        return Estimate(Ensemble.unweighted(proposal.x, u), proposal, {"handedness": rates})
