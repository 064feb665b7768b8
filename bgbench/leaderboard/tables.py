"""Entries grouped into tables, one for each (suite, protocol, budget), and ranked.

Only complete entries are ranked: a cell that is missing or failed takes its entry out of the ranks, not out
of the table. Controls are never ranked. Densities that are not verified have tables of their own.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from bgbench.core.plugins import plugins
from bgbench.evaluation.protocols import get_protocol
from bgbench.leaderboard.costs import Costs, Untrained, costs_of, paid_back, points_of
from bgbench.leaderboard.entries import Opened, label
from bgbench.leaderboard.rules import ORDER, RANKED, SHOWN
from bgbench.reports.breakeven import Payback
from bgbench.reports.curves import Point
from bgbench.reports.statistics import Interval, draws, interval, rank_ranges

WORST = ("seen", "unknown", "similar", "unseen")


@dataclass(frozen=True)
class Key:
    """What entries of one table share. `exact`: every density verified, or none claimed."""

    suite: str
    protocol: str
    budget: int
    exact: bool

    @property
    def slug(self) -> str:
        words = [self.suite, self.protocol, str(self.budget)] + ([] if self.exact else ["not-verified"])
        return "-".join(words).replace("@", "-")

    @property
    def title(self) -> str:
        return f"{self.suite} · {self.protocol} · {self.budget:,} evaluations" + (
            "" if self.exact else " · density not verified"
        )


@dataclass(frozen=True)
class Standing:
    """One entry in its table: intervals of each metric, rank ranges, and what it lacks."""

    opened: Opened
    label: str
    intervals: dict[str, Interval]
    ranks: dict[str, tuple[int, int]]
    floors: dict[str, float]
    costs: Costs
    points: tuple[Point, ...]
    back: tuple[str, Payback] | None
    leakage: str
    missing: list[tuple[str, str]]

    @property
    def name(self) -> str:
        return self.opened.name

    @property
    def ranked(self) -> bool:
        return not self.missing and not self.opened.entry.control


@dataclass(frozen=True)
class Table:
    """A key with its standings, best first."""

    key: Key
    standings: tuple[Standing, ...]
    floors: dict[str, float] = field(default_factory=dict)
    """Noise floors of a complete entry, means over cells: those of all that compare as many frames."""


def tables_of(entries: Sequence[Opened]) -> list[Table]:
    """The tables, those with most entries first."""
    groups: dict[Key, list[Opened]] = {}
    for opened in entries:
        plan = opened.plan
        groups.setdefault(Key(plan.suite, plan.protocol, plan.budget, opened.exact), []).append(opened)
    tables = [_table(key, group) for key, group in groups.items()]
    return sorted(tables, key=lambda t: (not t.key.exact, -t.key.budget, t.key.suite, t.key.protocol))


def _table(key: Key, entries: list[Opened]) -> Table:
    ranked = [opened for opened in entries if not opened.missing and not opened.entry.control]
    better = {name: plugins().metrics[name].better for name in SHOWN if name in plugins().metrics}
    ranks: dict[str, dict[str, tuple[int, int]]] = {}
    for metric in RANKED:
        drawn = {o.name: draws(values(o, metric, ranked=True)) for o in ranked if has(o, metric)}
        for name, found in (rank_ranges(drawn, better[metric]) if drawn else {}).items():
            ranks.setdefault(name, {})[metric] = found
    points = {opened.name: tuple(points_of(opened)) for opened in entries}
    untrained = [
        Untrained(opened.name, points[opened.name])
        for opened in entries
        if not opened.entry.control and not costs_of(opened).training_hours
    ]
    standings = [
        _standing(opened, ranks.get(opened.name, {}), points[opened.name], untrained) for opened in entries
    ]
    ordered = tuple(sorted(standings, key=_order))
    return Table(key, ordered, next((found.floors for found in ordered if not found.missing), {}))


def _order(standing: Standing) -> tuple[bool, bool, tuple[int, int], float, str]:
    low, high = standing.ranks.get(ORDER, (10**6, 10**6))
    found = standing.intervals.get(ORDER)
    mean = found.mean if found is not None else math.inf
    return standing.opened.entry.control, bool(standing.missing), (low, high), mean, standing.name


def _standing(
    opened: Opened,
    ranks: dict[str, tuple[int, int]],
    points: tuple[Point, ...],
    untrained: Sequence[Untrained],
) -> Standing:
    stamps = {record.leakage for record in opened.records if record.status == "ok"}
    finished = [record for record in opened.records if record.status == "ok"]
    floors = {
        name: float(np.mean([record.floors[name] for record in finished]))
        for name in SHOWN
        if finished and all(record.floors.get(name) is not None for record in finished)
    }
    costs = costs_of(opened)
    return Standing(
        opened=opened,
        label=label(opened),
        intervals={name: interval(values(opened, name)) for name in SHOWN if has(opened, name)},
        ranks=ranks,
        floors=floors,
        costs=costs,
        points=points,
        back=paid_back(costs.training_hours, points, untrained, ORDER),
        leakage=next((stamp for stamp in WORST if stamp in stamps), "unknown"),
        missing=opened.missing,
    )


def has(opened: Opened, metric: str) -> bool:
    """Whether every planned cell is finished and has this metric: there are no means over some of them."""
    done = [
        record
        for record in opened.records
        if record.status == "ok" and record.metrics.get(metric) is not None
    ]
    return len(done) == len(opened.plan.cells)


def values(opened: Opened, metric: str, *, ranked: bool = False) -> np.ndarray:
    """`(systems, seeds)` of a metric, or of what the protocol ranks by; NaN where a cell failed."""
    systems = list(dict.fromkeys(cell.system for cell in opened.plan.cells))
    seeds = sorted({cell.seed for cell in opened.plan.cells})
    table = np.full((len(systems), len(seeds)), np.nan)
    protocol = get_protocol(opened.plan.protocol)
    for record in opened.records:
        value = record.metrics.get(metric)
        if record.status == "ok" and value is not None:
            allowed = record.diagnostics.get("floors_at_n_eff", {})
            shown = protocol.score_for_ranking(metric, value, allowed) if ranked else value
            table[systems.index(record.cell.system), seeds.index(record.cell.seed)] = shown
    return table
