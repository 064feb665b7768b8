"""Molecular dynamics with OpenMM under the meter: the baseline everyone must beat."""

import math

import torch

import bgbench

FRICTION = 0.3
STEP = 0.001
MINIMISATION = 200
"""Evaluations spent on relaxing the start structure, at most, and never more than a tenth of the budget."""


class LangevinMD(bgbench.AbstractSampler):
    """LangevinMiddle at the system's temperature, 0.3/ps, 1 fs; every step charged before it is made.

    Frames are kept evenly over the whole budget, start-up included: while the start structure is still being
    relaxed, the frame is the relaxed structure.
    """

    def supports(self, system: bgbench.System) -> str:
        return "" if system.forcefield else "molecular dynamics needs a force field"

    def sample(self, task: bgbench.Task, n_samples: int) -> bgbench.Proposal:
        total = task.oracle.remaining
        with task.oracle.phase("tune"):
            start = bgbench.minimise(
                task.oracle, task.system.positions, min(MINIMISATION, task.oracle.remaining // 10)
            )
        spent = total - task.oracle.remaining
        n = min(n_samples, total)
        seed = int(torch.randint(1, 2**31 - 1, (1,), generator=task.generator))
        walk = _Walk(task.system, start, seed)
        frames, energies, done = [], [], 0
        for k in range(n):
            due = max(0, (k + 1) * total // n - spent)
            task.oracle.charge(due - done)
            x, u = walk.advance(due - done)
            task.progress(due - done)
            frames.append(x)
            energies.append(u)
            done = due
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
        self._context = openmm.Context(bgbench.openmm_system(system), integrator, platform, properties)
        self._context.setPositions(start.numpy())
        self._context.setVelocitiesToTemperature(system.temperature, seed)

    def advance(self, steps: int) -> tuple[torch.Tensor, float]:
        """Positions (nm) and u (kT) after `steps` more; a walk that blew up gives +inf."""
        import openmm

        try:
            self._context.getIntegrator().step(steps)
            state = self._context.getState(getPositions=True, getEnergy=True)
        except openmm.OpenMMException:
            return torch.full((self._context.getSystem().getNumParticles(), 3), torch.inf), math.inf
        u = state.getPotentialEnergy()._value / self._kt
        return torch.as_tensor(state.getPositions(asNumpy=True)._value), u if math.isfinite(u) else math.inf
