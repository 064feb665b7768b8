"""Error against cost: finished runs scored again on what they had after 100, 1,000 … evaluations.

Nothing is run anew: arrays keep the order in which samples came, so that the first part of them is what a
smaller budget would have bought (a walk's frames lie evenly over its budget). Estimators whose points all
cost the whole budget (`EstimatorPlugin.in_order`) have the last point only.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from itertools import chain
from pathlib import Path

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bgbench.core.abstract import Estimate
from bgbench.core.errors import BgbenchError
from bgbench.core.options import describe_known
from bgbench.core.plugins import plugins
from bgbench.core.types import Draws, Ensemble, Proposal
from bgbench.evaluation.bench import open_bench
from bgbench.evaluation.floors import FloorKey, Scores
from bgbench.evaluation.judging import judge
from bgbench.reports.axes import set_log
from bgbench.reports.comparability import refuse_unlike
from bgbench.reports.compare import labels
from bgbench.reports.headings import unit_of
from bgbench.reports.saving import save_figure
from bgbench.runs.estimates import read_estimate, refuse_other_reference
from bgbench.runs.records import Record
from bgbench.runs.runfolder import RunFolder
from bgbench.runs.stores import Curve, CurvePoint

FEWEST = 100
"""The first checkpoint."""


@dataclass(frozen=True)
class Point:
    """One run after `evaluations`: mean over cells of each metric, of its floor, and of the seconds.

    A metric is left out where some cell could not be scored yet.
    """

    evaluations: int
    seconds: float
    metrics: dict[str, float]
    floors: dict[str, float]


def silent(step: str) -> None:
    """Tells nobody what is being computed."""


def checkpoints(budget: int) -> list[int]:
    """100, 1,000 … below the budget, and the budget."""
    powers = [10**k for k in range(2, 12)]
    return [b for b in powers if FEWEST <= b < budget] + [budget]


def curve(folder: RunFolder, progress: Callable[[str], None] = silent) -> list[Point]:
    """The points of a run over the cells that ended well; stored with the run, and computed once.

    A run that cannot be written to has a curve all the same, which is not stored.

    Args:
        folder: of the run.
        progress: called with the name of the cell being scored, `steps_of(folder)` times.

    Raises:
        BgbenchError: if the stored curve or a record is damaged, arrays that are needed are missing, or the
            reference at hand is not the recorded one.
    """
    records, stored = _finished(folder), _stored(folder)
    if stored is not None:
        return [Point(**point.model_dump()) for point in stored.points]
    points = measured(folder, records, progress)
    if points:
        with suppress(BgbenchError):
            folder.write_curve(stored_curve(records, points))
    return points


def steps_of(folder: RunFolder) -> int:
    """How many scores `curve` has to compute; 0 where the curve is stored.

    Raises:
        BgbenchError: if the stored curve or a record is damaged.
    """
    if _stored(folder) is not None:
        return 0
    return len(_finished(folder)) * len(checkpoints(folder.plan.budget))


def _finished(folder: RunFolder) -> list[Record]:
    return [record for record in folder.records() if record.status == "ok"]


def _stored(folder: RunFolder) -> Curve | None:
    """The curve that is stored with a run, if it is of its records."""
    stored = folder.read_curve()
    is_current = stored is not None and stored.records == [record.id for record in _finished(folder)]
    return stored if is_current else None


def stored_curve(records: Sequence[Record], points: Sequence[Point]) -> Curve:
    """The points of finished records in the form that runs store, so that they need no arrays any more."""
    return Curve(
        records=[record.id for record in records], points=[CurvePoint(**asdict(point)) for point in points]
    )


def measured(
    folder: RunFolder, records: Sequence[Record], progress: Callable[[str], None] = silent
) -> list[Point]:
    """The points of finished cells from their arrays, whatever `curve.json` holds."""
    if not records:
        return []
    floors: dict[FloorKey, Scores] = {}
    points = []
    for evaluations in checkpoints(folder.plan.budget):
        scores = []
        for record in records:
            progress(f"{record.cell.sampler} {record.cell.name} at {evaluations:,}")
            scores.append(_score(folder, record, evaluations, floors))
        points.append(mean_point(scores))
    return points


def _score(folder: RunFolder, record: Record, evaluations: int, floors: dict[FloorKey, Scores]) -> Point:
    """The point of one record; `floors` are read, and those that had to be measured are added."""
    # A sampler that brings its own energies may have evaluated none.
    fraction = min(1.0, evaluations / max(1, record.budget.used))
    seconds = record.seconds.get("preparing", 0.0) + fraction * record.seconds.get("sampling", 0.0)
    if fraction == 1.0:
        return Point(evaluations, seconds, _finite(record.metrics), _finite(record.floors))
    # The first points of a sampler that was prepared cost what preparing it did, whatever their number.
    prepared = record.diagnostics.get("preparing_evaluations", 0)
    if prepared or not plugins().estimators[record.cell.estimator].in_order:
        return Point(evaluations, seconds, {}, {})
    bench = open_bench(record.cell, folder.path, floors, record.reference)
    refuse_other_reference(record, bench.reference)
    try:
        judgement = judge(first_part(read_estimate(folder, record), fraction), bench)
    except BgbenchError:
        # A walk that has not moved yet, weights that are all zero: nothing to score at this point.
        return Point(evaluations, seconds, {}, {})
    floors |= judgement.measured.scores
    return Point(evaluations, seconds, dict(judgement.metrics), dict(judgement.floors))


def _finite(values: Mapping[str, float | None]) -> dict[str, float]:
    return {name: value for name, value in values.items() if value is not None}


def first_part(estimate: Estimate, fraction: float) -> Estimate:
    """The first `fraction` of an ensemble's points, two at least."""
    if estimate.draws is not None:
        return _first_draws(estimate, estimate.draws, max(2, round(fraction * estimate.draws.n)))
    n = max(2, round(fraction * estimate.ensemble.n_samples))
    index = torch.arange(min(n, estimate.ensemble.n_samples))
    part: Ensemble = estimate.ensemble.take(index)
    group = None if estimate.group is None else estimate.group[index]
    return replace(estimate, ensemble=part, proposal=Proposal(part.x, u=part.u), group=group)


def _first_draws(estimate: Estimate, draws: Draws, n: int) -> Estimate:
    """What a thinned estimate was after n draws: conformers drawn by weight are so of any part, too."""
    among = torch.nonzero(draws.at < n).flatten()
    part: Ensemble = estimate.ensemble.take(among)
    group = None if estimate.group is None else estimate.group[among]
    proposal = Proposal(part.x, u=part.u)
    return replace(estimate, ensemble=part, proposal=proposal, group=group, draws=draws.first(n))


def mean_point(points: Sequence[Point], counts: Sequence[int] | None = None) -> Point:
    """Mean over points, each of `counts` cells (of one each); a metric that some point lacks is left out."""

    def average(tables: list[dict[str, float]]) -> dict[str, float]:
        common = set.intersection(*(set(table) for table in tables))
        means = {
            name: float(np.average([table[name] for table in tables], weights=counts))
            for name in sorted(common)
        }
        return {name: value for name, value in means.items() if np.isfinite(value)}

    return Point(
        evaluations=points[0].evaluations,
        seconds=float(np.average([point.seconds for point in points], weights=counts)),
        metrics=average([point.metrics for point in points]),
        floors=average([point.floors for point in points]),
    )


def draw_curves(
    folders: Sequence[RunFolder],
    metrics: Sequence[str],
    path: Path,
    progress: Callable[[str], None] = silent,
) -> Path:
    """Error of every run against evaluations (left) and seconds (right), a row a metric, as PNG.

    Args:
        folders: runs that can share a table.
        metrics: the errors to draw.
        path: of the figure.
        progress: called with the name of the cell being scored.

    Raises:
        BgbenchError: for runs that cannot share a table (`refuse_unlike`), or a metric that none of them has.
    """
    refuse_unlike(folders)
    curves = {name: curve(folder, progress) for name, folder in zip(labels(folders), folders, strict=True)}
    figure = Figure(figsize=(7.5, 2.6 * len(metrics)), layout="constrained")
    _refuse_unknown(curves, metrics)
    panels = figure.subplots(len(metrics), 2, squeeze=False, sharey="row")
    for row, metric in zip(panels, metrics, strict=True):
        for ax, axis in zip(row, ("evaluations", "seconds"), strict=True):
            _draw_lines(ax, curves, metric, axis)
        _draw_floor(row[0], curves, metric)
        unit = unit_of(metric)
        row[0].set_ylabel(f"{metric} ({unit})" if unit else metric)
    figure.legend(*panels[0][0].get_legend_handles_labels(), loc="outside upper center", ncols=4, fontsize=7)
    return save_figure(figure, path)


def _refuse_unknown(curves: Mapping[str, Sequence[Point]], metrics: Sequence[str]) -> None:
    """Raise BgbenchError for a metric without a value in any run, naming those that there are."""
    known = {name for points in curves.values() for point in points for name in point.metrics}
    for metric in metrics:
        if metric not in known:
            end = describe_known(metric, sorted(known)) if known else ": none has finished well"
            raise BgbenchError(f"no cell of these runs has a {metric}{end}")


def _draw_lines(ax: Axes, curves: Mapping[str, Sequence[Point]], metric: str, axis: str) -> None:
    """A line a run, with a logarithmic axis below that is as wide as they are."""
    for name, points in curves.items():
        shown = [point for point in points if metric in point.metrics]
        xs = [getattr(point, axis) for point in shown]
        ax.plot(xs, [point.metrics[metric] for point in shown], "o-", label=name, markersize=4)
    set_log(ax, "x", [getattr(point, axis) for points in curves.values() for point in points])
    ax.set_xlabel("energy evaluations" if axis == "evaluations" else "seconds of sampling")


def _draw_floor(ax: Axes, curves: Mapping[str, Sequence[Point]], metric: str) -> None:
    """The noise floor at each number of frames, dotted, and a logarithmic axis of all that is drawn."""
    points = next((p for p in curves.values() if p and metric in p[0].floors), [])
    floors = [p.floors.get(metric, np.nan) for p in points]
    ax.plot([p.evaluations for p in points], floors, "k:", label="floor")
    scores = [p.metrics[metric] for p in chain(*curves.values()) if metric in p.metrics]
    set_log(ax, "y", [*scores, *floors])
