"""`snis`: self-normalised importance sampling, log w = −u − log q."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from bgbench.core.abstract import AbstractDensitySampler, AbstractEstimator, AbstractSampler, Estimate, Task
from bgbench.core.errors import NonFinite
from bgbench.core.options import parse_options, refuse_unknown_words
from bgbench.core.types import Ensemble
from bgbench.estimators.controls import mean_energy, virial
from bgbench.estimators.densities import (
    degrees_of_freedom,
    draw_with_density,
    explain_no_weight,
    outside_target,
    override_handedness,
    require_density,
)
from bgbench.estimators.handedness import HandednessOption, apply_chirality_rule
from bgbench.estimators.pareto import errors_known
from bgbench.estimators.weights import Cut, cut_weights, ess, log_z


@dataclass(frozen=True)
class SNISOptions:
    """Options of `snis`."""

    cut: Cut = "none"
    """Cut of the largest weights."""
    control: Literal["none", "virial"] = "none"
    """Control variate for the mean energy."""
    handedness: HandednessOption = "protocol"
    """Rule for samples of wrong chirality; protocol: that of the protocol."""

    def __post_init__(self) -> None:
        refuse_unknown_words(self)


class SNIS(AbstractEstimator):
    """Samples until the budget ends, at one evaluation each, with their importance weights.

    With a cut of the weights, the estimates without it stand beside those with it.
    """

    def __init__(self, options: SNISOptions | None = None) -> None:
        self.options = options or SNISOptions()

    @classmethod
    def build(cls, options: Mapping[str, str]) -> "SNIS":
        """Build the estimator from the words of `--set estimator.NAME=VALUE`, the fields of `SNISOptions`.

        Raises:
            BgbenchError: for an unknown option or value.
        """
        return cls(parse_options(SNISOptions, options, owner="estimator snis", prefix="estimator"))

    def check_sampler(self, sampler: AbstractSampler) -> None:
        require_density(sampler)

    def estimate(self, sampler: AbstractSampler, task: Task) -> Estimate:
        return self.reweight(require_density(sampler), task, task.oracle.remaining)

    def reweight(self, sampler: AbstractDensitySampler, task: Task, n: int) -> Estimate:
        """Draw and reweight `n` samples.

        Raises:
            NonFinite: if none of them has a finite weight.
        """
        task = override_handedness(task, self.options.handedness)
        raw, log_q = draw_with_density(sampler, task, n)
        proposal, rates = apply_chirality_rule(task.system, raw, task.conventions.handedness)
        control: Tensor | None = None
        if self.options.control == "virial":
            u, force = task.oracle.energy_and_force(proposal.x)
            control = virial(proposal.x, force, degrees_of_freedom(sampler, task))
        else:
            u = task.oracle.energy(proposal.x)
        log_w = -u.double() - log_q.double()
        log_w = torch.where(torch.isfinite(log_w), log_w, -torch.inf)
        log_w = log_w.masked_fill(outside_target(task, proposal.x), -torch.inf)
        if not bool(torch.isfinite(log_w).any()):
            reason = explain_no_weight(task, proposal.x, u, log_q)
            raise NonFinite(f"none of {len(u)} samples has a finite weight: {reason}")
        cut = self.options.cut
        ensemble = Ensemble(proposal.x, u, cut_weights(log_w, cut))
        diagnostics = {
            "handedness": rates,
            "nonfinite": int((~torch.isfinite(u)).sum()),
            "ess_against_n": ess_curve(log_w),
            **summarize(ensemble, control),
        }
        if cut == "none":
            return Estimate(ensemble, proposal, diagnostics)
        uncut = summarize(Ensemble(proposal.x, u, log_w), control)
        return Estimate(ensemble, proposal, {**diagnostics, "cut": cut, "uncut": uncut}, log_w_uncut=log_w)


def summarize(ensemble: Ensemble, control: Tensor | None) -> dict[str, Any]:
    """log Z, ESS and mean energy of an ensemble of independent weighted points, for the record.

    Errors are infinite where the weights do not allow any (`errors_known`).
    """
    value, error = log_z(ensemble.log_w)
    energy = mean_energy(ensemble.u, ensemble.weights, control=control)
    if not errors_known(ensemble.log_w):
        error, energy = math.inf, {"value": energy["value"], "error": math.inf}
    return {"log_z": value, "log_z_error": error, "ess": ess(ensemble.log_w), "mean_energy": energy}


def ess_curve(log_w: Tensor) -> dict[str, float]:
    """ESS of the first n weights, a fraction, for n = 100, 1,000 … and all: falls with a heavy tail."""
    n = log_w.shape[0]
    sizes = [10**k for k in range(2, 10) if 10**k < n]
    return {str(size): ess(log_w[:size]) for size in [*sizes, n]}
