"""Several runs side by side: intervals, ranks with ties, paired tests. Unlike runs are refused."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from bgbench.core.errors import BgbenchError
from bgbench.core.files import atomic_file
from bgbench.core.plugins import plugins
from bgbench.evaluation.protocols import get_protocol
from bgbench.reports.statistics import (
    FEWEST_VALUES,
    Interval,
    difference,
    holm,
    interval,
    rank_intervals,
    rank_text,
    wilcoxon,
)
from bgbench.runs.runfolder import RunFolder

Values = dict[str, list[float]]
"""Of one metric, by system: one a seed."""


@dataclass(frozen=True)
class Pair:
    """Two samplers: interval of the difference of their means, and Holm-adjusted p."""

    first: str
    second: str
    difference: Interval
    p: float


@dataclass(frozen=True)
class Comparison:
    """One metric over all runs: intervals, rank ranges, pairs; `systems` that every run finished.

    Ranks and pairs are of what the protocol ranks by (`Protocol.ranked`), intervals of the metric itself.
    `lacking`: planned systems of a run that have no number in it (failed, infinite, still to be run) but have
    one in another. Such a run has no rank: systems it could not do are out of everybody's mean. Nor has one
    with too few values for an interval (`too_few`).
    """

    metric: str
    better: str
    systems: tuple[str, ...]
    intervals: dict[str, Interval]
    ranks: dict[str, tuple[int, int]]
    pairs: tuple[Pair, ...]
    lacking: dict[str, tuple[str, ...]]

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
        if self.too_few:
            sentences.append(
                f"{', '.join(self.too_few)}: an interval and a rank need {FEWEST_VALUES} values "
                "(systems × seeds) or more"
            )
        return sentences

    def best_first(self) -> list[str]:
        """The runs in the order of their ranks, those without one last."""
        return sorted(self.intervals, key=lambda name: self.ranks.get(name, (len(self.intervals) + 1,)))


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


def refuse_unlike(folders: Sequence[RunFolder]) -> None:
    """Raise BgbenchError unless all runs can share a table.

    They share protocol, suite version, budget, temperature, the reference of every system, and whether log q
    is exact.
    """
    if len(folders) < 2:
        raise BgbenchError("compare needs two runs or more")
    for field in ("protocol", "suite", "suite_sha256", "budget"):
        values = {getattr(folder.plan, field): folder.path for folder in folders}
        if len(values) > 1:
            shown = "; ".join(f"{path}: {value}" for value, path in values.items())
            raise BgbenchError(f"these runs cannot share a table, their {field} differs: {shown}")
    kelvin = {folder.plan.cells[0].temperature: folder.path for folder in folders}
    if len(kelvin) > 1:
        shown = "; ".join(f"{path}: {value:g} K" for value, path in kelvin.items())
        raise BgbenchError(f"these runs cannot share a table, their temperature differs: {shown}")
    refuse_other_references(folders)
    biased = [folder.path for folder in folders if not all(record.exact for record in folder.records())]
    if 0 < len(biased) < len(folders):
        raise BgbenchError(
            f"log q is an estimate in {', '.join(map(str, biased))}: compare such runs with each other only"
        )


def refuse_other_references(folders: Sequence[RunFolder]) -> None:
    """Raise BgbenchError if runs were judged on different references, naming the systems."""
    hashes = [references_of(folder) for folder in folders]
    systems = [
        name
        for name in dict.fromkeys(name for known in hashes for name in known)
        if len({known[name] for known in hashes if name in known}) > 1
    ]
    if systems:
        shown = "; ".join(
            f"{folder.path}: {known[systems[0]][:12]}"
            for folder, known in zip(folders, hashes, strict=True)
            if systems[0] in known
        )
        raise BgbenchError(
            f"these runs cannot share a table, their references of {', '.join(systems)} differ "
            f"({systems[0]} in {shown}); run them again on the same references"
        )


def references_of(folder: RunFolder) -> dict[str, str]:
    """sha256 of the reference of each system: the plan's, or what the records of an older run name."""
    judged_on = {
        record.cell.system: str(record.reference["sha256"])
        for record in folder.records()
        if record.reference.get("sha256")
    }
    return {**judged_on, **folder.plan.inputs.references}


def compare(folders: Sequence[RunFolder], metric: str) -> Comparison:
    """Compare runs on one metric, over the systems that all of them finished.

    Args:
        folders: two runs or more.
        metric: a name among the records' metrics.

    Raises:
        BgbenchError: for runs that cannot be compared, or a metric that no common system has.
    """
    refuse_unlike(folders)
    names = labels(folders)
    values = [_values(folder, metric) for folder in folders]
    systems = tuple(name for name in values[0] if all(name in other for other in values))
    if not systems:
        raise BgbenchError(f"no system has '{metric}' in every run; see `bgbench show RUN`")
    tables = {name: _table(own, systems) for name, own in zip(names, values, strict=True)}
    lacking = {
        name: _lacking(folder, own, values) for name, folder, own in zip(names, folders, values, strict=True)
    }
    ranked = {
        name: _table(_values(folder, metric, ranked=True), systems)
        for name, folder in zip(names, folders, strict=True)
        if not lacking[name]
    }
    registry = plugins().metrics
    better = registry[metric].better if metric in registry else "lower"
    couples = list(combinations(ranked, 2))
    adjusted = holm([wilcoxon(ranked[a], ranked[b]) for a, b in couples])
    return Comparison(
        metric=metric,
        better=better,
        systems=systems,
        intervals={name: interval(table) for name, table in tables.items()},
        ranks=rank_intervals(ranked, better),
        pairs=tuple(
            Pair(a, b, difference(ranked[a], ranked[b]), p)
            for (a, b), p in zip(couples, adjusted, strict=True)
        ),
        lacking={name: systems for name, systems in lacking.items() if systems},
    )


def _lacking(folder: RunFolder, own: Values, values: Sequence[Values]) -> tuple[str, ...]:
    """Systems planned in a run without a number there, of which some run has one."""
    planned = dict.fromkeys(cell.system for cell in folder.plan.cells)
    return tuple(name for name in planned if name not in own and any(name in other for other in values))


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
    """Intervals of every sampler, one panel a metric, as PNG."""
    figure = Figure(figsize=(3.2 * len(comparisons), 2.6), layout="constrained")
    for ax, item in zip(figure.subplots(1, len(comparisons), squeeze=False)[0], comparisons, strict=True):
        for row, bar in enumerate(item.intervals.values()):
            if bar.low is not None and bar.high is not None:
                ax.plot([bar.low, bar.high], [row, row], color="#4c4c4c", linewidth=2)
            ax.plot([bar.mean], [row], "o", color="#c8441b")
        ax.set_yticks(range(len(item.intervals)), list(item.intervals))
        ax.set_xlabel(f"{item.metric} ({item.better} is better)")
        ax.invert_yaxis()
    FigureCanvasAgg(figure)
    with atomic_file(path) as stream:
        figure.savefig(stream, dpi=120, format="png")
    return path
