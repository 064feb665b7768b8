"""The engine: Metropolis Monte Carlo, one walker a replica."""

from dataclasses import replace

import numpy as np
import torch

import bgbench
from bgbench.data import AbstractEngine, SimulationSettings

STEP = 0.0005
"""Standard deviation of a move of every coordinate, nm."""


class Metropolis(AbstractEngine):
    """All atoms move at once; a step is one move. Monte Carlo has no time: a step counts as 1 ps."""

    def __init__(self, system: bgbench.System, settings: SimulationSettings) -> None:
        self.settings = settings
        self._energy = bgbench.energy(system, "openmm")
        self._generator = torch.Generator().manual_seed(settings.seed)
        self._x = system.positions.double().expand(settings.replicas, -1, -1).clone()
        self._u = self._energy.energy(self._x)

    @staticmethod
    def reference_settings() -> SimulationSettings:
        return SimulationSettings(
            engine="example", replicas=4, rungs=1, step=1000.0, round_steps=5, warm_up=10, anneal_steps=0
        )

    @staticmethod
    def training_settings() -> SimulationSettings:
        return replace(Metropolis.reference_settings(), replicas=2, round_steps=2)

    @staticmethod
    def check_settings(settings: SimulationSettings) -> None:
        if settings.rungs != 1:
            raise bgbench.BgbenchError("with example rungs must be 1: it has no ladder")

    @staticmethod
    def count_evaluations(settings: SimulationSettings, steps: int) -> int:
        return steps

    @property
    def energy(self) -> bgbench.AbstractEnergy:
        return self._energy

    def advance(self, rounds: int) -> None:
        for _ in range(rounds * self.settings.round_steps):
            x = self._x + STEP * torch.randn(self._x.shape, generator=self._generator, dtype=self._x.dtype)
            u = self._energy.energy(x)
            accepted = torch.rand(len(x), generator=self._generator) < torch.exp(self._u - u)
            self._x[accepted], self._u[accepted] = x[accepted], u[accepted]

    def copy_target_positions(self) -> np.ndarray:
        return self._x.float().numpy().copy()

    def start_langevin(self) -> AbstractEngine:
        return self

    def freeze(self) -> dict[str, np.ndarray]:
        return {"x": self._x.numpy(), "random": self._generator.get_state().numpy()}

    def thaw(self, state) -> None:
        self._x = torch.from_numpy(state["x"].copy())
        self._u = self._energy.energy(self._x)
        self._generator.set_state(torch.from_numpy(state["random"].copy()))

    def describe(self) -> dict[str, object]:
        return {"temperatures": [self._energy.system.temperature]}
