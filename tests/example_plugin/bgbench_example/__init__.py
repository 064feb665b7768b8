"""A plugin of bgbench with one of each kind. Each hook returns a list of what it registers."""

from pathlib import Path

import bgbench
from bgbench.data import EnginePlugin

from .energy import Springs
from .engine import Metropolis
from .estimator import PowerWeights
from .metric import compute_displacement
from .sampler import Wobble
from .system import NAME, build_water, draw_reference
from .tracker import append_records

FOLDER = Path(__file__).parent


def build_sampler(options):
    """The sampler with the options of `--set`; a misspelt one is refused."""
    return bgbench.parse_options(Wobble, options, owner="example-sampler")


def build_estimator(options):
    """The estimator with the options of `--set estimator.`; a misspelt one is refused."""
    return bgbench.parse_options(
        PowerWeights, options, owner="estimator example-estimator", prefix="estimator"
    )


@bgbench.hookimpl
def bgbench_samplers():
    return [
        bgbench.SamplerPlugin(
            name="example-sampler",
            summary="Gaussian noise around the start structure",
            build=build_sampler,
            options=Wobble,
            estimator="snis",
        )
    ]


@bgbench.hookimpl
def bgbench_energies():
    return [bgbench.EnergyPlugin("example-energy", "a spring on every atom", Springs)]


@bgbench.hookimpl
def bgbench_estimators():
    return [
        bgbench.EstimatorPlugin(
            "example-estimator", "importance weights to a power", build_estimator, options=PowerWeights
        )
    ]


@bgbench.hookimpl
def bgbench_metrics():
    return [
        bgbench.MetricPlugin(
            name="displacement",
            summary="mean distance from the start structure",
            compute=compute_displacement,
            unit="nm",
            has_floor=True,
        )
    ]


@bgbench.hookimpl
def bgbench_protocols():
    return sorted((FOLDER / "protocols").glob("*.yaml"))


@bgbench.hookimpl
def bgbench_suites():
    return sorted((FOLDER / "suites").glob("*.yaml"))


@bgbench.hookimpl
def bgbench_systems():
    return [bgbench.SystemPlugin(NAME, "a water molecule on springs", build_water, draw_reference)]


@bgbench.hookimpl
def bgbench_trackers():
    return [bgbench.TrackerPlugin("example", "a line for each record in a file", append_records)]


@bgbench.hookimpl
def bgbench_engines():
    return [EnginePlugin("example", "Metropolis Monte Carlo", Metropolis)]
