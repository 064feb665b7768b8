"""Parallel tempering under the meter: every walker's every step is charged, swaps included."""

from collections.abc import Mapping

import numpy as np
import torch

import bgbench

HIGH = 700.0
MINIMISATION = 200


class ParallelTempering(bgbench.AbstractSampler):
    """`rungs` geometric temperatures up to 700 K, one walker each; frames are those of the lowest.

    `steps` between exchanges. A round costs rungs · (steps + 1): the exchange needs fresh energies.
    """

    def __init__(self, rungs: int = 4, steps: int = 20) -> None:
        if rungs < 2 or steps < 1:
            raise bgbench.BgbenchError(f"remd needs rungs ≥ 2 and steps ≥ 1, got {rungs} and {steps}")
        self.rungs, self.steps = rungs, steps

    @classmethod
    def from_options(cls, options: Mapping[str, str]) -> "ParallelTempering":
        """Options `rungs` and `steps`.

        Raises:
            BgbenchError: for another option or a value that is no number.
        """
        unknown = sorted(set(options) - {"rungs", "steps"})
        if unknown:
            raise bgbench.BgbenchError(f"remd has no option {', '.join(unknown)}; it has rungs, steps")
        try:
            return cls(**{name: int(value) for name, value in options.items()})
        except ValueError as error:
            raise bgbench.BgbenchError(f"remd: {error}") from error

    def supports(self, system: bgbench.System) -> str:
        return "" if system.forcefield else "molecular dynamics needs a force field"

    def sample(self, task: bgbench.Task, n_samples: int) -> bgbench.Proposal:
        oracle = task.oracle
        with oracle.phase("tune"):
            start = bgbench.minimise(oracle, task.system.positions, min(MINIMISATION, oracle.remaining // 10))
        seed = int(torch.randint(1, 2**31 - 1, (1,), generator=task.generator))
        walk = bgbench.Tempered(
            task.system, start, bgbench.ladder(task.system.temperature, HIGH, self.rungs), seed
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
