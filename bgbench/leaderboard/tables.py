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
from bgbench.leaderboard.entries import EntryFiles, label
from bgbench.leaderboard.rules import ORDER, RANKED, SHOWN
from bgbench.reports.breakeven import Payback
from bgbench.reports.curves import Point
from bgbench.reports.statistics import Interval, interval, rank_intervals

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
class TableRow:
    """One entry in its table: intervals of each metric, rank ranges, and what it lacks."""

    files: EntryFiles
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
        return self.files.name

    @property
    def ranked(self) -> bool:
        return not self.missing and not self.files.entry.control


@dataclass(frozen=True)
class Table:
    """A key with its rows, best first."""

    key: Key
    rows: tuple[TableRow, ...]
    floors: dict[str, float] = field(default_factory=dict)
    """Noise floors of a complete entry, means over cells: those of all that compare as many frames."""


def tables_of(entries: Sequence[EntryFiles]) -> list[Table]:
    """The tables, those with most entries first."""
    groups: dict[Key, list[EntryFiles]] = {}
    for files in entries:
        plan = files.plan
        groups.setdefault(Key(plan.suite, plan.protocol, plan.budget, files.exact), []).append(files)
    tables = [_table(key, group) for key, group in groups.items()]
    return sorted(tables, key=lambda t: (not t.key.exact, -t.key.budget, t.key.suite, t.key.protocol))


def _table(key: Key, entries: list[EntryFiles]) -> Table:
    ranked = [files for files in entries if not files.missing and not files.entry.control]
    better = {name: plugins().metrics[name].better for name in SHOWN if name in plugins().metrics}
    ranks: dict[str, dict[str, tuple[int, int]]] = {}
    for metric in RANKED:
        tables = {files.name: values(files, metric, ranked=True) for files in ranked if has(files, metric)}
        for name, rank in rank_intervals(tables, better[metric]).items():
            ranks.setdefault(name, {})[metric] = rank
    points = {files.name: tuple(points_of(files)) for files in entries}
    untrained = [
        Untrained(files.name, points[files.name])
        for files in entries
        if not files.entry.control and not costs_of(files).training_hours
    ]
    rows = [_row(files, ranks.get(files.name, {}), points[files.name], untrained) for files in entries]
    ordered = tuple(sorted(rows, key=_order))
    return Table(key, ordered, next((row.floors for row in ordered if not row.missing), {}))


def _order(row: TableRow) -> tuple[bool, bool, tuple[int, int], float, str]:
    low, high = row.ranks.get(ORDER, (10**6, 10**6))
    mean = row.intervals[ORDER].mean if ORDER in row.intervals else math.inf
    return row.files.entry.control, bool(row.missing), (low, high), mean, row.name


def _row(
    files: EntryFiles,
    ranks: dict[str, tuple[int, int]],
    points: tuple[Point, ...],
    untrained: Sequence[Untrained],
) -> TableRow:
    stamps = {record.leakage for record in files.records if record.status == "ok"}
    finished = [record for record in files.records if record.status == "ok"]
    floors = {
        name: float(np.mean([record.floors[name] for record in finished]))
        for name in SHOWN
        if finished and all(record.floors.get(name) is not None for record in finished)
    }
    costs = costs_of(files)
    return TableRow(
        files=files,
        label=label(files),
        intervals={name: interval(values(files, name)) for name in SHOWN if has(files, name)},
        ranks=ranks,
        floors=floors,
        costs=costs,
        points=points,
        back=paid_back(costs.training_hours, points, untrained, ORDER),
        leakage=next((stamp for stamp in WORST if stamp in stamps), "unknown"),
        missing=files.missing,
    )


def has(files: EntryFiles, metric: str) -> bool:
    """Whether every planned cell is finished and has this metric: there are no means over some of them."""
    records = [
        record for record in files.records if record.status == "ok" and record.metrics.get(metric) is not None
    ]
    return len(records) == len(files.plan.cells)


def values(files: EntryFiles, metric: str, *, ranked: bool = False) -> np.ndarray:
    """`(systems, seeds)` of a metric, or of what the protocol ranks by; NaN where a cell failed."""
    systems = list(dict.fromkeys(cell.system for cell in files.plan.cells))
    seeds = sorted({cell.seed for cell in files.plan.cells})
    table = np.full((len(systems), len(seeds)), np.nan)
    protocol = get_protocol(files.plan.protocol)
    for record in files.records:
        value = record.metrics.get(metric)
        if record.status == "ok" and value is not None:
            allowed = record.diagnostics.get("floors_at_n_eff", {})
            shown = protocol.score_for_ranking(metric, value, allowed) if ranked else value
            table[systems.index(record.cell.system), seeds.index(record.cell.seed)] = shown
    return table
