"""`none`: the proposal as it is, equal weights."""

from collections.abc import Mapping
from dataclasses import dataclass

from bgbench.core.abstract import AbstractEstimator, AbstractSampler, Estimate, Task
from bgbench.core.calls import call_sample
from bgbench.core.errors import BudgetExhausted, NonFinite
from bgbench.core.options import parse_options
from bgbench.core.types import Ensemble
from bgbench.estimators.handedness import apply_chirality_rule


@dataclass(frozen=True)
class Plain(AbstractEstimator):
    """As many samples as the protocol scores, equally weighted; each of their energies is charged."""

    @classmethod
    def build(cls, options: Mapping[str, str]) -> "Plain":
        """Build the estimator, which has no options.

        Raises:
            BgbenchError: for any option.
        """
        return parse_options(cls, options, owner="estimator none", prefix="estimator")

    def estimate(self, sampler: AbstractSampler, task: Task) -> Estimate:
        n = min(task.n_samples, task.oracle.remaining)
        proposal, rates = apply_chirality_rule(task.system, call_sample(sampler, task, n), "zero")
        if proposal.u is None and proposal.n_samples > task.oracle.remaining:
            raise BudgetExhausted(
                f"sampling left {task.oracle.remaining} evaluations, and the energies of the "
                f"{proposal.n_samples} conformers take one each; return energies that are known already, as "
                "Proposal(x, u=u), or spend less"
            )
        u = task.oracle.energy(proposal.x) if proposal.u is None else proposal.u
        if not bool(u.isfinite().any()):
            raise NonFinite(f"none of {len(u)} samples has a finite energy")
        return Estimate(Ensemble.unweighted(proposal.x, u), proposal, {"handedness": rates})
