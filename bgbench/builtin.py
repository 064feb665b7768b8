"""The core's own entries, registered through the hooks like anyone's."""

from collections.abc import Sequence
from pathlib import Path

from bgbench.abstract import EnergyPlugin, EstimatorPlugin, MetricPlugin, TrackerPlugin
from bgbench.energies.batched import BatchedEnergy
from bgbench.energies.openmm import OpenMMEnergy
from bgbench.estimators.mcmc import MCMC
from bgbench.estimators.plain import Plain
from bgbench.estimators.snis import SNIS
from bgbench.hookspecs import hookimpl
from bgbench.metrics.registry import METRICS
from bgbench.resources import suites_path
from bgbench.systems.analytic import AnalyticEnergy
from bgbench.tracking import mirror_to_mlflow


@hookimpl
def bgbench_energies() -> Sequence[EnergyPlugin]:
    """OpenMM, the batched energy, analytic systems."""
    return [
        EnergyPlugin("openmm", "OpenMM, one conformer at a time: the judge", OpenMMEnergy),
        EnergyPlugin("batched", "Amber14 + OBC for whole batches, OpenMM's numbers", BatchedEnergy),
        EnergyPlugin("analytic", "systems with known answers", AnalyticEnergy),
    ]


@hookimpl
def bgbench_estimators() -> Sequence[EstimatorPlugin]:
    """none, snis, mcmc."""
    return [
        EstimatorPlugin("none", "the proposal as it is", lambda options: Plain()),
        EstimatorPlugin("snis", "self-normalised importance sampling", lambda options: SNIS()),
        EstimatorPlugin("mcmc", "time averages of a sampler that walks", lambda options: MCMC()),
    ]


@hookimpl
def bgbench_metrics() -> Sequence[MetricPlugin]:
    """The metrics of the evaluation page."""
    return METRICS


@hookimpl
def bgbench_suites() -> Sequence[Path]:
    """The suite files that come with bgbench."""
    return sorted(suites_path().glob("*.yaml"))


@hookimpl
def bgbench_trackers() -> Sequence[TrackerPlugin]:
    """MLflow."""
    return [TrackerPlugin("mlflow", "MLflow: SQLite or a server", mirror_to_mlflow)]
