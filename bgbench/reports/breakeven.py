"""After how many systems has a trained sampler paid for its training?

Its card declares T hours of training. It is compared with every sampler without training that is not a
control, at the lowest error that both reach, read off their error-against-cost curves: the trained one is
there s seconds after a system was begun, the other one s'. Break-even is T/(s' − s) systems.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bgbench.core.plugins import plugins
from bgbench.reports.comparability import refuse_unlike
from bgbench.reports.compare import labels
from bgbench.reports.curves import Point, curve, silent
from bgbench.reports.headings import is_control, was_run_here
from bgbench.runs.runfolder import RunFolder


@dataclass(frozen=True)
class Payback:
    """After how many systems training is paid back, at an error that both curves reach.

    Attributes:
        systems: the number of systems, if both curves say it. Infinity: never, because the untrained run
            reaches the trained run's lowest error in no more time. None: not known, in either of two cases.
            The untrained run does not reach the trained run's lowest error within its budget, and at its own
            lowest error it takes no more time. Or the untrained run is below `error` at its first checkpoint
            already, so that nobody knows how little time `error` takes it.
        error: the lowest error that both reach.
        at_most: the trained run is below `error` at its first checkpoint already, so that it may need less
            time, and training may be paid back after fewer systems.
    """

    systems: float | None
    error: float
    at_most: bool = False


@dataclass(frozen=True)
class BreakEven:
    """When `sampler` has paid for `hours` of training against `other`, by `metric`."""

    sampler: str
    other: str
    metric: str
    hours: float
    back: Payback

    @property
    def sentence(self) -> str:
        """In words, without a full stop."""
        metrics = plugins().metrics
        unit = metrics[self.metric].unit if self.metric in metrics else ""
        place = f"{self.metric} {self.back.error:.3g} {unit}".rstrip()
        return f"{self.sampler}: {self._outcome()} (against {self.other}, where both reach {place})"

    def _outcome(self) -> str:
        training, systems = f"{self.hours:.3g} h of training", self.back.systems
        if systems is None:
            return f"when {training} are paid back is not known"
        if math.isinf(systems):
            return f"{training} are never paid back"
        sooner = " or sooner" if self.back.at_most else ""
        return f"{training} are paid back after {systems:,.0f} systems{sooner}"


def break_even(
    folders: Sequence[RunFolder], metric: str, progress: Callable[[str], None] = silent
) -> list[BreakEven]:
    """Every run whose card declares training against every run whose card declares none (`costs_are_known`).

    Args:
        folders: runs that can share a table.
        metric: the error by which they are compared.
        progress: called with the name of the cell being scored where a curve is not stored yet.

    Returns:
        One value a pair; none for pairs whose curves lack the metric, none at all for a metric of which lower
        is not better.

    Raises:
        BgbenchError: for runs that cannot share a table, if a curve is damaged, or the arrays for it are
            missing.
    """
    refuse_unlike(folders)
    known = plugins().metrics
    runs = list(zip(labels(folders), folders, map(training_hours, folders), strict=True))
    trained = [run for run in runs if run[2]]
    untrained = [run for run in runs if not run[2] and costs_are_known(run[1])]
    if not trained or not untrained or (metric in known and known[metric].better != "lower"):
        return []
    others = [(other, curve(folder, progress)) for other, folder, _ in untrained]
    return [
        BreakEven(name, other, metric, hours, back)
        for name, mine, hours in [(name, curve(folder, progress), hours) for name, folder, hours in trained]
        for other, theirs in others
        if (back := systems_until(hours, mine, theirs, metric)) is not None
    ]


def costs_are_known(folder: RunFolder) -> bool:
    """Whether a run without training says what its samples cost: controls do not, nor do samples that were
    made elsewhere."""
    return not is_control(folder.plan.sampler) and was_run_here(folder.records())


def training_hours(folder: RunFolder) -> float:
    """What the card of the run's sampler declares."""
    return max((float(record.card.get("training_hours", 0.0)) for record in folder.records()), default=0.0)


def systems_until(
    hours: float, mine: Sequence[Point], theirs: Sequence[Point], metric: str
) -> Payback | None:
    """When training is paid back by the seconds that it saves.

    Args:
        hours: of training.
        mine: the curve of the trained run.
        theirs: the curve of the untrained run.
        metric: the error by which they are compared.

    Returns:
        None where a curve lacks the metric.
    """
    ours, others = ([p for p in points if metric in p.metrics] for points in (mine, theirs))
    if not ours or not others:
        return None
    best, reached = (min(p.metrics[metric] for p in points) for points in (ours, others))
    error = max(best, reached)
    saved = seconds_to(others, metric, error) - seconds_to(ours, metric, error)
    if saved <= 0:
        return Payback(math.inf if reached <= best else None, error)
    if begins_below(others, metric, error):
        return Payback(None, error)
    return Payback(3600 * hours / saved, error, begins_below(ours, metric, error))


def begins_below(points: Sequence[Point], metric: str, error: float) -> bool:
    """Whether the first checkpoint is better than `error`: its seconds are then more than `error` took."""
    return points[0].metrics[metric] < error


def seconds_to(points: Sequence[Point], metric: str, error: float) -> float:
    """Seconds until the curve is down at `error`, between checkpoints on logarithmic axes; inf if never."""
    before: Point | None = None
    for point in points:
        value = point.metrics[metric]
        if value <= error:
            if before is None or min(error, value, before.seconds) <= 0:
                return point.seconds
            fraction = math.log(before.metrics[metric] / error) / math.log(before.metrics[metric] / value)
            return before.seconds * (point.seconds / before.seconds) ** fraction
        before = point
    return math.inf
