"""`self-improve`: rounds that sample, reweight and fine-tune a copy, then SNIS with the last copy.

The published schedule is four rounds of 2 · 10⁵ and a final 2 · 10⁵ (arXiv 2508.18175): equal fifths of
the budget, here whatever the budget. The last fifth is reweighted with the density that it is sampled from,
so that the estimate is exact however the rounds went; the sampler itself is never changed.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bgbench.core.abstract import (
    AbstractDensitySampler,
    AbstractEstimator,
    AbstractSampler,
    Estimate,
    Task,
    Tunable,
)
from bgbench.core.errors import BgbenchError, NonFinite, Unsupported, registered_name
from bgbench.core.options import parse_options, refuse_outside, refuse_unknown_words
from bgbench.core.types import Ensemble, Proposal, Tuning
from bgbench.estimators.densities import require_density
from bgbench.estimators.handedness import HandednessOption
from bgbench.estimators.smc import repeat_points
from bgbench.estimators.snis import SNIS, SNISOptions
from bgbench.estimators.weights import Scheme, ess, resample

HALVINGS = 40
"""Bisections for the power of the training weights."""


@dataclass(frozen=True)
class SelfImproveOptions:
    """Options of `self-improve`."""

    rounds: int = 4
    """Rounds of fine-tuning."""
    steps: int = 100
    """Gradient steps a round."""
    batch: int = 64
    """Samples a gradient step."""
    lr: float = 3e-4
    """Learning rate."""
    teacher: float = 0.5
    """Weight in the loss of the distance to the copy of the round before, see `Tuning`."""
    fewest: int = 100
    """Effective points that training weights are tempered to, if they have fewer; 1 is the published rule."""
    resampling: Scheme = "multinomial"
    """Resampling scheme of the training points."""
    handedness: HandednessOption = "protocol"
    """Rule for samples of wrong chirality; protocol: that of the protocol."""
    save: Path | None = None
    """A .safetensors file for the last copy; if it exists, a number is added to its name."""

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "fewest"):
            refuse_outside(name, getattr(self, name), 1, 10**9)
        refuse_outside("rounds", self.rounds, 0, 1000)
        refuse_outside("lr", self.lr, 1e-12, 10.0)
        refuse_outside("teacher", self.teacher, 0.0, 1e6)
        refuse_unknown_words(self)
        if self.save is not None and self.save.suffix != ".safetensors":
            raise BgbenchError(f"save must name a .safetensors file, got '{self.save}'")


class SelfImprove(AbstractEstimator):
    """Fine-tunes a copy of the sampler to the system that it is judged on, within the budget."""

    def __init__(self, options: SelfImproveOptions | None = None) -> None:
        self.options = options or SelfImproveOptions()

    @classmethod
    def build(cls, options: Mapping[str, str]) -> "SelfImprove":
        """Build the estimator from the words of `--set estimator.NAME=VALUE`, the fields of
        `SelfImproveOptions`.

        Raises:
            BgbenchError: for an unknown option or value.
        """
        owner = "estimator self-improve"
        return cls(parse_options(SelfImproveOptions, options, owner=owner, prefix="estimator"))

    def check_sampler(self, sampler: AbstractSampler) -> None:
        require_density(sampler)
        if self.options.rounds and not isinstance(sampler, Tunable):
            raise Unsupported(cannot_tune(sampler))
        if self.options.save is not None and not isinstance(sampler, Tunable):
            raise Unsupported(_nothing_to_write(sampler, self.options.save))

    def estimate(self, sampler: AbstractSampler, task: Task) -> Estimate:
        current, started = require_density(sampler), time.perf_counter()
        snis = SNIS(SNISOptions(handedness=self.options.handedness))
        n, history = task.oracle.remaining // (self.options.rounds + 1), list[dict[str, Any]]()
        for _ in range(self.options.rounds if n else 0):
            with task.oracle.phase("tune"):
                current, row = self._round(current, task, snis, n)
            history.append(row)
        hours = (time.perf_counter() - started) / 3600
        final = snis.reweight(current, task, task.oracle.remaining)
        diagnostics: dict[str, Any] = {
            "self_improve": {"rounds": history, "evaluations_a_round": n, "hours": hours}
        }
        if self.options.save is not None:
            if not isinstance(current, Tunable):
                raise Unsupported(_nothing_to_write(sampler, self.options.save))
            notes = {
                "system": task.system.name,
                "temperature": task.system.temperature,
                "evaluations": n * len(history),
                "hours": hours,
            }
            path = reserve_file(self.options.save)
            current.save(path, notes)
            diagnostics["saved"] = str(path)
        return pad_estimate(final, task.n_samples, diagnostics)

    def _round(
        self, teacher: AbstractDensitySampler, task: Task, snis: SNIS, n: int
    ) -> tuple[AbstractDensitySampler, dict[str, Any]]:
        """The copy after one round of `n` evaluations, and its row in the record.

        Raises:
            Unsupported: for a sampler that cannot be fine-tuned.
        """
        options = self.options
        if not isinstance(teacher, Tunable):
            raise Unsupported(cannot_tune(teacher))
        try:
            estimate = snis.reweight(teacher, task, n)
        except NonFinite as error:
            return teacher, {"learnt": False, "why": str(error)}
        log_w = estimate.ensemble.log_w
        power = tempering_power(log_w, options.fewest)
        tempered = Ensemble(estimate.ensemble.x, estimate.ensemble.u, temper(log_w, power))
        x = resample(tempered, n, task.generator, options.resampling).x
        tuning = Tuning(options.steps, options.batch, options.lr, options.teacher)
        return teacher.finetuned(task, x, tuning), {
            "learnt": True,
            "ess": ess(log_w),
            "log_z": estimate.diagnostics["log_z"],
            "power_of_training_weights": power,
            "effective_training_points": ess(tempered.log_w) * n,
        }


def _nothing_to_write(sampler: AbstractSampler, path: Path) -> str:
    return f"{registered_name(sampler)} has no weights to write to {path}"


def cannot_tune(sampler: AbstractSampler) -> str:
    """What is wrong with a sampler that is not tunable."""
    return f"{registered_name(sampler)} cannot be fine-tuned; use --estimator smc-mala"


def temper(log_w: Tensor, power: float) -> Tensor:
    """log of w^power `(n,)`; points of no weight have none at any power, 0 included."""
    return torch.where(log_w == -torch.inf, log_w, power * log_w)


def tempering_power(log_w: Tensor, fewest: int) -> float:
    """The largest power ≤ 1 of the weights with `fewest` effective points, or half of the points if fewer."""
    n = int(torch.isfinite(log_w).sum())
    wanted = min(fewest, 0.5 * n) / len(log_w)
    if ess(log_w) >= wanted:
        return 1.0
    low, high = 0.0, 1.0
    for _ in range(HALVINGS):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if ess(temper(log_w, middle)) >= wanted else (low, middle)
    return low


def reserve_file(path: Path) -> Path:
    """Create an empty file: `path`, or the first of `path-2`, `path-3` … that does not exist; its path.

    Raises:
        BgbenchError: if the folder cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        for number in count(1):
            candidate = path if number == 1 else path.with_stem(f"{path.stem}-{number}")
            if not candidate.exists():
                candidate.touch(exist_ok=False)
                return candidate
    except OSError as error:
        raise BgbenchError(f"cannot write {path}: {error.strerror}; choose another file") from error
    raise BgbenchError(f"{path}: no free name")


def pad_estimate(estimate: Estimate, at_least: int, diagnostics: Mapping[str, Any]) -> Estimate:
    """The estimate with copies of its points up to `at_least`, and with further diagnostics."""
    ensemble, proposal = estimate.ensemble, estimate.proposal
    points = ensemble.n_samples
    index, log_fraction = repeat_points(points, at_least)
    log_q = None if proposal.log_q is None else proposal.log_q[index]
    padded = Ensemble(ensemble.x[index], ensemble.u[index], ensemble.log_w[index] + log_fraction)
    return Estimate(
        padded,
        Proposal(padded.x, log_q),
        {**estimate.diagnostics, **diagnostics, "points": points},
        group=index,
    )
