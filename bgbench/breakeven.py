"""After how many systems has a trained sampler paid for its training?

Its card declares T hours of training. On each new system it reaches its final error in s seconds; a sampler
without training needs s' for the same error, read off its error-against-cost curve. Break-even is T/(s' − s).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from bgbench.compare import labels
from bgbench.curves import Point, curve
from bgbench.runfolder import RunFolder


@dataclass(frozen=True)
class BreakEven:
    """`systems` until `sampler` has paid for `hours` of training against `other`; inf: never.

    `at_most`: the other never reached that error within its budget, so it may pay sooner.
    """

    sampler: str
    other: str
    metric: str
    hours: float
    systems: float
    at_most: bool


def break_even(folders: Sequence[RunFolder], metric: str) -> list[BreakEven]:
    """Every run whose card declares training against every run whose card declares none.

    Pairs without the metric in both curves are left out.
    """
    hours = [training_hours(folder) for folder in folders]
    if all(hours) or not any(hours):
        return []
    runs = list(zip(labels(folders), [curve(folder) for folder in folders], hours, strict=True))
    others = [(name, points) for name, points, spent in runs if not spent]
    return [
        BreakEven(name, other, metric, spent, *found)
        for name, mine, spent in runs
        if spent
        for other, theirs in others
        if (found := systems_until(spent, mine, theirs, metric)) is not None
    ]


def training_hours(folder: RunFolder) -> float:
    """What the card of the run's sampler declares."""
    return max((float(record.card.get("training_hours", 0.0)) for record in folder.records()), default=0.0)


def systems_until(
    hours: float, mine: Sequence[Point], theirs: Sequence[Point], metric: str
) -> tuple[float, bool] | None:
    """Systems until `hours` are paid back, and whether that is an upper bound; None without the metric."""
    reached = [point for point in mine if metric in point.metrics]
    walked = [point for point in theirs if metric in point.metrics]
    if not reached or not walked:
        return None
    seconds = seconds_to(walked, metric, reached[-1].metrics[metric])
    saved = (walked[-1].seconds if seconds is None else seconds) - reached[-1].seconds
    return (3600 * hours / saved if saved > 0 else math.inf), seconds is None


def seconds_to(points: Sequence[Point], metric: str, error: float) -> float | None:
    """Seconds until the curve is down at `error`, between checkpoints on logarithmic axes; None if never."""
    before: Point | None = None
    for point in points:
        value = point.metrics[metric]
        if value <= error:
            if before is None or error <= 0 or value <= 0:
                return point.seconds
            share = math.log(before.metrics[metric] / error) / math.log(before.metrics[metric] / value)
            return before.seconds * (point.seconds / before.seconds) ** share
        before = point
    return None
