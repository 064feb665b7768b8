"""MD baselines: `md`, OpenMM Langevin dynamics, and `remd`, parallel tempering on the batched energy."""

from collections.abc import Sequence

import bgbench
from bgbench_md.langevin import LangevinMD, build_md
from bgbench_md.tempering import ParallelTempering


@bgbench.hookimpl
def bgbench_samplers() -> Sequence[bgbench.SamplerPlugin]:
    """md and remd."""
    return [
        bgbench.SamplerPlugin(
            name="md",
            summary="OpenMM Langevin dynamics, each step charged",
            build=build_md,
            options=LangevinMD,
            estimator="mcmc",
            citation="Zhang et al., J. Phys. Chem. A 123, 6056 (2019)",
        ),
        bgbench.SamplerPlugin(
            name="remd",
            summary="parallel tempering on the batched energy, all replicas charged",
            build=lambda options: bgbench.parse_options(ParallelTempering, options, owner="remd"),
            options=ParallelTempering,
            estimator="mcmc",
            citation="Sugita, Okamoto, Chem. Phys. Lett. 314, 141 (1999)",
        ),
    ]


__all__ = ["LangevinMD", "ParallelTempering", "bgbench_samplers"]
