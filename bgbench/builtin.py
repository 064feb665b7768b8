"""The core's own entries, registered through the hooks like anyone's."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from bgbench.core.hookspecs import EnergyPlugin, EstimatorPlugin, MetricPlugin, TrackerPlugin, hookimpl
from bgbench.core.resources import suites_path
from bgbench.energies.batched import BatchedEnergy
from bgbench.energies.openmm import OpenMMEnergy
from bgbench.estimators.mcmc import MCMC
from bgbench.estimators.plain import Plain
from bgbench.estimators.self_improve import SelfImprove
from bgbench.estimators.smc import SMC
from bgbench.estimators.snis import SNIS
from bgbench.metrics.registry import METRICS
from bgbench.runs.mlflow import mirror_to_mlflow
from bgbench.systems.analytic import AnalyticEnergy


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
    """none, snis, smc-ula, smc-mala, self-improve, mcmc."""
    paper = "arXiv 2508.18175"
    return [
        EstimatorPlugin("none", "the proposal as it is", Plain.build, weighted=False),
        EstimatorPlugin("snis", "self-normalised importance sampling", SNIS.build),
        *(
            EstimatorPlugin(
                f"smc-{kernel}",
                f"annealed sequential Monte Carlo, {steps} Langevin steps",
                partial(SMC.build, kernel),
                paper,
                in_order=False,
            )
            for kernel, steps in (("ula", "unadjusted"), ("mala", "Metropolis-adjusted"))
        ),
        EstimatorPlugin(
            "self-improve",
            "rounds of fine-tuning a copy on its own weighted samples, then snis",
            SelfImprove.build,
            paper,
            in_order=False,
        ),
        EstimatorPlugin("mcmc", "time averages of a sampler that walks", MCMC.build, weighted=False),
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
