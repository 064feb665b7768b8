"""Engines that simulate reference frames: parallel tempering, solute scaling, plain OpenMM.

`bgbench.core.simulation` has their interface. `softened` is what files and the command line call replica
exchange with solute scaling.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bgbench.core.abstract import AbstractEnergy
from bgbench.core.devices import CPU
from bgbench.core.errors import BgbenchError
from bgbench.core.plugins import plugins
from bgbench.core.simulation import AbstractEngine, SimulationSettings
from bgbench.core.types import System
from bgbench.core.units import kt
from bgbench.dynamics.device import DeviceLadders, Rungs
from bgbench.dynamics.langevin import Integrator, Walkers, with_hydrogen_mass
from bgbench.dynamics.solute_scaling import (
    EVALUATIONS_AROUND_MOVES,
    SoluteScaling,
    TorsionMoves,
    scale_solute,
)
from bgbench.dynamics.tempering import Tempering, ladder
from bgbench.energies.batched import BatchedEnergy
from bgbench.energies.minimise import minimise
from bgbench.energies.openmm import OpenMMEnergy, openmm_system
from bgbench.energies.packed import pack
from bgbench.energies.parameters import Parameters

ANNEALING_TEMPERATURE = 700.0
"""K at which independent starts are made."""

MINIMISER_EVALUATIONS = 300

MAX_OPENMM_SEED = 2_000_000
"""OpenMM's seeds have 31 bits, and a seed here stands for a thousand of them, one for each replica."""


class TemperingEngine(AbstractEngine):
    """Parallel tempering on the compiled energy, from independently annealed starts."""

    any_device = True

    def __init__(self, system: System, settings: SimulationSettings, device: torch.device = CPU) -> None:
        energy = BatchedEnergy(system, "compiled")
        p, masses = energy.parameters, build_masses(energy.parameters, settings)
        self.settings, self._system, self._energy, self._device = settings, system, energy, device
        integrator = Integrator(masses, settings.step / 1000)
        self.temperatures = ladder(system.temperature, settings.high, settings.rungs)
        start = minimise(energy, system.positions, MINIMISER_EVALUATIONS)
        starts = anneal(start, integrator, p, ANNEALING_TEMPERATURE, settings, device)
        self._ladders: Tempering | DeviceLadders
        self._round: Callable[[], object]
        if device == CPU:
            self._ladders = tempering = Tempering.start(starts, self.temperatures, masses, settings.seed)
            packed = pack(p, np.float32)
            self._round = lambda: tempering.round(
                integrator, settings.round_steps, packed, torch.get_num_threads()
            )
        else:
            rungs = Rungs.by_temperature(p, self.temperatures, device)
            self._ladders = walk = DeviceLadders(starts, rungs, integrator, device, [settings.seed, 0])
            self._round = lambda: walk.round(settings.round_steps)

    @staticmethod
    def reference_settings() -> SimulationSettings:
        return SimulationSettings()

    @staticmethod
    def training_settings() -> SimulationSettings:
        return BROAD

    @staticmethod
    def check_settings(settings: SimulationSettings) -> None:
        del settings

    @staticmethod
    def count_evaluations(settings: SimulationSettings, steps: int) -> int:
        return settings.anneal_steps + settings.rungs * steps

    @property
    def energy(self) -> AbstractEnergy:
        return self._energy

    def advance(self, rounds: int) -> None:
        for _ in range(rounds):
            self._round()

    def copy_target_positions(self) -> np.ndarray:
        return self._ladders.target_positions.copy()

    def start_langevin(self) -> AbstractEngine:
        return start_langevin(self._system, self.settings, self.copy_target_positions(), self._device)

    def freeze(self) -> dict[str, np.ndarray]:
        return self._ladders.freeze()

    def thaw(self, state: Mapping[str, np.ndarray]) -> None:
        self._ladders.thaw(state)

    def describe(self) -> dict[str, Any]:
        return {"temperatures": self.temperatures.tolist(), "swap_rates": swap_rates(self._ladders)}


class SoluteScalingEngine(AbstractEngine):
    """Replica exchange with solute scaling: at rung k torsions and contacts are as if at temperature T_k.

    At the top rung they have the Boltzmann factor of `settings.high` K. Starts are annealed there.

    Raises:
        BgbenchError: if `settings.high` is not above the system's temperature.
    """

    any_device = True

    def __init__(self, system: System, settings: SimulationSettings, device: torch.device = CPU) -> None:
        energy = BatchedEnergy(system, "compiled")
        p, masses = energy.parameters, build_masses(energy.parameters, settings)
        self.settings, self._system, self._energy, self._device = settings, system, energy, device
        integrator = Integrator(masses, settings.step / 1000)
        if settings.high <= system.temperature:
            raise BgbenchError(
                f"scaled terms reach {settings.high:g} K, which is not above the system's "
                f"{system.temperature:g} K; use --engine batched"
            )
        self.scales = system.temperature / ladder(system.temperature, settings.high, settings.rungs)
        moves = TorsionMoves.of_system(system, p.torsions)
        top = scale_solute(p, moves, float(self.scales[-1]))
        start = minimise(energy, system.positions, MINIMISER_EVALUATIONS)
        starts = anneal(start, integrator, top, system.temperature, settings, device)
        self._ladders: SoluteScaling | DeviceLadders
        self._round: Callable[[], object]
        n_moves, seed = settings.torsion_moves, settings.seed
        if device == CPU:
            kts = np.full(settings.replicas * settings.rungs, kt(system.temperature))
            walkers = Walkers.start(np.tile(starts, (settings.rungs, 1, 1)), kts, masses, seed)
            self._ladders = scaling = SoluteScaling.start(system, p, walkers, self.scales, n_moves, seed)
            self._round = lambda: scaling.round(integrator, settings.round_steps, torch.get_num_threads())
        else:
            rungs = Rungs.by_scale(p, moves, self.scales, system.temperature, device)
            self._ladders = walk = DeviceLadders(starts, rungs, integrator, device, [seed, 0], moves, n_moves)
            self._round = lambda: walk.round(settings.round_steps)

    @staticmethod
    def reference_settings() -> SimulationSettings:
        return SOLUTE_SCALING

    @staticmethod
    def training_settings() -> SimulationSettings:
        return replace(SOLUTE_SCALING, anneal_steps=5_000, warm_up=50)

    @staticmethod
    def check_settings(settings: SimulationSettings) -> None:
        del settings

    @staticmethod
    def count_evaluations(settings: SimulationSettings, steps: int) -> int:
        rounds = steps // settings.round_steps
        around_steps = rounds * (settings.torsion_moves + EVALUATIONS_AROUND_MOVES)
        return settings.anneal_steps + settings.rungs * (steps + around_steps)

    @property
    def energy(self) -> AbstractEnergy:
        return self._energy

    def advance(self, rounds: int) -> None:
        for _ in range(rounds):
            self._round()

    def copy_target_positions(self) -> np.ndarray:
        return self._ladders.target_positions.copy()

    def start_langevin(self) -> AbstractEngine:
        return start_langevin(self._system, self.settings, self.copy_target_positions(), self._device)

    def freeze(self) -> dict[str, np.ndarray]:
        return self._ladders.freeze()

    def thaw(self, state: Mapping[str, np.ndarray]) -> None:
        self._ladders.thaw(state)

    def describe(self) -> dict[str, Any]:
        s = self._ladders
        tried = max(1, s.moves_per_round * s.replicas * s.rounds)
        return {
            "temperatures": [self._system.temperature] * len(self.scales),
            "scales": self.scales.tolist(),
            "swap_rates": swap_rates(s),
            "turn_rates": (s.moves_accepted / tried).tolist(),
        }


def build_masses(p: Parameters, settings: SimulationSettings) -> np.ndarray:
    """Masses `(atoms,)` in Da, hydrogens of the mass that the settings ask for."""
    if not settings.hydrogen_mass:
        return p.masses
    return with_hydrogen_mass(p.masses, p.bonds, settings.hydrogen_mass)


def anneal(
    x: Tensor,
    integrator: Integrator,
    p: Parameters,
    temperature: float,
    settings: SimulationSettings,
    device: torch.device,
) -> np.ndarray:
    """Independent start structures `(replicas, atoms, 3)` nm: from x, each walks alone at `temperature` K."""
    start = np.repeat(x[None].float().cpu().numpy(), settings.replicas, axis=0)
    if device == CPU:
        kts = np.full(settings.replicas, kt(temperature))
        walkers = Walkers.start(start, kts, integrator.masses, settings.seed + 1)
        integrator.advance(walkers, settings.anneal_steps, pack(p, np.float32), torch.get_num_threads())
        return walkers.x
    rungs = Rungs.by_temperature(p, np.array([temperature]), device)
    walk = DeviceLadders(start, rungs, integrator, device, [settings.seed, 1])
    walk.advance(settings.anneal_steps)
    return walk.target_positions


def start_langevin(
    system: System, settings: SimulationSettings, x: np.ndarray, device: torch.device
) -> TemperingEngine:
    """Plain Langevin dynamics from `x (replicas, atoms, 3)` nm: no exchanges, rounds of 1 ps."""
    single = replace(
        settings,
        engine="batched",
        rungs=1,
        round_steps=round(1000 / settings.step),
        warm_up=0,
        anneal_steps=0,
    )
    engine = TemperingEngine(system, single, device)
    engine.thaw({**engine.freeze(), "x": x})
    return engine


def swap_rates(ladders: Tempering | SoluteScaling | DeviceLadders) -> list[float]:
    """Fraction of accepted swaps of each pair of neighbouring rungs."""
    return (ladders.swaps_accepted / np.maximum(ladders.swaps_tried, 1)).tolist()


class OpenMMEngine(AbstractEngine):
    """One OpenMM Langevin trajectory for each replica, at the target temperature: slow, and the truth."""

    def __init__(self, system: System, settings: SimulationSettings) -> None:
        import openmm

        self.settings, self._system = settings, system
        self._contexts = []
        for replica in range(settings.replicas):
            integrator = openmm.LangevinMiddleIntegrator(ANNEALING_TEMPERATURE, 0.3, settings.step / 1000)
            integrator.setRandomNumberSeed(settings.seed * 1000 + replica + 1)
            platform = openmm.Platform.getPlatformByName("CPU")
            context = openmm.Context(
                build_openmm_system(system, settings), integrator, platform, {"Threads": "1"}
            )
            context.setPositions(system.positions.cpu().numpy())
            openmm.LocalEnergyMinimizer.minimize(context)
            context.setVelocitiesToTemperature(ANNEALING_TEMPERATURE, settings.seed * 1000 + replica + 1)
            integrator.step(settings.anneal_steps)
            integrator.setTemperature(system.temperature)
            self._contexts.append(context)

    @staticmethod
    def reference_settings() -> SimulationSettings:
        return SimulationSettings(engine="openmm")

    @staticmethod
    def training_settings() -> SimulationSettings:
        return replace(BROAD, engine="openmm")

    @staticmethod
    def check_settings(settings: SimulationSettings) -> None:
        if settings.seed > MAX_OPENMM_SEED:
            raise BgbenchError(f"with openmm seed must be {MAX_OPENMM_SEED} or less, got {settings.seed}")

    @staticmethod
    def count_evaluations(settings: SimulationSettings, steps: int) -> int:
        return settings.anneal_steps + steps

    @property
    def energy(self) -> AbstractEnergy:
        return OpenMMEnergy(self._system)

    def advance(self, rounds: int) -> None:
        for context in self._contexts:
            context.getIntegrator().step(rounds * self.settings.round_steps)

    def copy_target_positions(self) -> np.ndarray:
        states = [context.getState(getPositions=True) for context in self._contexts]
        return np.stack([state.getPositions(asNumpy=True)._value for state in states]).astype(np.float32)

    def start_langevin(self) -> AbstractEngine:
        return self

    def freeze(self) -> dict[str, np.ndarray]:
        saved = [np.frombuffer(context.createCheckpoint(), np.uint8) for context in self._contexts]
        return {f"checkpoint{k}": array for k, array in enumerate(saved)}

    def thaw(self, state: Mapping[str, np.ndarray]) -> None:
        for k, context in enumerate(self._contexts):
            context.loadCheckpoint(state[f"checkpoint{k}"].tobytes())

    def describe(self) -> dict[str, Any]:
        return {"temperatures": [self._system.temperature]}


def build_openmm_system(system: System, settings: SimulationSettings) -> Any:
    """The `openmm.System` with hydrogens of the mass that the settings ask for."""
    built = openmm_system(system)
    if settings.hydrogen_mass:
        masses = np.array([built.getParticleMass(i)._value for i in range(system.n_atoms)])
        for i, mass in enumerate(with_hydrogen_mass(masses, np.array(system.bonds), settings.hydrogen_mass)):
            built.setParticleMass(i, float(mass))
    return built


def find_engine(settings: SimulationSettings, device: torch.device = CPU) -> type[AbstractEngine]:
    """The engine of these settings, for walkers on a device.

    Raises:
        BgbenchError: for an unknown engine, listing the known ones, or for settings or a device that it
            refuses.
    """
    engine = plugins().engines[settings.engine].engine
    engine.check_settings(settings)
    if device != CPU and not engine.any_device:
        raise BgbenchError(
            f"device={device}: engine '{settings.engine}' computes on the CPU; choose cpu or auto"
        )
    return engine


def start_engine(system: System, settings: SimulationSettings, device: torch.device = CPU) -> AbstractEngine:
    """The engine of these settings, started on a device.

    Raises:
        BgbenchError: as `find_engine` does, or for a system that the engine refuses.
    """
    engine = find_engine(settings, device)
    return engine(system, settings, device) if engine.any_device else engine(system, settings)


BROAD = SimulationSettings(
    replicas=32,
    rungs=2,
    high=400.0,
    step=2.0,
    hydrogen_mass=3.0,
    round_steps=100,
    rounds_per_frame=4,
    warm_up=30,
    anneal_steps=10_000,
)
"""Settings of `batched` and `openmm` for training sets: many starts, each for a short time. Hydrogens of 3 Da
allow steps of 2 fs and leave the distribution of conformations as it is. The torsion moves of `softened` make
so many starts unnecessary."""

SOLUTE_SCALING = SimulationSettings(
    engine="softened",
    rungs=3,
    high=550.0,
    step=2.0,
    hydrogen_mass=3.0,
    round_steps=50,
    warm_up=200,
    torsion_moves=20,
)
"""Settings for replica exchange with solute scaling: hydrogens of 3 Da allow 2 fs; moves and swaps every
0.1 ps."""


def count_steps(settings: SimulationSettings, frames: int) -> int:
    """Integration steps that each walker takes for `frames` frames in all."""
    per_replica = math.ceil(frames / settings.replicas)
    return settings.round_steps * (settings.warm_up + settings.rounds_per_frame * per_replica)


def count_evaluations(settings: SimulationSettings, frames: int) -> int:
    """Energy evaluations of a simulation: annealing, steps of all walkers, torsion moves.

    Not counted are the energy of each walker and round that `batched` needs for its swaps, minimisation, and
    the runs that TICA is fitted on.
    """
    engine = find_engine(settings)
    return settings.replicas * engine.count_evaluations(settings, count_steps(settings, frames))
