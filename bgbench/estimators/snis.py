"""`snis`: self-normalised importance sampling, log w = −u − log q."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from bgbench.core.abstract import (
    AbstractDensitySampler,
    AbstractEstimator,
    AbstractSampler,
    Estimate,
    Task,
    Thinning,
)
from bgbench.core.errors import NonFinite
from bgbench.core.options import parse_options, refuse_unknown_words
from bgbench.core.types import Ensemble, Proposal
from bgbench.estimators.controls import mean_energy, virial
from bgbench.estimators.densities import (
    degrees_of_freedom,
    draw_with_density,
    explain_no_weight,
    outside_target,
    override_handedness,
    require_density,
    require_log_q,
)
from bgbench.estimators.handedness import HandednessOption, apply_chirality_rule
from bgbench.estimators.pareto import errors_known
from bgbench.estimators.reservoir import Passing, can_stream
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
        density, n = require_density(sampler), task.oracle.remaining
        in_batches = type(density).sample is AbstractDensitySampler.sample
        thinning = task.thinning
        if thinning is not None and self.options.cut == "none" and in_batches and can_stream(thinning, n):
            return self.reweight_stream(density, task, n, thinning)
        return self.reweight(density, task, n)

    def reweight(self, sampler: AbstractDensitySampler, task: Task, n: int) -> Estimate:
        """Draw and reweight `n` samples.

        Raises:
            NonFinite: if none of them has a finite weight.
        """
        task = override_handedness(task, self.options.handedness)
        part = self._reweighted(sampler, task, *draw_with_density(sampler, task, n))
        log_w = part.log_w
        if not bool(torch.isfinite(log_w).any()):
            raise NonFinite(f"none of {n} samples has a finite weight: {part.explain(task)}")
        cut, proposal = self.options.cut, part.proposal
        ensemble = Ensemble(proposal.x, part.u, cut_weights(log_w, cut))
        diagnostics = {
            "handedness": part.rates,
            "nonfinite": int((~torch.isfinite(part.u)).sum()),
            "ess_against_n": ess_curve(log_w),
            **summarize(part.u, ensemble.log_w, part.control),
        }
        if cut == "none":
            return Estimate(ensemble, proposal, diagnostics)
        uncut = summarize(part.u, log_w, part.control)
        return Estimate(ensemble, proposal, {**diagnostics, "cut": cut, "uncut": uncut}, log_w_uncut=log_w)

    def reweight_stream(
        self, sampler: AbstractDensitySampler, task: Task, n: int, thinning: Thinning
    ) -> Estimate:
        """Draw and reweight `n` samples, and hold no more conformers than a thinning says.

        Raises:
            NonFinite: if none of them has a finite weight.
        """
        task = override_handedness(task, self.options.handedness)
        passing, controls, reason = Passing(task, thinning, n), list[Tensor](), ""
        rates: list[tuple[int, Mapping[str, Any]]] = []
        for raw in in_blocks(sampler, task, n):
            part = self._reweighted(sampler, task, raw, require_log_q(sampler, raw))
            passing.add(part.proposal.x, part.u, part.log_w, part.log_q)
            rates.append((raw.n_samples, part.rates))
            controls += [] if part.control is None else [part.control]
            reason = reason or part.explain(task)
        draws = passing.draws()
        if not bool(torch.isfinite(draws.log_w).any()):
            raise NonFinite(f"none of {n} samples has a finite weight: of the first {BLOCK:,}, {reason}")
        control = torch.cat(controls) if controls else None
        return passing.estimate(
            {
                "handedness": mean_rates(rates),
                "nonfinite": int((~torch.isfinite(draws.u)).sum()),
                "ess_against_n": ess_curve(draws.log_w),
                **summarize(draws.u, draws.log_w, control),
            }
        )

    def _reweighted(
        self, sampler: AbstractDensitySampler, task: Task, raw: Proposal, log_q: Tensor
    ) -> "Reweighted":
        """Energies and weights of a proposal, after the rule for wrong chirality."""
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
        return Reweighted(proposal, u, log_q, log_w, control, rates)


@dataclass(frozen=True)
class Reweighted:
    """A proposal of `n` samples with energies `u (n,)` and `log_w (n,)`, and a `control (n,)` or None."""

    proposal: Proposal
    u: Tensor
    log_q: Tensor
    log_w: Tensor
    control: Tensor | None
    rates: Mapping[str, Any]

    def explain(self, task: Task) -> str:
        """Why none of the samples has a weight; empty where one has."""
        if bool(torch.isfinite(self.log_w).any()):
            return ""
        return explain_no_weight(task, self.proposal.x, self.u, self.log_q)


BLOCK = 16_384
"""Draws whose energies are computed together where draws are thinned while they pass."""


def in_blocks(sampler: AbstractDensitySampler, task: Task, n: int) -> Iterator[Proposal]:
    """The batches of `sampler.stream`, joined to blocks of `BLOCK` draws or a few more, without gradients."""
    waiting: list[Proposal] = []
    for batch in sampler.stream(task, n):
        waiting.append(Proposal(batch.x.detach(), require_log_q(sampler, batch).detach()))
        if sum(part.n_samples for part in waiting) >= BLOCK:
            yield joined(waiting)
            waiting = []
    if waiting:
        yield joined(waiting)


def joined(parts: Sequence[Proposal]) -> Proposal:
    """Proposals with `log_q` in one."""
    log_q = [part.log_q for part in parts if part.log_q is not None]
    return Proposal(torch.cat([part.x for part in parts]), torch.cat(log_q))


def mean_rates(parts: Sequence[tuple[int, Mapping[str, Any]]]) -> dict[str, Any]:
    """The rates of `apply_chirality_rule` over all parts, each of a number of samples.

    >>> mean_rates([(30, {"rule": "zero", "wrong_hand": 0.1}), (10, {"rule": "zero", "wrong_hand": 0.5})])
    {'rule': 'zero', 'wrong_hand': 0.2}
    """
    n = sum(size for size, _ in parts)
    rates = dict(parts[0][1])
    for name, value in rates.items():
        if isinstance(value, float):
            rates[name] = round(sum(size * part[name] for size, part in parts)) / n
    return rates


def summarize(u: Tensor, log_w: Tensor, control: Tensor | None) -> dict[str, Any]:
    """log Z, ESS and mean energy of independent points with `u (n,)` and `log_w (n,)`, for the record.

    Errors are infinite where the weights do not allow any (`errors_known`).
    """
    value, error = log_z(log_w)
    energy = mean_energy(u, torch.softmax(log_w.double(), 0), control=control)
    if not errors_known(log_w):
        error, energy = math.inf, {"value": energy["value"], "error": math.inf}
    return {"log_z": value, "log_z_error": error, "ess": ess(log_w), "mean_energy": energy}


def ess_curve(log_w: Tensor) -> dict[str, float]:
    """ESS of the first n weights, a fraction, for n = 100, 1,000 … and all: falls with a heavy tail."""
    n = log_w.shape[0]
    sizes = [10**k for k in range(2, 10) if 10**k < n]
    return {str(size): ess(log_w[:size]) for size in [*sizes, n]}
