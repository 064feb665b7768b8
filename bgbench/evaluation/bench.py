"""What a cell is judged on: its system, reference, protocol and metered energy."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import torch

from bgbench.core.abstract import AbstractEnergy
from bgbench.core.plugins import energy
from bgbench.core.types import Reference, Suite, System
from bgbench.energies.meter import MeteredEnergy
from bgbench.evaluation.cell import Cell
from bgbench.evaluation.protocols import Protocol, get_protocol
from bgbench.evaluation.suites import load_suite
from bgbench.references.providers import find_reference
from bgbench.systems.analytic import analytic_reference, analytic_system
from bgbench.systems.peptides import peptide


@dataclass(frozen=True)
class Bench:
    """What a cell is judged on, and the meter that guards it."""

    system: System
    reference: Reference
    protocol: Protocol
    energy: AbstractEnergy
    oracle: MeteredEnergy
    suite: Suite


def open_bench(cell: Cell, folder: Path | None = None) -> Bench:
    """The system, its reference, the protocol and the metered energy of a cell of the run in `folder`.

    Raises:
        BgbenchError: for anything unknown or not at hand, saying how to get it.
    """
    suite = load_suite(cell.suite, folder)
    if cell.system.startswith("analytic:"):
        system = analytic_system(cell.system)
        reference = analytic_reference(cell.system)
    else:
        system = peptide(cell.system, cell.temperature, suite.forcefield)
        reference = find_reference(system, suite.id)
    target = energy(system, cell.energy)
    oracle = MeteredEnergy(target, cell.budget)
    return Bench(system, reference, get_protocol(cell.protocol), target, oracle, suite)


def generator(cell: Cell, purpose: str = "sample") -> torch.Generator:
    """The cell's generator. It does not depend on the sampler: common random numbers where shared."""
    text = f"{cell.suite}/{cell.system}/{cell.seed}/{purpose}"
    seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1
    return torch.Generator().manual_seed(seed)
