"""Engines that make reference frames. Each starts, advances a round, and can be frozen into arrays."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bgbench.dynamics.langevin import Integrator, Walkers, with_hydrogen_mass
from bgbench.dynamics.tempering import Tempering, ladder
from bgbench.energies.batched import BatchedEnergy
from bgbench.energies.compiled import pack
from bgbench.energies.minimise import minimise
from bgbench.energies.openmm import openmm_system
from bgbench.types import System
from bgbench.units import kt

HOT = 700.0
RELAX = 300


@dataclass(frozen=True)
class Settings:
    """How to simulate: `rungs` temperatures up to `high` K for each of `replicas` independent starts.

    `step` in fs, `round_steps` between exchanges, `rounds_per_frame`, `warm_up` rounds thrown away after
    `anneal_steps` at 700 K; `hydrogen_mass` in Da (0: as the force field has it).
    """

    engine: str = "batched"
    replicas: int = 16
    rungs: int = 6
    high: float = 700.0
    step: float = 1.0
    hydrogen_mass: float = 0.0
    round_steps: int = 200
    rounds_per_frame: int = 2
    warm_up: int = 100
    anneal_steps: int = 20_000
    seed: int = 0


class AbstractEngine(ABC):
    """Walkers whose positions at the target temperature are the frames."""

    @abstractmethod
    def advance(self, rounds: int) -> None:
        """Run this many rounds of dynamics."""

    @abstractmethod
    def cold(self) -> np.ndarray:
        """`(replicas, atoms, 3)` nm at the target temperature."""

    @abstractmethod
    def freeze(self) -> dict[str, np.ndarray]:
        """Everything needed to go on."""

    @abstractmethod
    def thaw(self, state: Mapping[str, np.ndarray]) -> None:
        """Go on from a frozen state."""

    @abstractmethod
    def notes(self) -> dict[str, Any]:
        """What the certificate should say of the dynamics."""


class TemperingEngine(AbstractEngine):
    """Parallel tempering on the compiled energy, from independent anneals."""

    def __init__(self, system: System, settings: Settings) -> None:
        energy = BatchedEnergy(system, "compiled")
        p = energy.parameters
        masses = p.masses
        if settings.hydrogen_mass:
            masses = with_hydrogen_mass(masses, p.bonds, settings.hydrogen_mass)
        self._settings = settings
        self._packed = pack(p, np.float32)
        self._integrator = Integrator(masses, settings.step / 1000)
        self.temperatures = ladder(system.temperature, settings.high, settings.rungs)
        starts = self._anneal(minimise(energy, system.positions, RELAX), masses)
        self._tempering = Tempering.start(starts, self.temperatures, masses, settings.seed)

    def _anneal(self, x: Tensor, masses: np.ndarray) -> np.ndarray:
        """Independent start structures: each walks alone at HOT."""
        r = self._settings.replicas
        start = np.repeat(x[None].float().numpy(), r, axis=0)
        walkers = Walkers.start(start, np.full(r, kt(HOT)), masses, self._settings.seed + 1)
        self._integrator.advance(walkers, self._settings.anneal_steps, self._packed, torch.get_num_threads())
        return walkers.x

    def advance(self, rounds: int) -> None:
        for _ in range(rounds):
            self._tempering.round(
                self._integrator, self._settings.round_steps, self._packed, torch.get_num_threads()
            )

    def cold(self) -> np.ndarray:
        return self._tempering.cold.copy()

    def freeze(self) -> dict[str, np.ndarray]:
        t = self._tempering
        w = t.walkers
        counts = {"rounds": np.array(t.rounds), "tried": t.tried, "taken": t.taken}
        return {"x": w.x, "v": w.v, "random": w.random, "kt": w.kt, **counts}

    def thaw(self, state: Mapping[str, np.ndarray]) -> None:
        walkers = Walkers(*(state[name].copy() for name in ("x", "v", "random", "kt")))
        t = self._tempering
        counts = (state["tried"].copy(), state["taken"].copy())
        self._tempering = Tempering(walkers, t.rungs, t.seed, int(state["rounds"]), *counts)

    def notes(self) -> dict[str, Any]:
        t = self._tempering
        rates = (t.taken / np.maximum(t.tried, 1)).tolist()
        return {"temperatures": self.temperatures.tolist(), "swap_rates": rates}


class OpenMMEngine(AbstractEngine):
    """One OpenMM Langevin trajectory after another at the target temperature: slow, and the truth."""

    def __init__(self, system: System, settings: Settings) -> None:
        import openmm

        self._settings, self._temperature = settings, system.temperature
        self._contexts = []
        for replica in range(settings.replicas):
            integrator = openmm.LangevinMiddleIntegrator(HOT, 0.3, settings.step / 1000)
            integrator.setRandomNumberSeed(settings.seed * 1000 + replica + 1)
            platform = openmm.Platform.getPlatformByName("CPU")
            context = openmm.Context(openmm_system(system), integrator, platform, {"Threads": "1"})
            context.setPositions(system.positions.numpy())
            openmm.LocalEnergyMinimizer.minimize(context)
            context.setVelocitiesToTemperature(HOT, settings.seed * 1000 + replica + 1)
            integrator.step(settings.anneal_steps)
            integrator.setTemperature(system.temperature)
            self._contexts.append(context)

    def advance(self, rounds: int) -> None:
        for context in self._contexts:
            context.getIntegrator().step(rounds * self._settings.round_steps)

    def cold(self) -> np.ndarray:
        states = [context.getState(getPositions=True) for context in self._contexts]
        return np.stack([state.getPositions(asNumpy=True)._value for state in states]).astype(np.float32)

    def freeze(self) -> dict[str, np.ndarray]:
        saved = [np.frombuffer(context.createCheckpoint(), np.uint8) for context in self._contexts]
        return {f"checkpoint{k}": array for k, array in enumerate(saved)}

    def thaw(self, state: Mapping[str, np.ndarray]) -> None:
        for k, context in enumerate(self._contexts):
            context.loadCheckpoint(state[f"checkpoint{k}"].tobytes())

    def notes(self) -> dict[str, Any]:
        return {"temperatures": [self._temperature]}


ENGINES: dict[str, Callable[[System, Settings], AbstractEngine]] = {
    "batched": TemperingEngine,
    "openmm": OpenMMEngine,
}


def steps_per_walker(settings: Settings, frames: int) -> int:
    """Integration steps each walker takes for `frames` frames in all."""
    per_replica = math.ceil(frames / settings.replicas)
    return settings.round_steps * (settings.warm_up + settings.rounds_per_frame * per_replica)


def evaluations(settings: Settings, frames: int) -> int:
    """Energy evaluations of a simulation: its anneals, and the steps of every walker."""
    return settings.replicas * (settings.anneal_steps + settings.rungs * steps_per_walker(settings, frames))
