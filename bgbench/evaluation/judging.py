"""The judgement of one estimate: metrics against the reference, beside their noise floors."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from bgbench.core.abstract import Estimate, MetricCase
from bgbench.core.types import Ensemble
from bgbench.estimators.weights import effective_points, ess
from bgbench.evaluation.bench import Bench, generator
from bgbench.evaluation.floors import Floors, compute_skills
from bgbench.metrics.compute import compute_metrics
from bgbench.metrics.free_energy import free_energies
from bgbench.systems.faults import has_fault


@dataclass(frozen=True)
class Judgement:
    """What a cell scores.

    Attributes:
        metrics: values by name.
        floors: the noise floor of each metric that has one.
        skills: where each value lies between the prior (0) and the floor (1).
        diagnostics: what tells how far to trust the values.
        measured: the bench's floors with those that this judgement had to measure, for later cells.
    """

    metrics: Mapping[str, float]
    floors: Mapping[str, float]
    skills: Mapping[str, float]
    diagnostics: Mapping[str, Any]
    measured: Floors


def judge(estimate: Estimate, bench: Bench) -> Judgement:
    """Judge an estimate against the reference, at equal numbers of frames on both sides.

    Judging the same estimate again gives the same numbers: the random ones come from the cell's own
    generator.

    Raises:
        BgbenchError: for NaN positions, a side that never changes, or weights that are all zero.
    """
    n = min(bench.protocol.n_samples, bench.reference.n_samples, estimate.ensemble.n_samples)
    case = MetricCase(
        bench.system, estimate, bench.reference, n, generator(bench.cell, "judge"), bench.protocol.options
    )
    names = bench.protocol.metrics_of(bench.system)
    metrics = compute_metrics(case, names)
    n_eff = effective_points_of(estimate)
    diagnostics: dict[str, Any] = {
        "frames_compared": n,
        "transport_frames": min(n, int(bench.protocol.options.get("transport", n))),
        "floor_frames": min(n, bench.floors.reference.n_samples // 2),
        "effective_points": n_eff,
    }
    measured = bench.floors
    floors: dict[str, float] = {}
    controls: dict[str, float] = {}
    if bench.system.atoms:
        measured = bench.floors.measure(bench.floors.judgement_keys(n, n_eff))
        floors, controls = _those_of(metrics, measured.means(n)), measured.controls(n)
        diagnostics["floor_bounds"] = _those_of(metrics, measured.bounds(n))
        diagnostics["floors_at_n_eff"] = _those_of(metrics, measured.at_effective(n, n_eff))
        diagnostics["free_energies"] = free_energies(bench.system, estimate, bench.reference)
    if estimate.log_w_uncut is not None or bench.protocol.cuts_weights(estimate.ensemble):
        options = {**case.options, "cut": "none"}
        uncut = replace(case, estimate=restore_weights(estimate), options=options)
        diagnostics["metrics_uncut"] = compute_metrics(uncut, names)
    diagnostics["controls"] = controls
    skills = compute_skills(metrics, floors, controls)
    return Judgement(metrics, floors, skills, diagnostics, measured)


def effective_points_of(estimate: Estimate) -> float:
    """Kish's effective number of all points of an estimate, those that are copies of others counted as one.

    Of draws that are not held their copies are known, and not of which draw: the weights of copies are left
    out.
    """
    draws = estimate.draws
    if draws is None:
        return effective_points(estimate.ensemble)
    log_w = draws.log_w
    if draws.faults is not None:
        log_w = log_w[~has_fault(draws.faults, "copy")]
    return ess(log_w) * len(log_w)


def restore_weights(estimate: Estimate) -> Estimate:
    """The estimate with its weights as they were before the estimator's cut."""
    if estimate.log_w_uncut is None:
        return estimate
    ensemble = estimate.ensemble
    return replace(estimate, ensemble=Ensemble(ensemble.x, ensemble.u, estimate.log_w_uncut))


def _those_of(metrics: Mapping[str, float], scores: Mapping[str, float]) -> dict[str, float]:
    return {name: value for name, value in scores.items() if name in metrics}
