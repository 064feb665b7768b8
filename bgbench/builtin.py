"""The core's own entries, registered through the hooks like anyone's."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from bgbench.core.hookspecs import (
    EnergyPlugin,
    EnginePlugin,
    EstimatorPlugin,
    MetricPlugin,
    SystemPlugin,
    TrackerPlugin,
    hookimpl,
)
from bgbench.core.resources import protocols_path, suites_path
from bgbench.dynamics.engines import OpenMMEngine, SoluteScalingEngine, TemperingEngine
from bgbench.energies.batched import BatchedEnergy
from bgbench.energies.openmm import OpenMMEnergy
from bgbench.estimators.mcmc import MCMC
from bgbench.estimators.plain import Plain
from bgbench.estimators.self_improve import SelfImprove, SelfImproveOptions
from bgbench.estimators.smc import SMC, SMCOptions
from bgbench.estimators.snis import SNIS, SNISOptions
from bgbench.metrics.registry import METRICS
from bgbench.runs.mlflow import SCHEMES, mirror_to_mlflow
from bgbench.systems.analytic import KINDS, AnalyticEnergy, analytic_reference, analytic_system


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
        EstimatorPlugin("none", "the proposal as it is", Plain.build, options=Plain, weights="equal"),
        EstimatorPlugin(
            "snis",
            "self-normalised importance sampling",
            SNIS.build,
            options=SNISOptions,
            weights="importance",
        ),
        *(
            EstimatorPlugin(
                f"smc-{kernel}",
                f"annealed sequential Monte Carlo, {steps} Langevin steps",
                partial(SMC.build, kernel),
                paper,
                in_order=False,
                options=SMCOptions,
            )
            for kernel, steps in (("ula", "unadjusted"), ("mala", "Metropolis-adjusted"))
        ),
        EstimatorPlugin(
            "self-improve",
            "rounds of fine-tuning a copy on its own weighted samples, then snis",
            SelfImprove.build,
            paper,
            in_order=False,
            options=SelfImproveOptions,
        ),
        EstimatorPlugin(
            "mcmc", "time averages of a sampler that walks", MCMC.build, options=MCMC, weights="equal"
        ),
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
def bgbench_protocols() -> Sequence[Path]:
    """The protocol files that come with bgbench."""
    return sorted(protocols_path().glob("*.yaml"))


@hookimpl
def bgbench_systems() -> Sequence[SystemPlugin]:
    """The systems whose answers are known in closed form."""
    return [
        SystemPlugin(
            name,
            summary_of(density),
            partial(analytic_system, name),
            partial(analytic_reference, name),
        )
        for name, density in KINDS.items()
    ]


def summary_of(kind: type) -> str:
    """The first line of a class's docstring, without its full stop."""
    return (kind.__doc__ or "").partition("\n")[0].removesuffix(".")


@hookimpl
def bgbench_trackers() -> Sequence[TrackerPlugin]:
    """MLflow."""
    return [TrackerPlugin("mlflow", "MLflow: a database, a folder or a server", mirror_to_mlflow, SCHEMES)]


@hookimpl
def bgbench_engines() -> Sequence[EnginePlugin]:
    """batched, softened, openmm."""
    return [
        EnginePlugin("batched", "parallel tempering on the compiled energy", TemperingEngine),
        EnginePlugin("softened", "replica exchange with solute scaling, for references", SoluteScalingEngine),
        EnginePlugin("openmm", "plain Langevin dynamics in OpenMM: slow, and the truth", OpenMMEngine),
    ]
