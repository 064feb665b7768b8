"""`snis`: self-normalised importance sampling, log w = −u − log q."""

import torch

from bgbench.abstract import AbstractDensitySampler, AbstractEstimator, AbstractSampler, Estimate, Task
from bgbench.chemistry.chirality import is_wrong
from bgbench.errors import BgbenchError, NonFinite
from bgbench.estimators.handedness import settle
from bgbench.types import Ensemble
from bgbench.weights import ess, log_z


class SNIS(AbstractEstimator):
    """One evaluation a proposal, until the budget ends. Weights are as they fall: cuts are a protocol's."""

    def estimate(self, sampler: AbstractSampler, task: Task) -> Estimate:
        if not isinstance(sampler, AbstractDensitySampler):
            raise BgbenchError(
                f"{type(sampler).__name__} has no density to weight by; use --estimator none or mcmc"
            )
        drawn = sampler.sample(task, task.oracle.remaining)
        if drawn.log_q is None:
            raise BgbenchError(f"{type(sampler).__name__} returned no log_q; snis needs it")
        rule = task.conventions.handedness
        proposal, rates = settle(task.system, drawn, rule)
        u = task.oracle.energy(proposal.x)
        log_w = -u.double() - drawn.log_q.double()
        log_w = torch.where(torch.isfinite(log_w), log_w, -torch.inf)
        unusable = is_wrong(task.system, proposal.x) if task.system.atoms else torch.zeros_like(u).bool()
        if rule != "flip":
            log_w = log_w.masked_fill(unusable, -torch.inf)
        if not bool(torch.isfinite(log_w).any()):
            raise NonFinite(f"none of {len(u)} samples has a finite weight")
        value, error = log_z(log_w)
        diagnostics = {
            "handedness": rates,
            "log_z": value,
            "log_z_error": error,
            "nonfinite": int((~torch.isfinite(u)).sum()),
            "ess_against_n": ess_curve(log_w),
        }
        return Estimate(Ensemble(proposal.x, u, log_w), proposal, diagnostics)


def ess_curve(log_w: torch.Tensor) -> dict[str, float]:
    """ESS fraction of the first n weights, for n = 100, 1,000 … and all: falls where weights are heavy."""
    n = log_w.shape[0]
    sizes = [10**k for k in range(2, 10) if 10**k < n]
    return {str(size): ess(log_w[:size]) for size in [*sizes, n]}
