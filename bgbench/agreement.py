"""Two references of one system: how far apart they are, beside how far the replicas of either are."""

from dataclasses import dataclass
from pathlib import Path

import torch

from bgbench.abstract import Estimate
from bgbench.errors import BgbenchError
from bgbench.protocols import Protocol
from bgbench.references.providers import own_folder, reference_path
from bgbench.references.store import read_reference
from bgbench.resources import data_path
from bgbench.types import Ensemble, Proposal, Reference, System


@dataclass(frozen=True)
class Gap:
    """One distance between two references, and the noise floors of both, in the metric's unit."""

    metric: str
    value: float
    floors: tuple[float, float]

    @property
    def apart(self) -> bool:
        """Whether the two are further apart than both floors."""
        return self.value > max(self.floors)


def both(system: System, other: Path | None = None) -> tuple[Reference, Reference]:
    """The user's own reference and the packaged one, or those of `other` and of the folder in use.

    Raises:
        BgbenchError: if either is missing, or they are one and the same.
    """
    name = reference_path(system.name, system.temperature, system.forcefield)
    ours, packaged = own_folder() / name, data_path("references") / name
    paths = (ours, packaged) if other is None else (other / name, ours if ours.is_file() else packaged)
    for path in paths:
        if not path.is_file():
            raise BgbenchError(
                f"{path} does not exist; simulate {system.name}, fetch it, or give --with FOLDER"
            )
    first, second = (read_reference(path, system) for path in paths)
    if first.sha256 == second.sha256:
        raise BgbenchError(f"both references of {system.name} are the same file, {first.sha256[:12]}")
    return first, second


def gaps(system: System, pair: tuple[Reference, Reference], protocol: Protocol) -> list[Gap]:
    """Every distance of the first reference to the second, with the second's TICA model and states."""
    first, second = pair
    there = protocol.judge(equal(first), second, system, torch.Generator().manual_seed(0))
    back = protocol.judge(equal(second), first, system, torch.Generator().manual_seed(0))
    return [
        Gap(name, there.metrics[name], (back.floors.get(name, 0.0), floor))
        for name, floor in there.floors.items()
    ]


def equal(reference: Reference) -> Estimate:
    """The frames of a reference as an ensemble of equal weights."""
    return Estimate(Ensemble.unweighted(reference.x, reference.u), Proposal(reference.x))
