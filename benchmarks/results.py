"""Write the README's results from the records kept in `benchmarks/results/RUN/`, and draw their curves.

`python benchmarks/results.py` writes tables and figure from what is kept; with run folders as arguments
it first takes their records (no arrays) and their curves.
"""

import shlex
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from bgbench.evaluation.protocols import get_protocol
from bgbench.metrics.names import CURVES, HEADLINE, RANKED
from bgbench.reports.compare import compare, labels
from bgbench.reports.curves import curve, draw_curves
from bgbench.runs.runfolder import RunFolder

ROOT = Path(__file__).parent.parent
KEPT = ROOT / "benchmarks" / "results"
CAPTION = "<!-- curves -->", "<!-- /curves -->"
START, END = "<!-- results: python benchmarks/results.py -->", "<!-- /results -->"
UNWEIGHTED = ("none", "mcmc")
HEADS = ("ess ↑", "energy_w2 (kT) ↓", "torus_w2 (rad) ↓", "tica_w2 ↓", "mode_weights ↓", "validity ↑")


def typed(sampler: str, choices: Mapping[str, Any]) -> str:
    """`bgbench.run(sampler, **choices)` as it would be typed."""
    words = ["bgbench", "run", sampler]
    for name, given in choices.items():
        if name == "options":
            words += [word for setting in given.items() for word in ("--set", "=".join(setting))]
        elif name == "only":
            words += [word for system in given for word in ("--only", system)]
        else:
            option = f"--{name.replace('_', '-')}"
            words += [option] if given is True else [option, str(given)]
    return shlex.join(words)


def opened(folder: Path) -> list[RunFolder]:
    """The kept runs, by name."""
    return [RunFolder.open(path.parent) for path in sorted(folder.glob("*/run.json"))]


def take(source: Path, kept: Path = KEPT) -> None:
    """Keep a run's plan, suite, records and curve."""
    curve(RunFolder.open(source))
    target = kept / source.name
    shutil.rmtree(target, ignore_errors=True)
    for pattern in ("run.json", "curve.json", "*.yaml", "cells/*.json"):
        for path in source.glob(pattern):
            place = target / path.relative_to(source)
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, place)


def systems_table(runs: list[RunFolder]) -> str:
    """Every system of every run: means over seeds, floors in brackets."""
    lines = [row("sampler", "system", "grade", *HEADS), "|" + "---|" * (len(HEADS) + 3)]
    for name, run in zip(labels(runs), runs, strict=True):
        for system in dict.fromkeys(cell.system for cell in run.plan.cells):
            records = [record for record in run.records() if record.cell.system == system]
            shown = [value([r.metrics.get(m) for r in records], records[0].floors.get(m)) for m in HEADLINE]
            lines.append(row(name, system, str(records[0].reference.get("grade", "–")), *shown))
    return "\n".join(lines)


def value(values: list[float | None], floor: float | None) -> str:
    """Mean over seeds with its floor; a dash where a seed has none."""
    present = [number for number in values if number is not None]
    if len(present) < len(values):
        return "–"
    text = f"{np.mean(present):.3g}"
    return text if floor is None else f"{text} [{floor:.2g}]"


def comparison_table(runs: list[RunFolder]) -> str:
    """Means over systems with 95 % intervals and rank ranges; ESS, unranked, of those that have weights.

    Where the protocol cuts weights, the ESS of those it leaves: what is printed by that protocol elsewhere.
    """
    name_of_ess = "ess_after_cut" if "cut" in get_protocol(runs[0].plan.protocol).options else "ess"
    found, weights = [compare(runs, metric) for metric in RANKED], compare(runs, name_of_ess)
    lines = [row("sampler", name_of_ess, *RANKED), "|" + "---|" * (len(RANKED) + 2)]
    for name, run in zip(labels(runs), runs, strict=True):
        share = weights.intervals[name]
        weighted = run.plan.estimator not in UNWEIGHTED
        cells = [f"{share.mean:.3g} ({share.low:.3g} to {share.high:.3g})" if weighted else "–"]
        for item in found:
            number = item.intervals[name]
            cells.append(f"{number.mean:.3g} ({number.low:.3g} to {number.high:.3g}), rank {item.rank(name)}")
        lines.append(row(name, *cells))
    return "\n".join(lines)


def with_curves(runs: list[RunFolder]) -> list[RunFolder]:
    """The runs that error against cost is known of."""
    return [run for run in runs if (run.path / "curve.json").is_file()]


def caption(runs: list[RunFolder]) -> str:
    """What the figure shows, and of which runs."""
    names = ", ".join(f"`{name}`" for name in labels(with_curves(runs)))
    return (
        f"Of {names}: error after 100, 1,000 … evaluations up to the budget, mean over cells "
        "(`bgbench curve`); dotted: the floor at that number of frames, at most half of the "
        "reference's. Points are left out while a walk has not moved."
    )


def row(*cells: str) -> str:
    return "| " + " | ".join(cells) + " |"


def rewritten(readme: str, folder: Path, start: str = START, end: str = END) -> str:
    """The README with fresh tables between `start` and `end`."""
    runs = opened(folder)
    text = between(readme, start, end, f"{comparison_table(runs)}\n\n{systems_table(runs)}")
    return between(text, *CAPTION, caption(runs)) if folder == KEPT else text


def between(page: str, start: str, end: str, fresh: str) -> str:
    """The page with `fresh` between its lines `start` and `end`."""
    if start not in page:
        raise SystemExit(f"the page has no place for it; put {start} and {end} there")
    before, _, rest = page.partition(start)
    return f"{before}{start}\n{fresh}\n{end}{rest.partition(end)[2]}"


if __name__ == "__main__":
    for source in sys.argv[1:]:
        take(Path(source))
    draw_curves(with_curves(opened(KEPT)), CURVES, KEPT / "curves.png")
    path = ROOT / "README.md"
    path.write_text(rewritten(path.read_text(), KEPT))
