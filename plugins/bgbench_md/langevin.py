"""Molecular dynamics with OpenMM under the meter: the baseline everyone must beat."""

import math
from dataclasses import dataclass

import torch

import bgbench
from bgbench_md.onecore import OneCore, threads

FRICTION = 0.3
STEP = 0.001
MINIMISATION = 200
"""Evaluations spent on relaxing the start structure, at most, and never more than a tenth of the budget."""


@dataclass(frozen=True)
class LangevinMD(bgbench.AbstractSampler):
    """LangevinMiddle at the system's temperature, 0.3/ps, 1 fs; every step is charged before it is made.

    Frames are evenly spaced over the whole budget, start-up included: while the start structure is still
    being relaxed, the frame is the relaxed structure.
    """

    card = bgbench.Card("md")

    share: float = 1.0
    """Fraction of the budget that is spent; the control "short MD" spends a twentieth."""

    def __post_init__(self) -> None:
        if not 0.0 < self.share <= 1.0:
            raise bgbench.BgbenchError(f"share must be above 0 and at most 1, got {self.share:g}")

    def check_supports(self, system: bgbench.System) -> None:
        if not system.forcefield:
            raise bgbench.Unsupported("molecular dynamics needs a force field")

    def sample(self, task: bgbench.Task, n_samples: int) -> bgbench.Proposal:
        total = math.ceil(self.share * task.oracle.remaining)
        before = task.oracle.remaining
        with task.oracle.phase("tune"):
            start = bgbench.minimise(task.oracle, task.system.positions, min(MINIMISATION, total // 10))
        spent = before - task.oracle.remaining
        n = min(n_samples, before)
        seed = int(torch.randint(1, 2**31 - 1, (1,), generator=task.generator))
        walk = _Walk(task.system, start, seed)
        frames, energies, done = [], [], 0
        try:
            for k in range(n):
                due = max(0, (k + 1) * total // n - spent)
                task.oracle.charge(due - done)
                x, u = walk.advance(due - done)
                task.progress(due - done)
                frames.append(x)
                energies.append(u)
                done = due
        finally:
            walk.core.release()
        x = torch.stack(frames) if frames else torch.zeros(0, task.system.n_atoms, 3)
        return bgbench.Proposal(x, u=torch.tensor(energies, dtype=torch.float64))


class _Walk:
    def __init__(self, system: bgbench.System, start: torch.Tensor, seed: int) -> None:
        import openmm

        self._kt = bgbench.kt(system.temperature)
        integrator = openmm.LangevinMiddleIntegrator(system.temperature, FRICTION, STEP)
        integrator.setRandomNumberSeed(seed)
        platform = openmm.Platform.getPlatformByName("CPU")
        properties = {"Threads": "1", "DeterministicForces": "true"}
        before = threads()
        self._context = openmm.Context(bgbench.openmm_system(system), integrator, platform, properties)
        self.core = OneCore(threads() - before)
        self._context.setPositions(start.numpy())
        self._context.setVelocitiesToTemperature(system.temperature, seed)

    def advance(self, steps: int) -> tuple[torch.Tensor, float]:
        """Positions (nm) and u (kT) after `steps` more; a walk that blew up gives +inf."""
        import openmm

        self.core.renew()
        try:
            self._context.getIntegrator().step(steps)
            state = self._context.getState(getPositions=True, getEnergy=True)
        except openmm.OpenMMException:
            return torch.full((self._context.getSystem().getNumParticles(), 3), torch.inf), math.inf
        u = state.getPotentialEnergy()._value / self._kt
        return torch.as_tensor(state.getPositions(asNumpy=True)._value), u if math.isfinite(u) else math.inf
