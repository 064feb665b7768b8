"""The plugin contract, whole: what a plugin registers, and the hooks that register it.

Implement any of these six hooks and name the module in the entry-point group `bgbench`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pluggy

from bgbench.core.abstract import AbstractEnergy, AbstractEstimator, AbstractSampler, MetricCase
from bgbench.core.types import Card, System


@dataclass(frozen=True)
class SamplerPlugin:
    """A sampler as registered: how to build it from `--set` options, train it, import weights."""

    name: str
    summary: str
    build: Callable[[Mapping[str, str]], AbstractSampler]
    card: Callable[[Mapping[str, str]], Card]
    estimator: str = "none"
    citation: str = ""
    train: Callable[[Mapping[str, str]], Path] | None = None
    import_weights: Callable[[Path, Path], Path] | None = None


@dataclass(frozen=True)
class EnergyPlugin:
    """An energy backend as registered."""

    name: str
    summary: str
    build: Callable[[System], AbstractEnergy]


@dataclass(frozen=True)
class EstimatorPlugin:
    """An estimator as registered. `in_order`: its first points are what a smaller budget would buy."""

    name: str
    summary: str
    build: Callable[[Mapping[str, str]], AbstractEstimator]
    citation: str = ""
    in_order: bool = True


@dataclass(frozen=True)
class MetricPlugin:
    """A metric as registered. `compute` returns named values; `better` is `lower`, `higher` or ``."""

    name: str
    summary: str
    compute: Callable[[MetricCase], Mapping[str, float]]
    unit: str = ""
    better: str = "lower"
    citation: str = ""


@dataclass(frozen=True)
class TrackerPlugin:
    """A tracker as registered: mirrors a run folder to a URI, again and again while the run goes on.

    `mirror(folder, uri, sent)`: `sent` is empty at first; the tracker notes there what it need not look at
    again, under the cell's name the time at which its record was written.
    """

    name: str
    summary: str
    mirror: Callable[[Path, str, dict[str, int]], None]


hookspec = pluggy.HookspecMarker("bgbench")
hookimpl = pluggy.HookimplMarker("bgbench")


@hookspec
def bgbench_samplers() -> Sequence[SamplerPlugin]:  # type: ignore[empty-body]
    """Samplers, for `bgbench run NAME`."""


@hookspec
def bgbench_energies() -> Sequence[EnergyPlugin]:  # type: ignore[empty-body]
    """Energy backends, for suites and `bgbench.energy(system, backend=NAME)`."""


@hookspec
def bgbench_estimators() -> Sequence[EstimatorPlugin]:  # type: ignore[empty-body]
    """Estimators, for `--estimator NAME`."""


@hookspec
def bgbench_metrics() -> Sequence[MetricPlugin]:  # type: ignore[empty-body]
    """Metrics, for protocols to name."""


@hookspec
def bgbench_suites() -> Sequence[Path]:  # type: ignore[empty-body]
    """Suite files (YAML), for `--suite NAME`."""


@hookspec
def bgbench_trackers() -> Sequence[TrackerPlugin]:  # type: ignore[empty-body]
    """Trackers that mirror a run folder, for `--tracking-uri`."""
