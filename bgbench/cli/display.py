"""What the command line prints: tables, listings, answers."""

import importlib.util
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from bgbench.core.errors import BgbenchError
from bgbench.core.plugins import Registry, plugins
from bgbench.core.resources import data_path
from bgbench.evaluation.audit import Check
from bgbench.evaluation.suites import load_suite
from bgbench.references.certificates import reference_sha256
from bgbench.references.providers import reference_path
from bgbench.reports.compare import Comparison
from bgbench.reports.curves import Point
from bgbench.reports.headings import ARROWS, heading, headline
from bgbench.runs.provenance import provenance
from bgbench.runs.records import Record
from bgbench.runs.runfolder import RunFolder


def print_run(path: Path, records: Sequence[Record], console: Console) -> None:
    """The table systems × metrics: units, arrows for better, floors, budget used."""
    if not records:
        console.print(f"{path}: no cell is finished yet")
        return
    first = records[0].cell
    console.print(
        f"{first.sampler} · {first.estimator} · {first.protocol} · {first.suite} · budget {first.budget:,} "
        f"energy evaluations",
        soft_wrap=True,
    )
    heads, rows = table_of(records)
    needed = sum(max(len(row[k]) for row in [heads, *rows]) + 2 for k in range(len(heads)))
    if console.is_terminal and needed > console.width:
        turned = list(zip(heads, *rows, strict=True))
        heads, rows = list(turned[0]), [list(row) for row in turned[1:]]
    table = Table(box=None, header_style="bold", pad_edge=False)
    for k, head in enumerate(heads):
        table.add_column(head, justify="right" if k else "left", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    Console(file=console.file, width=max(console.width, needed), highlight=False, markup=False).print(table)
    console.print(
        "each distance is followed by its noise floor in brackets; ↑ higher is better, ↓ lower",
        soft_wrap=True,
    )
    for line in [*reweighting(records), *not_packaged(path, records)]:
        console.print(line, soft_wrap=True)
    console.print(f"records, arrays and figures: {path}", soft_wrap=True)


def reweighting(records: Sequence[Record]) -> list[str]:
    """A line for each system whose reference was reweighted from another temperature."""
    return [
        f"{record.cell.system}: reference reweighted from {told['from']:g} to {record.cell.temperature:g} K, "
        f"ESS {told['ess']:.2g}"
        for record in {record.cell.system: record for record in records}.values()
        if (told := record.reference.get("reweighted"))
    ]


def not_packaged(path: Path, records: Sequence[Record]) -> list[str]:
    """A line for each system judged against another reference than the packaged one it has."""
    lines = []
    forcefield = load_suite(records[0].cell.suite, path).forcefield
    for record in {record.cell.system: record for record in records}.values():
        system, used = record.cell.system, str(record.reference.get("sha256", ""))
        packaged = data_path("references") / reference_path(system, record.cell.temperature, forcefield)
        if used and packaged.is_file() and reference_sha256(packaged) != used:
            lines.append(
                f"{system}: judged against a reference of your own ({used[:12]}), not the packaged one; "
                f"`bgbench data compare {system}` measures them against each other"
            )
    return lines


def table_of(records: Sequence[Record]) -> tuple[list[str], list[list[str]]]:
    """Column heads and a row a record, as text."""
    names = headline(records)
    heads = ["system", "seed", "status", *(heading(name) for name in names), "used", "reference"]
    rows = [
        [record.cell.system, str(record.cell.seed), record.status]
        + [_cell_text(record, name) for name in names]
        + [f"{record.budget.used:,}", str(record.reference.get("grade", "–"))]
        for record in records
    ]
    return heads, rows


def print_comparison(comparison: Comparison, console: Console) -> None:
    """One metric: a row a sampler, then the pairs."""
    arrow = ARROWS[comparison.better]
    console.print(f"{comparison.metric} {arrow} over {len(comparison.systems)} systems, 95 % intervals")
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in ("sampler", "mean", "interval", "median", "rank"):
        table.add_column(column, justify="left" if column == "sampler" else "right")
    for name in comparison.best_first():
        interval, rank = comparison.intervals[name], comparison.rank(name)
        ends = interval.ends("{:.3g}".format, " … ") or "–"
        table.add_row(name, f"{interval.mean:.3g}", ends, f"{interval.median:.3g}", rank)
    console.print(table)
    for sentence in comparison.notes:
        console.print(f"  {sentence}", soft_wrap=True)
    for pair in comparison.pairs:
        ends = pair.difference.ends("{:+.3g}".format, " … ")
        console.print(
            f"  {pair.first} − {pair.second}: {pair.difference.mean:+.3g}{f' ({ends})' if ends else ''}, "
            f"Wilcoxon p {pair.p:.2g} after Holm",
            soft_wrap=True,
        )


def print_curve(label: str, points: Sequence[Point], metrics: Sequence[str], console: Console) -> None:
    """A row a checkpoint: evaluations, seconds, and each metric with its floor."""
    table = Table(title=f"{label}, mean over cells", box=None, title_justify="left")
    for name in ("evaluations", "seconds", *(heading(metric) for metric in metrics)):
        table.add_column(name, justify="right")
    for point in points:
        cells = [_with_floor(point.metrics.get(name), point.floors.get(name)) for name in metrics]
        table.add_row(f"{point.evaluations:,}", f"{point.seconds:.3g}", *cells)
    console.print(table)


def _with_floor(value: float | None, floor: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:.3g}" if floor is None else f"{value:.3g} [{floor:.2g}]"


def print_audit(checks: Sequence[Check], console: Console) -> None:
    """A line a check: passed or not, the value, its limit, what was measured."""
    table = Table(box=None, pad_edge=False)
    for name in ("check", "", "value", "limit", "measured"):
        table.add_column(name)
    for check in checks:
        verdict = "ok" if check.passed else "FAILED"
        table.add_row(check.name, verdict, f"{check.value:.2g}", f"{check.limit:g}", check.note)
    console.print(table)


def run_as_dict(folder: RunFolder) -> dict[str, Any]:
    """A run as plain JSON values."""
    return {
        "run": folder.plan.model_dump(exclude={"cells"}),
        "cells": [
            {
                "system": record.cell.system,
                "seed": record.cell.seed,
                "status": record.status,
                "error": record.error,
                "phase": record.phase,
                "metrics": record.metrics,
                "floors": record.floors,
                "skills": record.skills,
                "budget": {"limit": record.budget.limit, "used": record.budget.used},
                "reference": record.reference,
                "leakage": record.leakage,
                "seconds": record.seconds,
                "diagnostics": record.diagnostics,
            }
            for record in folder.readable()[0]
        ],
        "missing": [cell.name for cell in folder.missing()],
    }


def print_listing(kind: str, console: Console) -> None:
    """One line an entry: name, summary, distribution, version."""
    found = plugins()
    table = Table(box=None, header_style="bold", pad_edge=False)
    if kind == "plugins":
        for column in ("plugin", "distribution", "version"):
            table.add_column(column)
        for origin in found.origins.values():
            table.add_row(origin.plugin, origin.distribution, origin.version)
        console.print(table)
        return
    registries: dict[str, Registry[Any]] = {
        "samplers": found.samplers,
        "energies": found.energies,
        "estimators": found.estimators,
        "metrics": found.metrics,
        "suites": found.suites,
        "trackers": found.trackers,
    }
    if kind not in registries:
        raise BgbenchError(f"cannot list '{kind}'; lists: {', '.join(registries)}, plugins")
    for column in ("name", "summary", "distribution", "version"):
        table.add_column(column)
    registry = registries[kind]
    for name in registry:
        origin = registry.origin(name)
        entry = registry[name]
        summary = str(entry) if isinstance(entry, Path) else described(entry)
        table.add_row(name, summary, origin.distribution, origin.version)
    console.print(table)


def described(entry: Any) -> str:
    """An entry's summary, with what to cite where it says so."""
    citation = getattr(entry, "citation", "")
    return f"{entry.summary} [{citation}]" if citation else str(entry.summary)


def print_doctor(console: Console) -> None:
    """Versions, platforms, threads, disk, and what is missing."""
    import openmm

    info = provenance()
    console.print(f"bgbench {info['bgbench']}, Python {info['python']}, {info['host']['system']}")
    console.print(
        f"CPU {info['host']['cpu']}, {info['host']['cores']} cores, GPU {info['host']['gpu'] or 'none'}"
    )
    omp = os.environ.get("OMP_NUM_THREADS", "unset")
    console.print(f"torch threads {info['host']['torch_threads']}, OMP_NUM_THREADS {omp}")
    for name, number in info["libraries"].items():
        console.print(f"  {name} {number or 'MISSING'}")
    platforms = [openmm.Platform.getPlatform(i).getName() for i in range(openmm.Platform.getNumPlatforms())]
    console.print(f"OpenMM platforms: {', '.join(platforms)}")
    console.print(f"free disk here: {shutil.disk_usage('.').free / 1e9:.1f} GB")
    found = plugins()
    console.print(f"plugins: {', '.join(found.origins)}")
    optional = {
        "dask.distributed": "distributed",
        "dask_jobqueue": "dask_jobqueue",
        "playwright": "playwright",
    }
    missing = [name for name, module in optional.items() if importlib.util.find_spec(module) is None]
    console.print(f"optional, not installed: {', '.join(missing) or 'nothing'}")
    sys.stdout.flush()


def _cell_text(record: Record, name: str) -> str:
    value, floor = record.metrics.get(name), record.floors.get(name)
    text = "–" if value is None else f"{value:.3g}"
    return text if floor is None else f"{text} [{floor:.2g}]"
