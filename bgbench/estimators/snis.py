"""`snis`: self-normalised importance sampling, log w = −u − log q."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from bgbench.core.abstract import AbstractDensitySampler, AbstractEstimator, AbstractSampler, Estimate, Task
from bgbench.core.errors import NonFinite
from bgbench.core.options import HANDS, chosen, refuse_unless
from bgbench.core.types import Ensemble
from bgbench.estimators.controls import mean_energy, virial
from bgbench.estimators.densities import degrees_of_freedom, drawn, forbidden, with_density, with_hand
from bgbench.estimators.handedness import settle
from bgbench.estimators.weights import CUTS, cut_weights, ess, log_z


@dataclass(frozen=True)
class Settings:
    """`cut`: none, truncate, drop or psis. `control`: none or virial. `handedness`: protocol or a rule."""

    cut: str = "none"
    control: str = "none"
    handedness: str = "protocol"

    def __post_init__(self) -> None:
        refuse_unless("cut", self.cut, CUTS)
        refuse_unless("control", self.control, ("none", "virial"))
        refuse_unless("handedness", self.handedness, HANDS)


class SNIS(AbstractEstimator):
    """One evaluation a proposal, until the budget ends. A cut is named, the estimates uncut beside it."""

    def __init__(self, settings: Settings | None = None) -> None:
        self.settings = settings or Settings()

    @classmethod
    def from_options(cls, options: Mapping[str, str]) -> "SNIS":
        """With `estimator.cut`, `estimator.control`, `estimator.handedness`.

        Raises:
            BgbenchError: for anything else.
        """
        return cls(chosen("snis", Settings(), options))

    def estimate(self, sampler: AbstractSampler, task: Task) -> Estimate:
        return self.weighed(with_density(sampler), task, task.oracle.remaining)

    def weighed(self, sampler: AbstractDensitySampler, task: Task, n: int) -> Estimate:
        """The estimate from `n` proposals."""
        task = with_hand(task, self.settings.handedness)
        raw, log_q = drawn(sampler, task, n)
        proposal, rates = settle(task.system, raw, task.conventions.handedness)
        control: Tensor | None = None
        if self.settings.control == "virial":
            u, force = task.oracle.energy_and_force(proposal.x)
            control = virial(proposal.x, force, degrees_of_freedom(sampler, task))
        else:
            u = task.oracle.energy(proposal.x)
        log_w = -u.double() - log_q.double()
        log_w = torch.where(torch.isfinite(log_w), log_w, -torch.inf)
        log_w = log_w.masked_fill(forbidden(task, proposal.x), -torch.inf)
        if not bool(torch.isfinite(log_w).any()):
            raise NonFinite(f"none of {len(u)} samples has a finite weight")
        cut = self.settings.cut
        ensemble = Ensemble(proposal.x, u, cut_weights(log_w, cut))
        diagnostics = {
            "handedness": rates,
            "nonfinite": int((~torch.isfinite(u)).sum()),
            "ess_against_n": ess_curve(log_w),
            **told(ensemble, control),
        }
        if cut == "none":
            return Estimate(ensemble, proposal, diagnostics)
        uncut = told(Ensemble(proposal.x, u, log_w), control)
        return Estimate(ensemble, proposal, {**diagnostics, "cut": cut, "uncut": uncut}, log_w_uncut=log_w)


def told(ensemble: Ensemble, control: Tensor | None) -> dict[str, Any]:
    """log Z, ESS and mean energy of an ensemble of independent weighted points."""
    value, error = log_z(ensemble.log_w)
    return {
        "log_z": value,
        "log_z_error": error,
        "ess": ess(ensemble.log_w),
        "mean_energy": mean_energy(ensemble.u, ensemble.weights, control=control),
    }


def ess_curve(log_w: Tensor) -> dict[str, float]:
    """ESS fraction of the first n weights, for n = 100, 1,000 … and all: falls where weights are heavy."""
    n = log_w.shape[0]
    sizes = [10**k for k in range(2, 10) if 10**k < n]
    return {str(size): ess(log_w[:size]) for size in [*sizes, n]}
