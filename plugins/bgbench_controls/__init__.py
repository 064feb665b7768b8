"""Controls: samplers whose place on the board is known beforehand."""

from collections.abc import Sequence

import bgbench
from bgbench_controls.prior import Prior
from bgbench_controls.reference import ReferenceDraws


@bgbench.hookimpl
def bgbench_samplers() -> Sequence[bgbench.SamplerPlugin]:
    """prior and reference."""
    return [
        bgbench.SamplerPlugin(
            name="prior",
            summary="a Gaussian around the start structure: what no model knows",
            build=lambda options: bgbench.parse_options(Prior, options, owner="prior"),
            options=Prior,
            estimator="none",
            control=True,
        ),
        bgbench.SamplerPlugin(
            name="reference",
            summary="frames of half of the reference, judged by the other half: must sit on the floor",
            build=lambda options: bgbench.parse_options(ReferenceDraws, options, owner="reference"),
            options=ReferenceDraws,
            estimator="none",
            control=True,
            draws_from_reference=True,
        ),
    ]


__all__ = ["Prior", "ReferenceDraws", "bgbench_samplers"]
