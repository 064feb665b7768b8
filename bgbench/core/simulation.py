"""The interface of engines that simulate references, and the settings that they are called with."""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from bgbench.core.abstract import AbstractEnergy
from bgbench.core.devices import CPU
from bgbench.core.errors import BgbenchError
from bgbench.core.types import System


@dataclass(frozen=True)
class SimulationSettings:
    """How to simulate references.

    Args:
        engine: name of a registered engine: `batched`, `softened`, `openmm` or another plugin's.
        replicas: independent starts.
        rungs: temperatures of a ladder, or scales of `softened`.
        high: K, the top of the ladder; of `softened`, the temperature that the scaled terms stand for.
        step: fs.
        hydrogen_mass: Da; 0 leaves hydrogens as the force field has them.
        round_steps: steps between exchanges.
        rounds_per_frame: rounds between two frames.
        warm_up: rounds thrown away at the start.
        anneal_steps: before the warm-up, at 700 K; of `softened`, at the top rung.
        torsion_moves: tried by each walker and round, `softened` only.
        seed: of starts, dynamics, moves and exchanges.

    Raises:
        BgbenchError: for a number that is too small or not finite.

    >>> SimulationSettings(replicas=0)
    Traceback (most recent call last):
    bgbench.core.errors.BgbenchError: replicas must be 1 or more, got 0
    """

    engine: str = "batched"
    """Name of the engine (`--engine`)."""
    replicas: int = 16
    """Independent starts (`--replicas`)."""
    rungs: int = 6
    """Temperatures of a ladder, or scales of `softened`."""
    high: float = 700.0
    """K, the top of the ladder; of `softened`, the temperature that the scaled terms stand for."""
    step: float = 1.0
    """fs (`--step`)."""
    hydrogen_mass: float = 0.0
    """Da; 0 leaves hydrogens as the force field has them (`--hydrogen-mass`)."""
    round_steps: int = 200
    """Steps between exchanges."""
    rounds_per_frame: int = 2
    """Rounds between two frames; `--ns` computes it."""
    warm_up: int = 100
    """Rounds thrown away at the start."""
    anneal_steps: int = 20_000
    """Steps before the warm-up, at 700 K; of `softened`, at the top rung."""
    torsion_moves: int = 0
    """Tried by each walker and round, `softened` only."""
    seed: int = 0
    """Of starts, dynamics, moves and exchanges (`--seed`)."""

    def __post_init__(self) -> None:
        least = {"replicas": 1, "rungs": 1, "round_steps": 1, "rounds_per_frame": 1, "step": 1e-3}
        least |= {"hydrogen_mass": 0, "warm_up": 0, "anneal_steps": 0, "torsion_moves": 0, "seed": 0}
        for name, limit in least.items():
            if not limit <= getattr(self, name) < math.inf:
                words = name.replace("_", " ")
                raise BgbenchError(f"{words} must be {limit:g} or more, got {getattr(self, name):g}")

    def to_record(self) -> dict[str, Any]:
        """Return the settings as certificates hold them, where torsion moves are called `turns`.

        Returns:
            The settings by name.
        """
        return {"turns" if name == "torsion_moves" else name: value for name, value in asdict(self).items()}


class AbstractEngine(ABC):
    """Walkers whose positions at the target temperature are the frames.

    An engine starts when it is made, advances by rounds of `settings.round_steps` steps, and can be frozen
    into arrays, so that a simulation that was stopped goes on where it was. The walkers of one replica may
    exchange; replicas are independent of each other. An engine computes on the CPU, unless its class says
    `any_device`; it is then made with a device as third argument.

    Args:
        system: what is simulated.
        settings: as the command line gives them, checked by `check_settings`.
        device: where the walkers are, for engines of any device alone.

    >>> from bgbench.core.plugins import plugins
    >>> engine = plugins().engines["batched"].engine
    >>> engine.count_evaluations(engine.reference_settings(), steps=1000)
    26000
    """

    any_device = False
    """Whether the engine computes on the device that it is made with; else on the CPU."""

    settings: SimulationSettings

    @abstractmethod
    def __init__(self, system: System, settings: SimulationSettings, device: torch.device = CPU) -> None:
        """Start the walkers; the warm-up is the caller's."""

    @staticmethod
    @abstractmethod
    def reference_settings() -> SimulationSettings:
        """Say how this engine simulates references.

        Returns:
            The settings.
        """

    @staticmethod
    @abstractmethod
    def training_settings() -> SimulationSettings:
        """Say how this engine simulates training and validation sets, which are short and broad.

        Returns:
            The settings.
        """

    @staticmethod
    @abstractmethod
    def check_settings(settings: SimulationSettings) -> None:
        """Raise BgbenchError for settings that only this kind of engine refuses.

        Args:
            settings: of a simulation before it starts.
        """

    @staticmethod
    @abstractmethod
    def count_evaluations(settings: SimulationSettings, steps: int) -> int:
        """Count the energy evaluations of a replica after its start was annealed.

        Args:
            settings: of the simulation.
            steps: of each walker.

        Returns:
            Evaluations, one a conformer.
        """

    @property
    @abstractmethod
    def energy(self) -> AbstractEnergy:
        """The energy whose ensemble the frames are drawn from."""

    @abstractmethod
    def advance(self, rounds: int) -> None:
        """Run rounds of dynamics.

        Args:
            rounds: how many, of `settings.round_steps` steps each.
        """

    @abstractmethod
    def copy_target_positions(self) -> np.ndarray:
        """Copy the positions at the target temperature.

        Returns:
            `(replicas, atoms, 3)` in nm, float32.
        """

    @abstractmethod
    def start_langevin(self) -> "AbstractEngine":
        """Start plain Langevin dynamics at the target temperature, from this engine's last positions.

        An engine whose own dynamics are plain may return itself, and is then advanced further.

        Returns:
            The engine that goes on.
        """

    @abstractmethod
    def freeze(self) -> dict[str, np.ndarray]:
        """Copy everything needed to go on.

        Returns:
            Arrays by name.
        """

    @abstractmethod
    def thaw(self, state: Mapping[str, np.ndarray]) -> None:
        """Go on from a frozen state.

        Args:
            state: what `freeze` returned.
        """

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """Describe the dynamics for the certificate.

        Returns:
            Entries that JSON can hold.
        """
