"""Several runs side by side: intervals, ranks with ties, paired tests. Unlike runs are refused."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from bgbench.core.errors import BgbenchError
from bgbench.core.options import describe_known
from bgbench.core.plugins import plugins
from bgbench.evaluation.protocols import get_protocol
from bgbench.reports.axes import set_scale
from bgbench.reports.comparability import refuse_unlike
from bgbench.reports.headings import is_control, means_something, unit_of, was_run_here
from bgbench.reports.saving import save_figure
from bgbench.reports.statistics import (
    FEWEST_SYSTEMS,
    FEWEST_VALUES,
    Interval,
    RankRange,
    can_reject,
    difference,
    holm,
    interval,
    rank_intervals,
    rank_text,
    wilcoxon,
)
from bgbench.runs.records import Record
from bgbench.runs.runfolder import RunFolder

Values = dict[str, list[float]]
"""Of one metric, by system: one a seed."""


@dataclass(frozen=True)
class Pair:
    """Two samplers: the difference of their means in the metric's unit, and Holm-adjusted p of both paired.

    `p` is None where no test of so few systems and so many pairs could say anything.
    """

    first: str
    second: str
    difference: Interval
    p: float | None


@dataclass(frozen=True)
class Comparison:
    """One metric over all runs: intervals, rank ranges and pairs, over systems that every run finished.

    Attributes:
        metric: its name.
        better: `lower` or `higher`.
        unit: of means and differences; empty if it has none.
        names: all runs.
        systems: those that every run finished.
        intervals: by run, of the metric; without runs of which it says nothing (`headings.means_something`).
        ranks: by run, of what the protocol ranks by (`Protocol.score_for_ranking`).
        pairs: of runs without gaps, controls among them.
        lacking: planned systems of a run that have no number in it (failed, infinite, still to be run) but
            have one in another. Such a run has no rank: systems it could not do are out of everybody's mean.
            Nor has one with too few values for an interval (`too_few`).
        controls: the runs of controls, which are never ranked.
        elsewhere: the runs of samples that were made elsewhere, which are never ranked either.
        ranking: what ranks are by, in words, where it is not the metric itself; else empty.
        floor: the noise floor, mean over the systems; None for a metric without one.
    """

    metric: str
    better: str
    unit: str
    names: tuple[str, ...]
    systems: tuple[str, ...]
    intervals: dict[str, Interval]
    ranks: dict[str, RankRange]
    pairs: tuple[Pair, ...]
    lacking: dict[str, tuple[str, ...]]
    controls: tuple[str, ...] = ()
    elsewhere: tuple[str, ...] = ()
    ranking: str = ""
    floor: float | None = None

    def rank(self, name: str) -> str:
        """A run's range of ranks in words; a dash for one that is not ranked."""
        return rank_text(self.ranks.get(name)) or "–"

    @property
    def too_few(self) -> list[str]:
        """The runs whose values are too few for an interval and a rank."""
        return [name for name, interval in self.intervals.items() if interval.low is None]

    @property
    def notes(self) -> list[str]:
        """A sentence for each reason why runs have no rank or no interval."""
        sentences = [
            f"{name} is not ranked, and these are in no mean: it has no number for {', '.join(systems)}"
            for name, systems in self.lacking.items()
        ]
        if self.controls:
            sentences.append(f"{', '.join(self.controls)}: a control, never ranked")
        if self.elsewhere:
            sentences.append(
                f"{', '.join(self.elsewhere)}: samples made elsewhere, never ranked: their cost is not known"
            )
        if self.too_few:
            sentences.append(
                f"{', '.join(self.too_few)}: an interval and a rank need {FEWEST_SYSTEMS} systems and "
                f"{FEWEST_VALUES} values (systems × seeds) or more"
            )
        if meaningless := [name for name in self.names if name not in self.intervals]:
            sentences.append(
                f"{', '.join(meaningless)}: all points have the same weight, and {self.metric} says nothing"
            )
        return sentences

    @property
    def untested(self) -> str:
        """Why pairs have no p; empty if they have."""
        if not self.pairs or self.pairs[0].p is not None:
            return ""
        pairs, systems = _count(len(self.pairs), "pair"), _count(len(self.systems), "system")
        return f"no paired tests: with {pairs} over {systems}, p cannot fall below .05"

    def best_first(self) -> list[str]:
        """The runs in the order of their ranks, those without one last."""
        return sorted(self.names, key=lambda name: self.ranks.get(name, (len(self.names) + 1,)))


def _count(n: int, noun: str) -> str:
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"


def labels(folders: Sequence[RunFolder]) -> list[str]:
    """A name for each run, no two alike.

    `sampler`; where a sampler stands with several estimators `sampler · estimator`; where that does not tell
    runs apart, the end of the folder's path behind it, `(folder)` or as much more as it takes.

    Raises:
        BgbenchError: if one folder is named twice.
    """
    plans = [folder.plan for folder in folders]
    estimators = {plan.sampler: {p.estimator for p in plans if p.sampler == plan.sampler} for plan in plans}
    names = [
        f"{plan.sampler} · {plan.estimator}" if len(estimators[plan.sampler]) > 1 else plan.sampler
        for plan in plans
    ]
    paths = [folder.path.resolve() for folder in folders]
    return [
        name if names.count(name) == 1 else f"{name} ({_own_ending(path, name, names, paths)})"
        for name, path in zip(names, paths, strict=True)
    ]


def _own_ending(path: Path, name: str, names: Sequence[str], paths: Sequence[Path]) -> str:
    """The shortest end of `path` that no other path of a run called `name` has."""
    others = [other for called, other in zip(names, paths, strict=True) if called == name]
    if others.count(path) > 1:
        raise BgbenchError(f"{path} is named twice; name each run once")
    for length in range(1, len(path.parts) + 1):
        if sum(other.parts[-length:] == path.parts[-length:] for other in others) == 1:
            break
    return str(Path(*path.parts[-length:]))


def compare(folders: Sequence[RunFolder], metric: str) -> Comparison:
    """Compare runs on one metric, over the systems that all of them finished.

    Args:
        folders: two runs or more.
        metric: a name among the records' metrics.

    Raises:
        BgbenchError: for runs that cannot be compared, or a metric that no common system has.
    """
    if len(folders) < 2:
        raise BgbenchError("compare needs two runs or more")
    refuse_unlike(folders)
    names = labels(folders)
    runs = {
        name: folder
        for name, folder in zip(names, folders, strict=True)
        if means_something(metric, folder.plan.estimator)
    }
    values = {name: _values(folder, metric) for name, folder in runs.items()}
    systems = _common(values)
    if runs and not systems:
        known = sorted({name for folder in folders for record in folder.records() for name in record.metrics})
        advice = "; see `bgbench show RUN`" if metric in known else describe_known(metric, known)
        raise BgbenchError(f"no system has '{metric}' in every run{advice}")
    tables = {name: _table(own, systems) for name, own in values.items()}
    lacking = {name: _lacking(folder, values[name], values) for name, folder in runs.items()}
    whole = {name: folder for name, folder in runs.items() if not lacking[name]}
    elsewhere = tuple(name for name, folder in runs.items() if not was_run_here(folder.records()))
    scores = {
        name: _table(_values(folder, metric, ranked=True), systems)
        for name, folder in whole.items()
        if not is_control(folder.plan.sampler) and name not in elsewhere
    }
    registry = plugins().metrics
    better = registry[metric].better if metric in registry else "lower"
    return Comparison(
        metric=metric,
        better=better,
        unit=unit_of(metric),
        names=tuple(names),
        systems=systems,
        intervals={name: interval(table) for name, table in tables.items()},
        ranks=rank_intervals(scores, better),
        pairs=_pairs({name: tables[name] for name in whole}),
        lacking={name: systems for name, systems in lacking.items() if systems},
        controls=tuple(name for name, run in runs.items() if is_control(run.plan.sampler)),
        elsewhere=elsewhere,
        ranking=_rule_of_ranks(folders[0].plan.protocol, tables, scores),
        floor=_floor([record for run in runs.values() for record in run.records()], metric, systems),
    )


def _rule_of_ranks(protocol: str, tables: Mapping[str, np.ndarray], scores: Mapping[str, np.ndarray]) -> str:
    """A sentence if the `scores` that runs are ranked by are not the `tables` of the metric."""
    if all(np.array_equal(tables[name], score, equal_nan=True) for name, score in scores.items()):
        return ""
    return (
        f"means and differences are of the metric; {protocol} ranks distances by their excess over the noise "
        "floor of as many exact draws as each sampler has effective points"
    )


def _common(values: Mapping[str, Values]) -> tuple[str, ...]:
    """The systems that every run has, in the order of the first."""
    first = next(iter(values.values()), {})
    return tuple(name for name in first if all(name in other for other in values.values()))


def _pairs(tables: Mapping[str, np.ndarray]) -> tuple[Pair, ...]:
    """Every two runs, from `tables (systems, seeds)`."""
    couples = list(combinations(tables, 2))
    systems = len(next(iter(tables.values()), ()))
    p_values: list[float | None] = [None] * len(couples)
    if couples and can_reject(systems, len(couples)):
        p_values = [*holm([wilcoxon(tables[a], tables[b]) for a, b in couples])]
    return tuple(
        Pair(a, b, difference(tables[a], tables[b]), p) for (a, b), p in zip(couples, p_values, strict=True)
    )


def _floor(records: Sequence[Record], metric: str, systems: Sequence[str]) -> float | None:
    """Mean over systems of the noise floor; None unless every system has one."""
    floors: dict[str, list[float]] = {}
    for record in records:
        if (floor := record.floors.get(metric)) is not None:
            floors.setdefault(record.cell.system, []).append(floor)
    if not systems or any(name not in floors for name in systems):
        return None
    return float(np.mean([np.mean(floors[name]) for name in systems]))


def _lacking(folder: RunFolder, own: Values, values: Mapping[str, Values]) -> tuple[str, ...]:
    """Systems planned in a run without a number there, of which some run has one."""
    planned = dict.fromkeys(cell.system for cell in folder.plan.cells)
    others = values.values()
    return tuple(name for name in planned if name not in own and any(name in other for other in others))


def _values(folder: RunFolder, metric: str, *, ranked: bool = False) -> Values:
    """Finished values by system; a system with a seed that failed or is still to be run is left out."""
    protocol = get_protocol(folder.plan.protocol, folder.path)
    values: Values = {}
    failed = {cell.system for cell in folder.missing()}
    for record in folder.records():
        value = record.metrics.get(metric)
        if record.status != "ok" or value is None:
            failed.add(record.cell.system)
        else:
            allowed = record.diagnostics.get("floors_at_n_eff", {})
            shown = protocol.score_for_ranking(metric, value, allowed) if ranked else value
            values.setdefault(record.cell.system, []).append(shown)
    return {name: seeds for name, seeds in values.items() if name not in failed}


def _table(values: dict[str, list[float]], systems: Sequence[str]) -> np.ndarray:
    width = max(len(values[name]) for name in systems)
    return np.array([values[name] + [np.nan] * (width - len(values[name])) for name in systems])


def draw_comparison(comparisons: Sequence[Comparison], path: Path) -> Path:
    """Intervals of every sampler, one panel a metric, as PNG; dotted: the noise floor.

    Axes are logarithmic where numbers span more than a decade, so that the worst does not squash the others.
    """
    rows = max(len(item.names) for item in comparisons)
    figure = Figure(figsize=(3.2 * len(comparisons), 1.2 + 0.3 * rows), layout="constrained")
    for ax, item in zip(figure.subplots(1, len(comparisons), squeeze=False)[0], comparisons, strict=True):
        shown = [item.floor]
        for row, name in enumerate(item.names):
            if name not in item.intervals:
                beside_axis = ax.get_yaxis_transform()
                ax.text(0.02, row, "equal weights", transform=beside_axis, va="center", fontsize=7)
                continue
            bar = item.intervals[name]
            if bar.low is not None and bar.high is not None:
                ax.plot([bar.low, bar.high], [row, row], color="#4c4c4c", linewidth=2)
            ax.plot([bar.mean], [row], "o", color="#c8441b")
            shown += [bar.low, bar.mean, bar.high]
        if item.floor is not None:
            ax.axvline(item.floor, color="black", linestyle=":", label="noise floor")
            ax.legend(frameon=False, fontsize=7)
        ax.set_yticks(range(len(item.names)), list(item.names))
        ax.set_ylim(len(item.names) - 0.5, -0.5)
        unit = f" ({item.unit})" if item.unit else ""
        ax.set_xlabel(f"{item.metric}{unit}, {item.better} is better")
        set_scale(ax, "x", [value for value in shown if value is not None])
    return save_figure(figure, path)
