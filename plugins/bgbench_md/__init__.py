"""MD baselines: `md`, OpenMM Langevin dynamics; `remd`, parallel tempering; `softened`, solute scaling."""

from collections.abc import Sequence

import bgbench
from bgbench_md.langevin import LangevinMD, build_md
from bgbench_md.softened import Softened
from bgbench_md.tempering import ParallelTempering


@bgbench.hookimpl
def bgbench_samplers() -> Sequence[bgbench.SamplerPlugin]:
    """md, remd and softened."""
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
        bgbench.SamplerPlugin(
            name="softened",
            summary="replica exchange with solute scaling and torsion moves, all of it charged",
            build=lambda options: bgbench.parse_options(Softened, options, owner="softened"),
            options=Softened,
            estimator="mcmc",
            citation="Wang, Friesner, Berne, J. Phys. Chem. B 115, 9431 (2011)",
        ),
    ]


__all__ = ["LangevinMD", "ParallelTempering", "Softened", "bgbench_samplers"]
