"""Parallel tempering under the meter: every walker's every step is charged, swaps included."""

from dataclasses import dataclass

import numpy as np
import torch

import bgbench

HIGH = 700.0
MINIMISATION = 200


@dataclass(frozen=True)
class ParallelTempering(bgbench.AbstractSampler):
    """Replicas at geometric temperatures up to 700 K; the frames are those of the lowest.

    A round costs rungs · (steps + 1) evaluations: the exchange needs fresh energies.
    """

    card = bgbench.Card("remd")

    rungs: int = 4
    """Number of temperatures, one replica each."""
    steps: int = 20
    """Steps of every replica between exchanges."""

    def __post_init__(self) -> None:
        for name, least in (("rungs", 2), ("steps", 1)):
            if getattr(self, name) < least:
                raise bgbench.BgbenchError(f"{name} must be {least} or more, got {getattr(self, name)}")

    def check_supports(self, system: bgbench.System) -> None:
        if not system.forcefield:
            raise bgbench.Unsupported("molecular dynamics needs a force field")

    def sample(self, task: bgbench.Task, n_samples: int) -> bgbench.Proposal:
        oracle = task.oracle
        with oracle.phase("tune"):
            start = bgbench.minimise(oracle, task.system.positions, min(MINIMISATION, oracle.remaining // 10))
        seed = int(torch.randint(1, 2**31 - 1, (1,), generator=task.generator))
        walk = bgbench.Tempered(
            task.system, start, np.geomspace(task.system.temperature, HIGH, self.rungs), seed
        )
        cost = self.rungs * (self.steps + 1)
        rounds = oracle.remaining // cost
        if not rounds:
            raise bgbench.BudgetExhausted(f"one round costs {cost} evaluations, {oracle.remaining} are left")
        frames, energies = [], []
        for _ in range(rounds):
            oracle.charge(cost)
            x, u = walk.round(self.steps)
            task.progress(cost)
            frames.append(x)
            energies.append(u)
        index = torch.from_numpy(np.linspace(0, rounds - 1, n_samples).round().astype(np.int64))
        return bgbench.Proposal(
            torch.stack(frames)[index], u=torch.tensor(energies, dtype=torch.float64)[index]
        )
