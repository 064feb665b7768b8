"""The plugin contract, whole: implement any of these six hooks and name the module in the entry-point
group `bgbench`."""

from collections.abc import Sequence
from pathlib import Path

import pluggy

from bgbench.registered import EnergyPlugin, EstimatorPlugin, MetricPlugin, SamplerPlugin, TrackerPlugin

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
