"""The core's metrics, as they are registered, each behind the checks that it needs."""

from collections.abc import Callable, Mapping
from functools import wraps

import torch

from bgbench.core.abstract import MetricCase
from bgbench.core.errors import BgbenchError
from bgbench.core.hookspecs import MetricPlugin
from bgbench.metrics.distances import energy_w2, tica_w2, torus_w2
from bgbench.metrics.histograms import mode_weights, tica_jsd, torus_jsd
from bgbench.metrics.sides import refuse_constant
from bgbench.metrics.validity import validity
from bgbench.metrics.weights import count_distinct, importance

PUBLISHED = "arXiv 2508.18175"
"""Where the distances are defined."""

Compute = Callable[[MetricCase], Mapping[str, float]]


def with_weights(compute: Compute) -> Compute:
    """`compute` behind a check: weights that are infinite or all zero raise BgbenchError."""

    @wraps(compute)
    def checked(case: MetricCase) -> Mapping[str, float]:
        _check_weights(case)
        return compute(case)

    return checked


def between_sides(compute: Compute) -> Compute:
    """`compute` behind checks of both sides.

    BgbenchError is raised for weights that are infinite or all zero, for positions or energies that are NaN,
    and for an ensemble that is the same in every frame. An ensemble may hold an energy of +inf (its distance
    is infinite then); a reference may not.
    """

    @wraps(compute)
    def checked(case: MetricCase) -> Mapping[str, float]:
        _check_weights(case)
        name, ours, truth = case.system.name, case.estimate.ensemble, case.reference
        for side, x in (("ensemble", ours.x), ("reference", truth.x)):
            bad = int((~torch.isfinite(x)).flatten(1).any(1).sum())
            if bad:
                raise BgbenchError(
                    f"{name}: the {side} holds NaN or infinite positions in {bad} of {len(x)} frames; "
                    "drop or repair them where they are made"
                )
        if bool(torch.isnan(ours.u).any()):
            raise BgbenchError(f"{name}: the ensemble holds NaN energies; give impossible points +inf")
        if not bool(torch.isfinite(truth.u).all()):
            raise BgbenchError(f"{name}: the reference holds energies that are not finite; simulate it again")
        # One draw may have all the weight: then a thinned ensemble holds it alone, and is judged as it is.
        draws = case.estimate.draws
        if draws is None or count_distinct(draws) in (None, 1):
            refuse_constant(f"{name}: the ensemble", ours.x)
        return compute(case)

    return checked


def _check_weights(case: MetricCase) -> None:
    log_w = case.estimate.log_w
    if bool((log_w == torch.inf).any()):
        raise BgbenchError(
            f"{case.system.name}: log_w holds +inf, as where log_q is -inf at a sample; check the sampler "
            "with `bgbench audit`"
        )
    if not bool(torch.isfinite(log_w).any()):
        raise BgbenchError(f"{case.system.name}: every weight is zero; there is no ensemble to judge")


METRICS = (
    MetricPlugin(
        "ess",
        "Kish ESS over all weights, with companions",
        with_weights(importance),
        "",
        "higher",
        "Kish 1965",
    ),
    MetricPlugin(
        "energy_w2",
        "W2 of the energy, exact",
        between_sides(energy_w2),
        "kT",
        "lower",
        PUBLISHED,
        has_floor=True,
    ),
    *(
        MetricPlugin(
            name,
            summary,
            between_sides(compute),
            unit,
            "lower",
            citation,
            needs_atoms=True,
            has_floor=True,
        )
        for name, summary, compute, unit, citation in (
            ("torus_w2", "exact W2 over φ, ψ", torus_w2, "rad", PUBLISHED),
            ("tica_w2", "exact W2 on two TICs", tica_w2, "", PUBLISHED),
            ("torus_jsd", "divergence over 20 torsion cells", torus_jsd, "bit", PUBLISHED),
            ("tica_jsd", "divergence over 20 TICA cells", tica_jsd, "bit", PUBLISHED),
            ("mode_weights", "error of state populations", mode_weights, "", ""),
        )
    ),
    MetricPlugin("validity", "chemically sensible samples", validity, "", "higher", needs_atoms=True),
)
