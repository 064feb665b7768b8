"""Samples that were made elsewhere: read from files, their atoms matched by name, judged like any other's."""

from collections.abc import Mapping, Sequence

import bgbench
from bgbench_samples.estimator import StoredWeights
from bgbench_samples.options import SampleOptions
from bgbench_samples.sampler import DensitySamples, Samples, build_samples

STORED_WEIGHTS = "stored-weights"
"""The estimator of samples that come with weights."""


def choose_estimator(options: Mapping[str, str]) -> str:
    """`snis` for samples with log_q, `stored-weights` for those with weights, else `none`.

    >>> choose_estimator({"file": "a.npz"}), choose_estimator({"file": "a.npz", "log_q": "a.npz"})
    ('none', 'snis')
    """
    if "log_q" in options:
        return "snis"
    return STORED_WEIGHTS if "weights" in options else "none"


@bgbench.hookimpl
def bgbench_samplers() -> Sequence[bgbench.SamplerPlugin]:
    """samples."""
    return [
        bgbench.SamplerPlugin(
            name="samples",
            summary="samples of your own from xtc, dcd, npz, h5 or pdb files; the sampler is not run here",
            build=build_samples,
            options=SampleOptions,
            choose_estimator=choose_estimator,
        )
    ]


@bgbench.hookimpl
def bgbench_estimators() -> Sequence[bgbench.EstimatorPlugin]:
    """stored-weights."""
    return [
        bgbench.EstimatorPlugin(
            name=STORED_WEIGHTS,
            summary="the weights that samples come with",
            build=StoredWeights.build,
            options=StoredWeights,
        )
    ]


__all__ = [
    "DensitySamples",
    "SampleOptions",
    "Samples",
    "StoredWeights",
    "bgbench_estimators",
    "bgbench_samplers",
]
