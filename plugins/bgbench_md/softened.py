"""Solute scaling under the meter: steps, torsion moves and exchanges of every rung are charged."""

from dataclasses import dataclass

import numpy as np
import torch

import bgbench

MINIMISATION = 200
"""Evaluations spent on relaxing the start structure, at most, and never more than a tenth of the budget."""


@dataclass(frozen=True)
class Softened(bgbench.AbstractSampler):
    """Replica exchange with solute scaling and torsion moves, the engine `softened`, of one ladder.

    The frames are those of the unscaled rung after a fraction of warm-up, which is charged too. A round costs
    rungs · (steps + moves + 3) evaluations.
    """

    card = bgbench.Card("softened")

    rungs: int = 3
    """Number of scaled energies, one walker each."""
    high: float = 550.0
    """Temperature (K) whose Boltzmann factor the scaled terms have at the top rung."""
    steps: int = 50
    """Steps of 2 fs of every walker between exchanges."""
    moves: int = 20
    """Torsion moves of every walker between exchanges."""
    warm_up: float = 0.1
    """Fraction of the rounds from which no frame is taken."""

    def __post_init__(self) -> None:
        for name, least in (("rungs", 2), ("steps", 1), ("moves", 0)):
            if getattr(self, name) < least:
                raise bgbench.BgbenchError(f"{name} must be {least} or more, got {getattr(self, name)}")
        if not 0.0 <= self.warm_up < 1.0:
            raise bgbench.BgbenchError(f"warm_up must be at least 0 and below 1, got {self.warm_up:g}")

    def check_supports(self, system: bgbench.System) -> None:
        if not system.forcefield:
            raise bgbench.Unsupported("molecular dynamics needs a force field")
        if not system.temperature < self.high < float("inf"):
            raise bgbench.Unsupported(
                f"high must be above the system's {system.temperature:g} K, got {self.high:g} K"
            )

    def sample(self, task: bgbench.Task, n_samples: int) -> bgbench.Proposal:
        oracle, temperature = task.oracle, task.system.temperature
        with oracle.phase("tune"):
            start = bgbench.minimise(oracle, task.system.positions, min(MINIMISATION, oracle.remaining // 10))
        seed = int(torch.randint(1, 2**31 - 1, (1,), generator=task.generator))
        scales = temperature / np.geomspace(temperature, self.high, self.rungs)
        walk = bgbench.SoluteScaled(task.system, start, scales.tolist(), self.moves, seed)
        cost = walk.evaluations(self.steps)
        rounds = oracle.remaining // cost
        if not rounds:
            raise bgbench.BudgetExhausted(f"one round costs {cost} evaluations, {oracle.remaining} are left")
        first = int(self.warm_up * rounds)
        frames, energies = [], []
        for k in range(rounds):
            with oracle.phase("tune" if k < first else "sample"):
                oracle.charge(cost)
            x, u = walk.round(self.steps)
            task.progress(cost)
            frames.append(x)
            energies.append(u)
        index = torch.from_numpy(np.linspace(first, rounds - 1, n_samples).round().astype(np.int64))
        return bgbench.Proposal(
            torch.stack(frames)[index], u=torch.tensor(energies, dtype=torch.float64)[index]
        )
