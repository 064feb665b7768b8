"""After how many systems has a trained sampler paid for its training?

Its card declares T hours of training. A sampler without training is its rival, unless it is a control. Both
are compared at the lowest error that both reach, read off their error-against-cost curves: the trained one is
there s seconds after a system was begun, the other one s'. Break-even is T/(s' − s) systems.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from bgbench.core.plugins import plugins
from bgbench.reports.compare import labels
from bgbench.reports.curves import Point, curve
from bgbench.runs.runfolder import RunFolder

CONTROLS = "controls"
"""The entry point whose samplers are controls: draws from the reference, the prior."""


@dataclass(frozen=True)
class Payback:
    """After how many `systems` training is paid back, where both curves reach `error`.

    inf: never, as the other one gets as good as the trained one does, and no later. None: not known, as the
    other one does not get that good within its budget, but is no later where it ends; or it is already better
    at its first checkpoint. `at_most`: the trained one is, so that it may pay sooner.
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
        found = plugins().metrics
        unit = found[self.metric].unit if self.metric in found else ""
        place = f"{self.metric} {self.back.error:.3g} {unit}".rstrip()
        return f"{self.sampler}: {self._told()} (against {self.other}, where both reach {place})"

    def _told(self) -> str:
        spent, systems = f"{self.hours:.3g} h of training", self.back.systems
        if systems is None:
            return f"when {spent} are paid back is not known"
        if math.isinf(systems):
            return f"{spent} are never paid back"
        return (
            f"{spent} are paid back after {systems:,.0f} systems{' or sooner' if self.back.at_most else ''}"
        )


def break_even(folders: Sequence[RunFolder], metric: str) -> list[BreakEven]:
    """Every run whose card declares training against every run whose card declares none and is no control.

    Pairs without the metric in both curves are left out; all are for a metric that is no error.
    """
    known = plugins().metrics
    runs = list(zip(labels(folders), folders, map(training_hours, folders), strict=True))
    trained = [run for run in runs if run[2]]
    rivals = [run for run in runs if not run[2] and not is_control(run[1])]
    if not trained or not rivals or (metric in known and known[metric].better != "lower"):
        return []
    walked = [(other, curve(folder)) for other, folder, _ in rivals]
    return [
        BreakEven(name, other, metric, hours, back)
        for name, mine, hours in [(name, curve(folder), hours) for name, folder, hours in trained]
        for other, theirs in walked
        if (back := systems_until(hours, mine, theirs, metric)) is not None
    ]


def training_hours(folder: RunFolder) -> float:
    """What the card of the run's sampler declares."""
    return max((float(record.card.get("training_hours", 0.0)) for record in folder.records()), default=0.0)


def is_control(folder: RunFolder) -> bool:
    """Whether the run's sampler is a yardstick; one that is not installed is none."""
    samplers, name = plugins().samplers, folder.plan.sampler
    return name in samplers and samplers.origin(name).plugin == CONTROLS


def systems_until(
    hours: float, mine: Sequence[Point], theirs: Sequence[Point], metric: str
) -> Payback | None:
    """When `hours` are paid back by the seconds that `mine` saves; None without the metric in both curves."""
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
            share = math.log(before.metrics[metric] / error) / math.log(before.metrics[metric] / value)
            return before.seconds * (point.seconds / before.seconds) ** share
        before = point
    return math.inf
