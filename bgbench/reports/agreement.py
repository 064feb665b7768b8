"""Two references of one system: how far apart they are, beside how far the replicas of either are."""

from dataclasses import dataclass, replace
from pathlib import Path

import torch

from bgbench.core.abstract import Estimate, MetricCase
from bgbench.core.errors import BgbenchError
from bgbench.core.resources import data_path
from bgbench.core.types import Ensemble, Proposal, Reference, System
from bgbench.evaluation.floors import Floors
from bgbench.evaluation.protocols import Protocol
from bgbench.metrics.compute import compute_metrics
from bgbench.metrics.names import WITH_FLOOR
from bgbench.references.providers import own_folder, reference_path
from bgbench.references.store import read_reference


@dataclass(frozen=True)
class Gap:
    """One distance between two references, the noise floors of both and their bounds, in the metric's unit.

    None stands for the bound of a floor without one.
    """

    metric: str
    value: float
    floors: tuple[float, float]
    bounds: tuple[float | None, float | None]

    @property
    def verdict(self) -> str:
        """What floors and bounds say of the distance, as MEANING explains."""
        bounds = [bound for bound in self.bounds if bound is not None]
        if self.value <= max(self.floors):
            return "within the floors"
        if self.value <= max(bounds, default=0.0):
            return "not distinguishable"
        return "apart" if len(bounds) == 2 else "above the floors"

    def __str__(self) -> str:
        floors = " and ".join(map(_with_bound, self.floors, self.bounds))
        return f"{self.metric} {self.value:.3g}, floors {floors}: {self.verdict}"


MEANING = (
    "floors: the halves of a reference's replicas against each other, at as many frames as the distance or "
    "half of the reference's; mean of several ways to halve them, in brackets the bound that one more would "
    "stay below (97.5 %). 'within the floors': no more than the larger floor; 'apart': above both bounds; "
    "'not distinguishable': between; 'above the floors': the same where a bound is missing, as with 2 to 4 "
    "replicas"
)
"""How to read a line of a comparison."""


def read_pair(system: System, other: Path | None = None) -> tuple[Reference, Reference]:
    """Read the user's own reference and the packaged one, or those of `other` and of the folder in use.

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


def measure_gaps(system: System, first: Reference, second: Reference, protocol: Protocol) -> list[Gap]:
    """Measure the distances of the first reference to the second, with both floors; TICs are the second's."""
    first = replace(first, tica=second.tica)
    n = min(protocol.n_samples, first.n_samples, second.n_samples)
    case = MetricCase(system, equal(first), second, n, torch.Generator().manual_seed(0), protocol.options)
    values = compute_metrics(case, WITH_FLOOR)
    floors = [Floors(protocol, system, reference) for reference in (first, second)]
    one, other = (known.measure(known.split_keys(n)) for known in floors)
    means, bounds = (one.means(n), other.means(n)), (one.bounds(n), other.bounds(n))
    return [
        Gap(
            name,
            values[name],
            (means[0][name], means[1][name]),
            (bounds[0].get(name), bounds[1].get(name)),
        )
        for name in means[1]
        if name in values
    ]


def equal(reference: Reference) -> Estimate:
    """The frames of a reference as an ensemble of equal weights."""
    return Estimate(Ensemble.unweighted(reference.x, reference.u), Proposal(reference.x))


def _with_bound(floor: float, bound: float | None) -> str:
    return f"{floor:.3g} (no bound)" if bound is None else f"{floor:.3g} ({bound:.3g})"
