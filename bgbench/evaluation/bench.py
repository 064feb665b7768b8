"""What a cell is judged on: its system, reference, protocol, floors and metered energy."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from bgbench.core.abstract import AbstractEnergy
from bgbench.core.plugins import energy, plugins
from bgbench.core.types import Reference, Suite, System
from bgbench.energies.meter import MeteredEnergy
from bgbench.evaluation.cell import Cell
from bgbench.evaluation.floors import FloorKey, Floors, Scores
from bgbench.evaluation.protocols import Protocol, get_protocol
from bgbench.evaluation.suites import load_suite
from bgbench.references.providers import find_reference
from bgbench.systems.named import find_member


@dataclass(frozen=True)
class Bench:
    """A cell with everything that it is judged on, and the meter that guards its energy.

    Attributes:
        cell: what determines the result.
        system: what is sampled.
        reference: the truth; for a control that draws from it, the half that it does not draw from.
        protocol: the rules.
        floors: noise floors and controls of the whole reference that have been measured before.
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

    @property
    def judged_by_half(self) -> bool:
        """Whether the reference is one half of the frames that there are."""
        return self.reference.n_samples < self.floors.reference.n_samples


def open_bench(
    cell: Cell,
    folder: Path | None = None,
    measured: Mapping[FloorKey, Scores] | None = None,
    judged_by: Mapping[str, Any] | None = None,
) -> Bench:
    """Look up everything that a cell is judged on.

    Args:
        cell: the cell.
        folder: its run folder, whose copies of suite and protocol are used.
        measured: floors and controls that are known already, of any reference; the others are measured when
            the cell is judged.
        judged_by: what the record of a finished cell says of its reference. Controls that draw from the
            reference were judged by the whole of it before 28 November 2026.

    Raises:
        BgbenchError: for anything unknown or not at hand, saying how to get it.
    """
    suite = load_suite(cell.suite, folder)
    system = find_member(suite, cell.system, cell.temperature)
    reference = find_reference(system, suite.id)
    target = energy(system, cell.energy)
    protocol = get_protocol(cell.protocol, folder)
    half = draws_from_reference(cell.sampler) and (judged_by is None or "half" in judged_by)
    return Bench(
        cell=cell,
        system=system,
        reference=replace(reference.halves()[1], sha256=reference.sha256) if half else reference,
        protocol=protocol,
        floors=Floors(protocol, system, reference).recall(measured or {}),
        energy=target,
        oracle=MeteredEnergy(target, cell.budget),
        suite=suite,
    )


def draws_from_reference(sampler: str) -> bool:
    """Whether a sampler is a control that draws from the reference; one that is not installed is none.

    >>> draws_from_reference("reference"), draws_from_reference("md")
    (True, False)
    """
    samplers = plugins().samplers
    return sampler in samplers and samplers[sampler].draws_from_reference


def generator(cell: Cell, purpose: str = "sample") -> torch.Generator:
    """The cell's generator for one purpose.

    It does not depend on the sampler: samplers on the same system and seed get common random numbers.
    """
    text = f"{cell.suite}/{cell.system}/{cell.seed}/{purpose}"
    seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1
    return torch.Generator().manual_seed(seed)
