"""Engines that make reference frames. Each starts, advances a round, and can be frozen into arrays."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bgbench.core.errors import BgbenchError
from bgbench.core.types import System
from bgbench.core.units import kt
from bgbench.dynamics.langevin import Integrator, Walkers, with_hydrogen_mass
from bgbench.dynamics.softening import AROUND, Softening, Turns, softened
from bgbench.dynamics.tempering import Tempering, ladder
from bgbench.energies.batched import BatchedEnergy
from bgbench.energies.compiled import Packed, pack
from bgbench.energies.minimise import minimise
from bgbench.energies.openmm import openmm_system
from bgbench.energies.parameters import Parameters

HOT = 700.0
RELAX = 300

MOST_SEEDS = 2_000_000
"""OpenMM's seeds have 31 bits, and every seed of ours is a thousand of them, for the replicas."""


@dataclass(frozen=True)
class Settings:
    """How to simulate: `rungs` temperatures up to `high` K for each of `replicas` independent starts.

    `step` in fs, `round_steps` between exchanges, `rounds_per_frame`, `warm_up` rounds thrown away after
    `anneal_steps` at 700 K (`softened`: at the top rung); `hydrogen_mass` in Da (0: as the force field has
    it); `turns` tried a round (`softened`); `seed` of starts, dynamics and swaps.

    Raises:
        BgbenchError: for a number that is too small, too large for the engine, or not finite.
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
    turns: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        least = {"replicas": 1, "rungs": 1, "round_steps": 1, "rounds_per_frame": 1, "step": 1e-3}
        least |= {"hydrogen_mass": 0, "warm_up": 0, "anneal_steps": 0, "turns": 0, "seed": 0}
        for name, limit in least.items():
            if not limit <= getattr(self, name) < math.inf:
                words = name.replace("_", " ")
                raise BgbenchError(f"{words} must be {limit:g} or more, got {getattr(self, name):g}")
        if self.engine == "openmm" and self.seed > MOST_SEEDS:
            raise BgbenchError(f"with openmm seed must be {MOST_SEEDS} or less, got {self.seed}")


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
        p, masses = energy.parameters, masses_of(energy.parameters, settings)
        self._settings = settings
        self._packed = pack(p, np.float32)
        self._integrator = Integrator(masses, settings.step / 1000)
        self.temperatures = ladder(system.temperature, settings.high, settings.rungs)
        start = minimise(energy, system.positions, RELAX)
        starts = annealed(start, self._integrator, self._packed, HOT, settings)
        self._tempering = Tempering.start(starts, self.temperatures, masses, settings.seed)

    def advance(self, rounds: int) -> None:
        for _ in range(rounds):
            self._tempering.round(
                self._integrator, self._settings.round_steps, self._packed, torch.get_num_threads()
            )

    def cold(self) -> np.ndarray:
        return self._tempering.cold.copy()

    def freeze(self) -> dict[str, np.ndarray]:
        return frozen(self._tempering)

    def thaw(self, state: Mapping[str, np.ndarray]) -> None:
        t = self._tempering
        t.walkers, t.rounds, t.tried, t.taken = thawed(state)

    def notes(self) -> dict[str, Any]:
        t = self._tempering
        rates = (t.taken / np.maximum(t.tried, 1)).tolist()
        return {"temperatures": self.temperatures.tolist(), "swap_rates": rates}


class SofteningEngine(AbstractEngine):
    """Replica exchange with softened terms: rung k feels as if its torsions and contacts were at T_k.

    `high` is the temperature whose Boltzmann factor B has at the top. Starts are annealed there.
    """

    def __init__(self, system: System, settings: Settings) -> None:
        energy = BatchedEnergy(system, "compiled")
        p, masses = energy.parameters, masses_of(energy.parameters, settings)
        self._settings, self._temperature = settings, system.temperature
        self._integrator = Integrator(masses, settings.step / 1000)
        if settings.high <= system.temperature:
            raise BgbenchError(
                f"softened terms reach {settings.high:g} K, which is not above the system's "
                f"{system.temperature:g} K; use --engine batched"
            )
        scales = system.temperature / ladder(system.temperature, settings.high, settings.rungs)
        top = pack(softened(p, Turns.of(system, p.torsions), float(scales[-1])), np.float32)
        start = minimise(energy, system.positions, RELAX)
        starts = annealed(start, self._integrator, top, system.temperature, settings)
        kts = np.full(settings.replicas * settings.rungs, kt(system.temperature))
        walkers = Walkers.start(np.tile(starts, (settings.rungs, 1, 1)), kts, masses, settings.seed)
        self._softening = Softening.start(system, p, walkers, scales, settings.turns, settings.seed)

    def advance(self, rounds: int) -> None:
        for _ in range(rounds):
            self._softening.round(self._integrator, self._settings.round_steps, torch.get_num_threads())

    def cold(self) -> np.ndarray:
        return self._softening.cold.copy()

    def freeze(self) -> dict[str, np.ndarray]:
        return {**frozen(self._softening), "turned": self._softening.turns_taken}

    def thaw(self, state: Mapping[str, np.ndarray]) -> None:
        s = self._softening
        s.walkers, s.rounds, s.tried, s.taken = thawed(state)
        s.turns_taken = state["turned"].copy()

    def notes(self) -> dict[str, Any]:
        s = self._softening
        return {
            "temperatures": [self._temperature] * len(s.scales),
            "scales": s.scales.tolist(),
            "swap_rates": (s.taken / np.maximum(s.tried, 1)).tolist(),
            "turn_rates": (s.turns_taken / max(1, s.tries * s.replicas * s.rounds)).tolist(),
        }


def masses_of(p: Parameters, settings: Settings) -> np.ndarray:
    """Masses `(atoms,)` in Da, hydrogens as the settings want them."""
    if not settings.hydrogen_mass:
        return p.masses
    return with_hydrogen_mass(p.masses, p.bonds, settings.hydrogen_mass)


def annealed(
    x: Tensor, integrator: Integrator, packed: Packed, temperature: float, settings: Settings
) -> np.ndarray:
    """Independent start structures `(replicas, atoms, 3)` from x: each walks alone at `temperature` K."""
    start = np.repeat(x[None].float().numpy(), settings.replicas, axis=0)
    kts = np.full(settings.replicas, kt(temperature))
    walkers = Walkers.start(start, kts, integrator.masses, settings.seed + 1)
    integrator.advance(walkers, settings.anneal_steps, packed, torch.get_num_threads())
    return walkers.x


def frozen(ladders: Tempering | Softening) -> dict[str, np.ndarray]:
    """Walkers and counts of ladders, as arrays."""
    w = ladders.walkers
    counts = {"rounds": np.array(ladders.rounds), "tried": ladders.tried, "taken": ladders.taken}
    return {"x": w.x, "v": w.v, "random": w.random, "kt": w.kt, **counts}


def thawed(state: Mapping[str, np.ndarray]) -> tuple[Walkers, int, np.ndarray, np.ndarray]:
    """Walkers, rounds, and swaps tried and taken of a frozen state."""
    walkers = Walkers(*(state[name].copy() for name in ("x", "v", "random", "kt")))
    return walkers, int(state["rounds"]), state["tried"].copy(), state["taken"].copy()


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
            context = openmm.Context(weighted(system, settings), integrator, platform, {"Threads": "1"})
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


def weighted(system: System, settings: Settings) -> Any:
    """The `openmm.System` with hydrogens as heavy as the settings want them."""
    made = openmm_system(system)
    if settings.hydrogen_mass:
        masses = np.array([made.getParticleMass(i)._value for i in range(system.n_atoms)])
        for i, mass in enumerate(with_hydrogen_mass(masses, np.array(system.bonds), settings.hydrogen_mass)):
            made.setParticleMass(i, float(mass))
    return made


SOFTENED = Settings(
    engine="softened", rungs=3, high=550.0, step=2.0, hydrogen_mass=3.0, round_steps=50, warm_up=200, turns=20
)
"""Settings of `softened`: hydrogens of 3 Da allow 2 fs; swaps and turns every 0.1 ps."""

ENGINES: dict[str, Callable[[System, Settings], AbstractEngine]] = {
    "batched": TemperingEngine,
    "softened": SofteningEngine,
    "openmm": OpenMMEngine,
}


def steps_per_walker(settings: Settings, frames: int) -> int:
    """Integration steps each walker takes for `frames` frames in all."""
    per_replica = math.ceil(frames / settings.replicas)
    return settings.round_steps * (settings.warm_up + settings.rounds_per_frame * per_replica)


def evaluations(settings: Settings, frames: int) -> int:
    """Energy evaluations of a simulation: anneals, steps of all walkers, what `softened` asks around turns.

    Neither the one energy a round of `batched`'s swaps nor minimisation and TICA runs are among them.
    """
    steps = steps_per_walker(settings, frames)
    if settings.engine == "softened":
        steps += steps // settings.round_steps * (settings.turns + AROUND)
    walkers = 1 if settings.engine == "openmm" else settings.rungs
    return settings.replicas * (settings.anneal_steps + walkers * steps)
