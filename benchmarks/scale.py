"""What suites cost, from records: `python benchmarks/scale.py RUN…` rewrites the table of `scale.md`.

RUN are runs with records; without any, those kept under `benchmarks/`. Seconds are wall time of a cell
in a worker of one thread; hours are their sum. GB are what the array files hold, unpacked. Peak MB are the
largest high-water mark of a worker, MiB, over the cells it had run. Exponents are slopes of log seconds
against log atoms over systems.
"""

import sys
from collections import defaultdict
from collections.abc import Iterable
from itertools import groupby
from pathlib import Path

import numpy as np
from results import ROOT, replace_between
from results import row as line

import bgbench
from bgbench.core.types import Suite
from bgbench.reports.compare import labels
from bgbench.runs.records import Record
from bgbench.runs.runfolder import RunFolder
from bgbench.runs.stores import SUFFIX

PAGE = ROOT / "benchmarks" / "scale.md"
START, END = "<!-- scale: python benchmarks/scale.py -->", "<!-- /scale -->"
PHASES = ("sampling", "judging", "auditing")
HEADS = (
    "sampler", "suite", "budget", "cells", "hours", *(f"{name} s" for name in PHASES), "atoms^",
    "GB", "peak MB",
)  # fmt: skip


def kept_runs() -> list[RunFolder]:
    """Every run whose records are kept in the repository."""
    files = (ROOT / "benchmarks").glob(f"*/**/*{SUFFIX}")
    return [RunFolder.open(path) for path in sorted(files, key=lambda path: path.with_suffix(""))]


def atoms(name: str) -> int:
    """Atoms of a peptide."""
    return bgbench.peptide(name).n_atoms


def exponent(records: Iterable[Record], sizes: dict[str, int]) -> str:
    """Slope of log sampling seconds against log atoms; a dash for fewer than ten sizes."""
    times = defaultdict(list)
    for record in records:
        times[sizes[record.cell.system]].append(record.seconds["sampling"])
    if len(times) < 10:
        return "–"
    slope = np.polyfit(np.log(list(times)), np.log([np.mean(t) for t in times.values()]), 1)[0]
    return f"{slope:.1f}"


def stored_points(record: Record) -> int | None:
    """Rows of a finished cell's array file; None where the record does not say.

    Estimators that end with few `points` copy them until the protocol has as many as it compares; SNIS keeps
    every draw and records the ESS of all of them; n equal weights are 1/n each.
    """
    diagnostics, metrics = record.diagnostics, record.metrics
    if "points" in diagnostics:
        return max(int(diagnostics["points"]), int(diagnostics["frames_compared"]))
    if "ess_against_n" in diagnostics:
        return max(int(draws) for draws in diagnostics["ess_against_n"])
    largest, ess = metrics.get("max_weight_share"), metrics.get("ess")
    equal = largest is not None and ess is not None and abs(ess - 1) < 1e-9
    return round(1 / largest) if equal and largest else None


def point_bytes(record: Record, n_atoms: int) -> int:
    """Bytes of a row, as `bgbench.runs.records.write_arrays` keeps it.

    Float32 positions, float64 u and log w; a density's log q in float64; the int32 group of walks.
    """
    grouped = "points" in record.diagnostics or record.cell.estimator == "mcmc"
    return 12 * n_atoms + 16 + 8 * ("density" in record.diagnostics) + 4 * grouped


def gigabytes(records: Iterable[Record], sizes: dict[str, int]) -> str:
    """What the array files of finished cells hold; a dash where one record does not say."""
    shapes = [(stored_points(record), point_bytes(record, sizes[record.cell.system])) for record in records]
    known = [points * size for points, size in shapes if points is not None]
    return f"{sum(known) / 1e9:.3f}" if len(known) == len(shapes) else "–"


def row(name: str, run: RunFolder, sizes: dict[str, int]) -> str:
    """One run: hours, seconds a cell by phase, growth with atoms, gigabytes, memory."""
    records = [record for record in run.records() if record.status == "ok"]
    means = [np.mean([record.seconds.get(phase, 0.0) for record in records]) for phase in PHASES]
    cells = [
        name,
        run.plan.suite if run.plan.protocol == Suite.protocol else f"{run.plan.suite}, {run.plan.protocol}",
        f"{run.plan.budget:,}",
        str(len(records)),
        f"{sum(record.seconds['total'] for record in records) / 3600:.2f}",
        *(f"{mean:.1f}" for mean in means),
        exponent(records, sizes),
        gigabytes(records, sizes),
        f"{max(record.provenance['peak_memory_mb'] for record in records):.0f}",
    ]
    return line(*cells)


def table(runs: list[RunFolder]) -> str:
    """All runs, by suite, protocol and budget."""
    sizes = {name: atoms(name) for run in runs for name in {cell.system for cell in run.plan.cells}}
    lines = [line(*HEADS), "|" + "---|" * len(HEADS)]
    key = lambda run: (run.plan.suite, run.plan.protocol, run.plan.budget)  # noqa: E731
    for _, group in groupby(sorted(runs, key=key), key):
        alike = list(group)
        lines += [row(name, run, sizes) for name, run in zip(labels(alike), alike, strict=True)]
    return "\n".join(lines)


if __name__ == "__main__":
    runs = [RunFolder.open(Path(argument)) for argument in sys.argv[1:]] or kept_runs()
    PAGE.write_text(replace_between(PAGE.read_text(), START, END, table(runs)))
