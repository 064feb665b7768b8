"""What suites cost, from records: `python benchmarks/scale.py RUN…` rewrites the table of `scale.md`.

RUN are run folders with records; without any, those kept under `benchmarks/`. Seconds are wall time of a cell
in a worker of one thread; hours are their sum. GB are float32 positions, energy, log q and log w of every
draw, which is what an array file holds. Exponents are slopes of log seconds against log atoms over systems.
"""

import sys
from collections import defaultdict
from collections.abc import Iterable
from itertools import groupby
from pathlib import Path

import numpy as np
from results import ROOT, between
from results import row as line

import bgbench
from bgbench.compare import labels
from bgbench.records import Record
from bgbench.runfolder import RunFolder
from bgbench.types import Suite

PAGE = ROOT / "benchmarks" / "scale.md"
START, END = "<!-- scale: python benchmarks/scale.py -->", "<!-- /scale -->"
PHASES = ("sampling", "judging", "auditing")
HEADS = (
    "sampler", "suite", "budget", "cells", "hours", *(f"{name} s" for name in PHASES), "atoms^",
    "GB", "peak MB",
)  # fmt: skip
NUMBERS = 4 + 4 + 8
"""Bytes of a draw beside its positions: float32 log q and log w, float64 energy."""


def kept() -> list[RunFolder]:
    """Every run whose records are kept in the repository."""
    return [RunFolder.open(path.parent) for path in sorted((ROOT / "benchmarks").glob("*/**/run.json"))]


def atoms(name: str) -> int:
    """Atoms of a peptide."""
    return bgbench.System.from_sequence(name).n_atoms


def exponent(records: Iterable[Record], sizes: dict[str, int]) -> str:
    """Slope of log sampling seconds against log atoms; a dash for fewer than ten sizes."""
    times = defaultdict(list)
    for record in records:
        times[sizes[record.cell.system]].append(record.seconds["sampling"])
    if len(times) < 10:
        return "–"
    slope = np.polyfit(np.log(list(times)), np.log([np.mean(t) for t in times.values()]), 1)[0]
    return f"{slope:.1f}"


def row(name: str, run: RunFolder, sizes: dict[str, int]) -> str:
    """One run: hours, seconds a cell by phase, growth with atoms, gigabytes, memory."""
    records = [record for record in run.records() if record.status == "ok"]
    means = [np.mean([record.seconds.get(phase, 0.0) for record in records]) for phase in PHASES]
    stored = sum((12 * sizes[r.cell.system] + NUMBERS) * r.budget.used for r in records)
    cells = [
        name,
        run.plan.suite if run.plan.protocol == Suite.protocol else f"{run.plan.suite}, {run.plan.protocol}",
        f"{run.plan.budget:,}",
        str(len(records)),
        f"{sum(record.seconds['total'] for record in records) / 3600:.2f}",
        *(f"{mean:.1f}" for mean in means),
        exponent(records, sizes),
        f"{stored / 1e9:.3f}",
        f"{max(record.provenance['peak_memory_mb'] for record in records):.0f}",
    ]
    return line(*cells)


def table(runs: list[RunFolder]) -> str:
    """All runs, by suite, protocol and budget."""
    sizes = {name: atoms(name) for run in runs for name in {cell.system for cell in run.plan.cells}}
    lines = [line(*HEADS), "|" + "---|" * len(HEADS)]
    key = lambda run: (run.plan.suite, run.plan.protocol, run.plan.budget)  # noqa: E731
    for _, group in groupby(sorted(runs, key=key), key):
        found = list(group)
        lines += [row(name, run, sizes) for name, run in zip(labels(found), found, strict=True)]
    return "\n".join(lines)


if __name__ == "__main__":
    runs = [RunFolder.open(Path(argument)) for argument in sys.argv[1:]] or kept()
    PAGE.write_text(between(PAGE.read_text(), START, END, table(runs)))
