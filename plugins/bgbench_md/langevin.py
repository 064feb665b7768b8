"""Molecular dynamics under the meter: the baseline everyone must beat."""

import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

import bgbench
from bgbench_md.onecore import OneCore, threads

FRICTION = 0.3
STEP = 0.001
MINIMISATION = 200
"""Evaluations spent on relaxing the start structure, at most, and never more than a tenth of the budget."""


Engine = Literal["openmm", "compiled"]


@dataclass(frozen=True)
class LangevinMD(bgbench.AbstractSampler):
    """LangevinMiddle at the system's temperature, 0.3/ps, 1 fs; every step is charged before it is made.

    Frames are evenly spaced over the whole budget, start-up included: while the start structure is still
    being relaxed, the frame is the relaxed structure. With `warm_up` they are taken after it alone.
    """

    fraction: float = 1.0
    """Fraction of the budget that is spent; the control "short MD" spends a twentieth."""
    warm_up: float = 0.0
    """Dynamics (ps) before the first frame, 1,000 evaluations a ps."""
    charge_warm_up: bool = True
    """Whether the budget pays for the warm-up. A published baseline has 50 ps of it and does not count them:
    no comparison at equal budget."""
    engine: Engine = "openmm"
    """What makes the steps: OpenMM on the CPU, or bgbench's compiled kernels, which make some 15 times as
    many a second by the same integrator and energy."""

    def __post_init__(self) -> None:
        if not 0.0 < self.fraction <= 1.0:
            raise bgbench.BgbenchError(f"fraction must be above 0 and at most 1, got {self.fraction:g}")
        if not 0.0 <= self.warm_up < math.inf:
            raise bgbench.BgbenchError(f"warm_up must be 0 ps or more, got {self.warm_up:g}")

    @property
    def card(self) -> bgbench.Card:
        """It says what the budget did not pay for."""
        steps = 0 if self.charge_warm_up else self._warm_up_steps
        notes = f"warm-up of {steps:,} evaluations not charged" if steps else ""
        return bgbench.Card("md", notes=notes, uncharged_evaluations=steps)

    @property
    def _warm_up_steps(self) -> int:
        return round(self.warm_up / STEP)

    def check_supports(self, system: bgbench.System) -> None:
        if not system.forcefield:
            raise bgbench.Unsupported("molecular dynamics needs a force field")

    def sample(self, task: bgbench.Task, n_samples: int) -> bgbench.Proposal:
        total = math.ceil(self.fraction * task.oracle.remaining)
        before = task.oracle.remaining
        with task.oracle.phase("tune"):
            start = bgbench.minimise(task.oracle, task.system.positions, min(MINIMISATION, total // 10))
            relaxation = before - task.oracle.remaining
            warm_up = self._warm_up_steps if self.charge_warm_up else 0
            if warm_up and warm_up >= total - relaxation:
                raise bgbench.BudgetExhausted(
                    f"{self.warm_up:g} ps of warm-up cost {warm_up:,} evaluations, "
                    f"{total - relaxation:,} are left"
                )
            task.oracle.charge(warm_up)
        task.progress(warm_up)
        n = min(n_samples, before)
        seed = int(torch.randint(1, 2**31 - 1, (1,), generator=task.generator))
        walk = WALKS[self.engine](task.system, start, seed)
        frames, energies, done = [], [], 0
        try:
            walk.advance(self._warm_up_steps)
            for k in range(n):
                due = self._steps_until(k + 1, n, total, relaxation, warm_up)
                task.oracle.charge(due - done)
                x, u = walk.advance(due - done)
                task.progress(due - done)
                frames.append(x)
                energies.append(u)
                done = due
        finally:
            walk.release()
        x = torch.stack(frames) if frames else torch.zeros(0, task.system.n_atoms, 3)
        return bgbench.Proposal(x, u=torch.tensor(energies, dtype=torch.float64))

    def _steps_until(self, frames: int, n: int, total: int, relaxation: int, warm_up: int) -> int:
        """Steps after the warm-up until so many of `n` frames are due, of `total` evaluations."""
        if self._warm_up_steps:
            return frames * (total - relaxation - warm_up) // n
        return max(0, frames * total // n - relaxation)


def build_md(options: Mapping[str, str]) -> LangevinMD:
    """Build `md`; runs of before 28 November 2026 call its option `fraction` by the name `share`.

    Args:
        options: the words of `--set NAME=VALUE`.

    Raises:
        BgbenchError: for an unknown option, a value out of range, or both names at once.
    """
    words = dict(options)
    if "share" in words:
        if "fraction" in words:
            raise bgbench.BgbenchError("--set share is the old name of --set fraction; set fraction alone")
        words["fraction"] = words.pop("share")
        notice = f"--set share={words['fraction']}: md calls this option fraction now"
        warnings.warn(notice, FutureWarning, stacklevel=2)
    return bgbench.parse_options(LangevinMD, words, owner="md")


class _OpenMMWalk:
    def __init__(self, system: bgbench.System, start: torch.Tensor, seed: int) -> None:
        import openmm

        self._kt = bgbench.kt(system.temperature)
        integrator = openmm.LangevinMiddleIntegrator(system.temperature, FRICTION, STEP)
        integrator.setRandomNumberSeed(seed)
        platform = openmm.Platform.getPlatformByName("CPU")
        properties = {"Threads": "1", "DeterministicForces": "true"}
        before = threads()
        self._context = openmm.Context(bgbench.openmm_system(system), integrator, platform, properties)
        self._core = OneCore(threads() - before)
        self._context.setPositions(start.numpy())
        self._context.setVelocitiesToTemperature(system.temperature, seed)

    def advance(self, steps: int) -> tuple[torch.Tensor, float]:
        """Positions (nm) and u (kT) after `steps` more; a walk that blew up gives +inf."""
        import openmm

        self._core.renew()
        try:
            self._context.getIntegrator().step(steps)
            state = self._context.getState(getPositions=True, getEnergy=True)
        except openmm.OpenMMException:
            return torch.full((self._context.getSystem().getNumParticles(), 3), torch.inf), math.inf
        u = state.getPotentialEnergy()._value / self._kt
        return torch.as_tensor(state.getPositions(asNumpy=True)._value), u if math.isfinite(u) else math.inf

    def release(self) -> None:
        """Let its threads run on any core again."""
        self._core.release()


class _CompiledWalk:
    """The same dynamics as a ladder of one temperature."""

    def __init__(self, system: bgbench.System, start: torch.Tensor, seed: int) -> None:
        self._walk = bgbench.Tempered(system, start, np.array([system.temperature]), seed)

    def advance(self, steps: int) -> tuple[torch.Tensor, float]:
        """Positions (nm) and u (kT) after `steps` more; a walk that blew up gives +inf."""
        x, u = self._walk.round(steps)
        return x, u if math.isfinite(u) else math.inf

    def release(self) -> None:
        """It holds nothing."""


WALKS: dict[str, type[_OpenMMWalk] | type[_CompiledWalk]] = {"openmm": _OpenMMWalk, "compiled": _CompiledWalk}
