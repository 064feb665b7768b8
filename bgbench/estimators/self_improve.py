"""`self-improve`: rounds of sample, weight and fine-tune a copy, then SNIS with the last copy.

The published schedule is four rounds of 2 · 10⁵ and a final 2 · 10⁵ (arXiv 2508.18175): equal fifths of
the budget, here whatever the budget. The last fifth is weighted with the density that drew it, so the
estimate is exact however the rounds went; the sampler that was given is never changed.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bgbench.core.abstract import AbstractDensitySampler, AbstractEstimator, AbstractSampler, Estimate, Task
from bgbench.core.errors import BgbenchError, NonFinite, Unsupported
from bgbench.core.options import HANDS, chosen, refuse_outside, refuse_unless
from bgbench.core.types import Ensemble, Proposal, Tuning
from bgbench.estimators.densities import with_density
from bgbench.estimators.smc import copies
from bgbench.estimators.snis import SNIS
from bgbench.estimators.snis import Settings as Weighing
from bgbench.estimators.weights import SCHEMES, ess, resample

HALVINGS = 40


@dataclass(frozen=True)
class Settings:
    """`rounds` of fine-tuning; `steps`, `batch`, `lr`, `teacher` as in `Tuning`.

    `fewest`: training weights are raised to the largest power ≤ 1 that leaves so many effective points (1 is
    the published rule). `save`: a file for the last copy; where it exists, a number is added to its name.
    """

    rounds: int = 4
    steps: int = 100
    batch: int = 64
    lr: float = 3e-4
    teacher: float = 0.5
    fewest: int = 100
    resampling: str = "multinomial"
    handedness: str = "protocol"
    save: str = ""

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "fewest"):
            refuse_outside(name, getattr(self, name), 1, 10**9)
        refuse_outside("rounds", self.rounds, 0, 1000)
        refuse_outside("lr", self.lr, 1e-12, 10.0)
        refuse_outside("teacher", self.teacher, 0.0, 1e6)
        refuse_unless("resampling", self.resampling, SCHEMES)
        refuse_unless("handedness", self.handedness, HANDS)
        if self.save and Path(self.save).suffix != ".safetensors":
            raise BgbenchError(f"estimator.save={self.save}: give a .safetensors file")


class SelfImprove(AbstractEstimator):
    """Fine-tunes a copy of the sampler to the system it is judged on, inside the budget."""

    def __init__(self, settings: Settings | None = None) -> None:
        self.settings = settings or Settings()

    @classmethod
    def from_options(cls, options: Mapping[str, str]) -> "SelfImprove":
        """With the fields of `Settings` as `estimator.NAME`.

        Raises:
            BgbenchError: for an unknown option or value.
        """
        return cls(chosen("self-improve", Settings(), options))

    def estimate(self, sampler: AbstractSampler, task: Task) -> Estimate:
        now, started = with_density(sampler), time.perf_counter()
        snis = SNIS(Weighing(handedness=self.settings.handedness))
        share, history = task.oracle.remaining // (self.settings.rounds + 1), list[dict[str, Any]]()
        for _ in range(self.settings.rounds if share else 0):
            with task.oracle.phase("tune"):
                now, told = self._round(now, task, snis, share)
            history.append(told)
        hours = (time.perf_counter() - started) / 3600
        final = snis.weighed(now, task, task.oracle.remaining)
        told = {
            "self_improve": {"rounds": history, "evaluations_a_round": share, "hours": hours},
            **({"saved": self._saved(now, task, share * len(history), hours)} if self.settings.save else {}),
        }
        return padded(final, task.n_samples, told)

    def _round(
        self, teacher: AbstractDensitySampler, task: Task, snis: SNIS, n: int
    ) -> tuple[AbstractDensitySampler, dict[str, Any]]:
        """The copy after one round, and what the record keeps of it.

        Raises:
            Unsupported: for a sampler that cannot learn.
        """
        settings = self.settings
        try:
            found = snis.weighed(teacher, task, n)
        except NonFinite as error:
            return teacher, {"learnt": False, "why": str(error)}
        log_w = found.ensemble.log_w
        power = tempering(log_w, settings.fewest)
        tempered = Ensemble(found.ensemble.x, found.ensemble.u, scaled(log_w, power))
        x = resample(tempered, n, task.generator, settings.resampling).x
        tuning = Tuning(settings.steps, settings.batch, settings.lr, settings.teacher)
        student = teacher.finetuned(task, x, tuning)
        if student is None:
            raise Unsupported(f"{type(teacher).__name__} cannot be fine-tuned; use --estimator smc-mala")
        return student, {
            "learnt": True,
            "ess": ess(log_w),
            "log_z": found.diagnostics["log_z"],
            "power_of_training_weights": power,
            "effective_training_points": ess(tempered.log_w) * n,
        }

    def _saved(self, tuned: AbstractDensitySampler, task: Task, evaluations: int, hours: float) -> str:
        """The file that the last copy was written to."""
        path = free(Path(self.settings.save))
        notes = {
            "system": task.system.name,
            "temperature": task.system.temperature,
            "evaluations": evaluations,
            "hours": hours,
        }
        tuned.save(path, notes)
        return str(path)


def scaled(log_w: Tensor, power: float) -> Tensor:
    """log w^power; impossible points stay so."""
    return torch.where(log_w == -torch.inf, log_w, power * log_w)


def tempering(log_w: Tensor, fewest: int) -> float:
    """The largest power ≤ 1 of the weights that leaves `fewest` effective points, or half of all if fewer."""
    n = int(torch.isfinite(log_w).sum())
    wanted = min(fewest, 0.5 * n) / len(log_w)
    if ess(log_w) >= wanted:
        return 1.0
    low, high = 0.0, 1.0
    for _ in range(HALVINGS):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if ess(scaled(log_w, middle)) >= wanted else (low, middle)
    return low


def free(path: Path) -> Path:
    """`path`, or the first of `path-2`, `path-3` … that does not exist; reserved for the caller.

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


def padded(estimate: Estimate, wanted: int, told: Mapping[str, Any]) -> Estimate:
    """The estimate with copies of its points where the protocol scores more, and with `told`."""
    ensemble, proposal = estimate.ensemble, estimate.proposal
    points = ensemble.n_samples
    index, log_share = copies(points, wanted)
    log_q = None if proposal.log_q is None else proposal.log_q[index]
    part = Ensemble(ensemble.x[index], ensemble.u[index], ensemble.log_w[index] + log_share)
    return Estimate(
        part,
        Proposal(part.x, log_q),
        {**estimate.diagnostics, **told, "points": points},
        group=index,
    )
