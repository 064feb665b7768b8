"""What an entry cost: its error-against-cost curve, seconds, training, and when that has paid."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from pydantic import ValidationError

from bgbench.leaderboard.entries import EntryFiles
from bgbench.leaderboard.folders import CURVE
from bgbench.leaderboard.problems import refusal
from bgbench.reports import curves
from bgbench.reports.breakeven import Payback, systems_until
from bgbench.reports.curves import Point
from bgbench.runs.runfolder import RunFolder
from bgbench.runs.stores import Curve, first_fault


@dataclass(frozen=True)
class Costs:
    """Means over finished cells; None where no cell finished. `per_second`: effective points a second."""

    evaluations: float | None
    seconds: float | None
    per_second: float | None
    training_hours: float
    training_evaluations: int
    parameters: int


def points_of(files: EntryFiles) -> list[Point]:
    """The entry's stored curve; empty if it has none.

    Raises:
        Refused: if the file holds anything but a curve of the entry's records.
    """
    if files.curve is None:
        return []
    try:
        stored = Curve.model_validate(files.curve)
    except ValidationError as error:
        raise refusal("curve", CURVE, f"is not a curve: {first_fault(error)}") from error
    if stored.records != [record.id for record in files.records if record.status == "ok"]:
        raise refusal("curve", CURVE, "is of other records than these")
    return [Point(**point.model_dump()) for point in stored.points]


def measured(run: RunFolder) -> list[Point]:
    """The curve from the arrays of a run, whatever is stored."""
    return curves.measured(run, [record for record in run.records() if record.status == "ok"])


def costs_of(files: EntryFiles) -> Costs:
    """What the records and the card say."""
    finished = [record for record in files.records if record.status == "ok"]
    seconds = [r.seconds.get("preparing", 0.0) + r.seconds.get("sampling", 0.0) for r in finished]
    effective = [float(r.diagnostics.get("effective_points") or 0.0) for r in finished]
    card = finished[0].card if finished else {}
    return Costs(
        evaluations=float(np.mean([r.budget.used for r in finished])) if finished else None,
        seconds=float(np.mean(seconds)) if finished else None,
        per_second=sum(effective) / sum(seconds) if sum(seconds) > 0 else None,
        training_hours=float(card.get("training_hours") or 0.0),
        training_evaluations=int(card.get("training_evaluations") or 0),
        parameters=int(card.get("n_parameters") or 0),
    )


@dataclass(frozen=True)
class Untrained:
    """An entry without training, against which trained ones are paid back: its name and its curve."""

    name: str
    points: Sequence[Point]


class PaidBack(NamedTuple):
    """The name of an untrained entry, and when training is paid back against it."""

    other: str
    payback: Payback


def paid_back(
    hours: float, mine: Sequence[Point], others: Sequence[Untrained], metric: str
) -> PaidBack | None:
    """The untrained entry against which training is paid back soonest, and when that is.

    It is `never` only where it is so against all of them.

    Args:
        hours: of training.
        mine: the curve of the trained entry.
        others: the untrained entries of its table.
        metric: an error, which both curves must have.

    Returns:
        None without training, without curves, or without an untrained entry.
    """
    if not hours:
        return None
    paybacks = []
    for other in others:
        back = systems_until(hours, mine, other.points, metric)
        if back is not None:
            paybacks.append(PaidBack(other.name, back))
    return min(paybacks, key=lambda item: _soonest(item.payback), default=None)


def _soonest(back: Payback) -> tuple[int, float]:
    """Sorts numbers of systems first, then what is not known, then never."""
    if back.systems is None:
        return 1, 0.0
    return (2, 0.0) if math.isinf(back.systems) else (0, back.systems)
