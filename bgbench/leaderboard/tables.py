"""Entries grouped into tables by what makes them comparable (`Comparability`), and ranked.

Only complete entries are ranked: a cell that is missing or failed takes its entry out of the ranks, not out
of the table. Controls are never ranked, and neither are samples that were made elsewhere, nor entries that
are suspect. Ranks are places within a tier. Densities that are not verified have tables of their own, and so
has what is reported and was not recomputed.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from bgbench.core.plugins import plugins
from bgbench.evaluation.protocols import get_protocol
from bgbench.leaderboard.costs import Costs, PaidBack, Untrained, costs_of, paid_back, points_of
from bgbench.leaderboard.entries import Basis, EntryFiles, label
from bgbench.leaderboard.rules import ORDER, RANKED, SHOWN, TIERS
from bgbench.reports.comparability import Comparability
from bgbench.reports.curves import Point
from bgbench.reports.headings import Trust, means_something
from bgbench.reports.statistics import Interval, RankRange, interval, rank_intervals

WORST = ("seen", "unknown", "similar", "unseen")


@dataclass(frozen=True)
class Key:
    """What entries of one table share.

    Attributes:
        terms: what makes runs comparable.
        verified: whether every density passed its audit, or none was claimed.
        basis: whether metrics were recomputed; what is reported alone stands beside nothing recomputed.
        number: 1, or which of several tables of one suite, protocol and budget it is.
        apart: why its entries stand in no earlier one of these tables, in words.
    """

    terms: Comparability
    verified: bool
    basis: Basis = "recomputed"
    number: int = 1
    apart: str = ""

    @property
    def suite(self) -> str:
        return self.terms.suite

    @property
    def protocol(self) -> str:
        return self.terms.protocol

    @property
    def budget(self) -> int:
        return self.terms.budget

    @property
    def exact(self) -> bool:
        """Whether weights are those of the target: log q is exact, and its audit found nothing wrong."""
        return self.verified and self.terms.log_q == "exact"

    @property
    def kind(self) -> str:
        """What is said of the density; empty where it is exact."""
        if self.terms.log_q != "exact":
            return "log q estimated"
        return "" if self.verified else "density not verified"

    @property
    def slug(self) -> str:
        words = [self.suite, self.protocol, str(self.budget)]
        words += [self.kind.removeprefix("density ").replace(" ", "-")] if self.kind else []
        words += [self.basis] if self.basis == "reported" else []
        words += [str(self.number)] if self.number > 1 else []
        return "-".join(words).replace("@", "-")

    @property
    def title(self) -> str:
        words = [self.suite, self.protocol, f"{self.budget:,} evaluations"]
        words += [self.kind] if self.kind else []
        words += ["reported, not recomputed"] if self.basis == "reported" else []
        words += [f"table {self.number}"] if self.number > 1 else []
        return " · ".join(words)


def is_ranked(files: EntryFiles) -> bool:
    """Whether an entry has ranks: it is complete, not suspect, no control, and its sampler was run."""
    return not files.missing and not files.entry.control and files.run_here and files.suspect is None


@dataclass(frozen=True)
class TableRow:
    """One entry in its table: intervals of each metric, rank ranges, and what it lacks."""

    files: EntryFiles
    label: str
    intervals: dict[str, Interval]
    ranks: dict[str, RankRange]
    floors: dict[str, float]
    costs: Costs
    points: tuple[Point, ...]
    back: PaidBack | None
    trust: Trust
    leakage: str
    missing: list[tuple[str, str]]

    @property
    def name(self) -> str:
        return self.files.name

    @property
    def ranked(self) -> bool:
        return is_ranked(self.files)


@dataclass(frozen=True)
class Table:
    """A key with its rows, best first."""

    key: Key
    rows: tuple[TableRow, ...]
    floors: dict[str, float] = field(default_factory=dict)
    """Noise floors of a complete entry, means over cells: those of all that compare as many frames."""


def tables_of(entries: Sequence[EntryFiles]) -> list[Table]:
    """The tables, those with most entries first; of several of one kind, that of today's references."""
    groups: dict[Key, list[EntryFiles]] = {}
    for files in sorted(entries, key=lambda files: bool(files.comparability.superseded)):
        groups.setdefault(_key_of(files, groups), []).append(files)
    tables = [_table(key, group) for key, group in groups.items()]
    return sorted(
        tables,
        key=lambda t: (
            not t.key.exact,
            t.key.basis == "reported",
            -t.key.budget,
            t.key.suite,
            t.key.protocol,
            t.key.number,
        ),
    )


def _key_of(files: EntryFiles, groups: Mapping[Key, Sequence[EntryFiles]]) -> Key:
    """The first key with whose entries all this one is comparable, or a new one that says what differs."""
    fresh = Key(files.comparability, files.verified, files.basis)
    alike = [key for key in groups if replace(key, number=1).slug == fresh.slug]
    apart = ""
    for key in alike:
        # What was not recorded differs from nothing, so that likeness is asked of every member.
        reasons = [
            sentence
            for terms in dict.fromkeys(member.comparability for member in groups[key])
            for sentence in terms.differences(fresh.terms, f"table {key.number}", "this one")
        ]
        if not reasons:
            return key
        apart = apart or "; ".join(reasons)
    return replace(fresh, number=len(alike) + 1, apart=apart)


def _table(key: Key, entries: list[EntryFiles]) -> Table:
    ranked = [files for files in entries if is_ranked(files)]
    better = {name: plugins().metrics[name].better for name in SHOWN if name in plugins().metrics}
    ranks: dict[str, dict[str, RankRange]] = {}
    for metric in RANKED:
        for tier in TIERS:
            rivals = [files for files in ranked if files.tier == tier and has(files, metric)]
            tables = {files.name: values(files, metric, ranked=True) for files in rivals}
            for name, rank in rank_intervals(tables, better[metric]).items():
                ranks.setdefault(name, {})[metric] = rank
    points = {files.name: tuple(points_of(files)) for files in entries}
    untrained = [
        Untrained(files.name, points[files.name])
        for files in entries
        if not files.entry.control and files.run_here and not costs_of(files).training_hours
    ]
    rows = [_row(files, ranks.get(files.name, {}), points[files.name], untrained) for files in entries]
    ordered = tuple(sorted(rows, key=_order))
    return Table(key, ordered, next((row.floors for row in ordered if not row.missing), {}))


def _order(row: TableRow) -> tuple[bool, bool, bool, int, RankRange, float, str]:
    rank = row.ranks.get(ORDER, RankRange(10**6, 10**6))
    mean = row.intervals[ORDER].mean if ORDER in row.intervals else math.inf
    files = row.files
    unranked = (files.entry.control, bool(row.missing), files.suspect is not None)
    return *unranked, -TIERS.index(files.tier), rank, mean, row.name


def _row(
    files: EntryFiles,
    ranks: dict[str, RankRange],
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
        intervals={
            name: interval(values(files, name))
            for name in SHOWN
            if has(files, name) and means_something(name, files.plan.estimator)
        },
        ranks=ranks,
        floors=floors,
        costs=costs,
        points=points,
        back=paid_back(costs.training_hours, points, untrained, ORDER),
        trust=Trust.of(files.records),
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
