"""What a cell is judged on: its system, reference, protocol, floors and metered energy."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from bgbench.core.abstract import AbstractEnergy
from bgbench.core.plugins import energy
from bgbench.core.types import Reference, Suite, System
from bgbench.energies.meter import MeteredEnergy
from bgbench.evaluation.cell import Cell
from bgbench.evaluation.floors import FloorKey, Floors, Scores
from bgbench.evaluation.protocols import Protocol, get_protocol
from bgbench.evaluation.suites import load_suite
from bgbench.references.providers import find_reference
from bgbench.systems.named import find_system


@dataclass(frozen=True)
class Bench:
    """A cell with everything that it is judged on, and the meter that guards its energy.

    Attributes:
        cell: what determines the result.
        system: what is sampled.
        reference: the truth.
        protocol: the rules.
        floors: noise floors and controls of the reference that have been measured before.
        energy: the target, not metered: for checks, never for samplers.
        oracle: the same energy behind the cell's budget.
        suite: where the system comes from.
    """

    cell: Cell
    system: System
    reference: Reference
    protocol: Protocol
    floors: Floors
    energy: AbstractEnergy
    oracle: MeteredEnergy
    suite: Suite


def open_bench(
    cell: Cell, folder: Path | None = None, measured: Mapping[FloorKey, Scores] | None = None
) -> Bench:
    """Look up everything that a cell is judged on.

    Args:
        cell: the cell.
        folder: its run folder, whose copies of suite and protocol are used.
        measured: floors and controls that are known already, of any reference; the others are measured when
            the cell is judged.

    Raises:
        BgbenchError: for anything unknown or not at hand, saying how to get it.
    """
    suite = load_suite(cell.suite, folder)
    system = find_system(cell.system, cell.temperature, suite.forcefield)
    reference = find_reference(system, suite.id)
    target = energy(system, cell.energy)
    protocol = get_protocol(cell.protocol, folder)
    return Bench(
        cell=cell,
        system=system,
        reference=reference,
        protocol=protocol,
        floors=Floors(protocol, system, reference).recall(measured or {}),
        energy=target,
        oracle=MeteredEnergy(target, cell.budget),
        suite=suite,
    )


def generator(cell: Cell, purpose: str = "sample") -> torch.Generator:
    """The cell's generator for one purpose.

    It does not depend on the sampler: samplers on the same system and seed get common random numbers.
    """
    text = f"{cell.suite}/{cell.system}/{cell.seed}/{purpose}"
    seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1
    return torch.Generator().manual_seed(seed)
