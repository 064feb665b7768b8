"""Write the page of results from the runs kept in `benchmarks/results/`, and draw their curves.

`python benchmarks/results.py` writes tables and figure from the kept runs; with run folders as arguments it
first keeps those. A kept run is one file `NAME.jsonl` with the plan, the curve and every record, but no
arrays; `bgbench show`, `compare`, `curve` and `report` read it like a run folder.
"""

import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from bgbench.evaluation.protocols import get_protocol
from bgbench.metrics.names import CURVES, HEADLINE, RANKED
from bgbench.reports.comparability import comparability_of
from bgbench.reports.compare import compare, labels
from bgbench.reports.curves import curve, draw_curves
from bgbench.reports.headings import Trust, effective_points, forward_ess, value_of
from bgbench.reports.statistics import Interval
from bgbench.runs.runfolder import RunFolder
from bgbench.runs.stores import SUFFIX

ROOT = Path(__file__).parent.parent
KEPT = ROOT / "benchmarks" / "results"
PAGES = ROOT / "docs" / "results"
"""Pages of the book that hold tables, each between a line that names its command and one that ends it."""
CAPTION = "<!-- curves -->", "<!-- /curves -->"
START, END = "<!-- results: python benchmarks/results.py -->", "<!-- /results -->"
HEADS = ("ess ↑", "energy_w2 (kT) ↓", "torus_w2 (rad) ↓", "tica_w2 ↓", "mode_weights ↓", "validity ↑")


def command_line(sampler: str, choices: Mapping[str, Any]) -> str:
    """`bgbench.run(sampler, **choices)` as a shell command."""
    words = ["bgbench", "run", sampler]
    for name, value in choices.items():
        if name == "options":
            words += [word for setting in value.items() for word in ("--set", "=".join(setting))]
        elif name == "only":
            words += [word for system in value for word in ("--only", system)]
        else:
            option = f"--{name.replace('_', '-')}"
            words += [option] if value is True else [option, str(value)]
    return shlex.join(words)


def open_runs(folder: Path) -> list[RunFolder]:
    """The runs kept in `folder`, by name."""
    return [RunFolder.open(path) for path in sorted(folder.glob(f"*{SUFFIX}"), key=lambda path: path.stem)]


def keep_run(source: Path, folder: Path = KEPT) -> None:
    """Keep plan, curve and records of the run folder `source` in `folder`, over the run of that name."""
    run = RunFolder.open(source)
    curve(run)
    run.keep(folder / f"{source.name}{SUFFIX}")


def systems_table(runs: list[RunFolder]) -> str:
    """Every system of every run: means over seeds, floors in brackets."""
    heads = ("sampler", "system", "grade", *HEADS, "k̂ ↓", "n_eff ↑", "forward ess ↑")
    lines = [row(*heads), "|" + "---|" * len(heads)]
    for name, run in zip(labels(runs), runs, strict=True):
        all_records = run.records()
        for system in dict.fromkeys(cell.system for cell in run.plan.cells):
            records = [record for record in all_records if record.cell.system == system]
            values = [
                mean_text([value_of(r, m) for r in records], records[0].floors.get(m)) for m in HEADLINE
            ]
            values += [
                mean_text([value_of(r, "pareto_k") for r in records], None),
                mean_text([effective_points(r) for r in records], None),
                mean_text([forward_ess(r) for r in records], None),
            ]
            lines.append(row(name, system, str(records[0].reference.get("grade", "–")), *values))
    return "\n".join(lines)


def mean_text(values: list[float | None], floor: float | None) -> str:
    """Mean over seeds with its floor; a dash where a seed has none."""
    present = [number for number in values if number is not None]
    if len(present) < len(values):
        return "–"
    text = f"{np.mean(present):.3g}"
    return text if floor is None else f"{text} [{floor:.2g}]"


def comparison_table(runs: list[RunFolder]) -> str:
    """Means over systems with 95 % intervals for new systems and rank ranges, ESS unranked; then the fraction
    of cells with a heavy tail of weights, and medians over cells of effective points and forward ESS.

    Where the protocol cuts weights, it is the ESS of the cut weights, as others print it by that protocol.
    """
    name_of_ess = "ess_after_cut" if get_protocol(runs[0].plan.protocol).cut != "none" else "ess"
    comparisons, weights = [compare(runs, metric) for metric in RANKED], compare(runs, name_of_ess)
    heads = ("sampler", name_of_ess, *RANKED, "k̂ > .7", "n_eff", "forward ess")
    lines = [row(*heads), "|" + "---|" * len(heads)]
    for name, run in zip(labels(runs), runs, strict=True):
        cells = [with_interval(weights.intervals[name]) if name in weights.intervals else "–"]
        for item in comparisons:
            rank = f", rank {item.rank(name)}" if name in item.ranks else ""
            cells.append(with_interval(item.intervals[name]) + rank)
        trust = Trust.of(run.records())
        cells += [
            "–" if value is None else form.format(value)
            for value, form in ((trust.heavy, "{:.0%}"), (trust.points, "{:,.0f}"), (trust.forward, "{:.2g}"))
        ]
        lines.append(row(name, *cells))
    # Runs that share a table share their references.
    for sentence in comparability_of(runs[0]).superseded:
        lines += ["", f"These runs were judged by earlier references: {sentence}."]
    return "\n".join(lines)


def with_interval(interval: Interval) -> str:
    """A mean, and its interval in brackets where there is one."""
    ends = interval.ends("{:.3g}".format)
    return f"{interval.mean:.3g} ({ends})" if ends else f"{interval.mean:.3g}"


def with_curves(runs: list[RunFolder]) -> list[RunFolder]:
    """The runs whose curve of error against cost is stored."""
    return [run for run in runs if run.read_curve() is not None]


def caption(runs: list[RunFolder]) -> str:
    """The sentence below the figure of curves."""
    names = ", ".join(f"`{name}`" for name in labels(with_curves(runs)))
    return (
        f"Of {names}: error after 100, 1,000 … evaluations up to the budget, mean over cells "
        "(`bgbench curve`); dotted: the floor at that number of frames, at most half of the "
        "reference's. Points are left out while a walk has not moved."
    )


def row(*cells: str) -> str:
    """A row of a Markdown table."""
    return "| " + " | ".join(cells) + " |"


def page_with(start: str) -> Path:
    """The page of results that holds the line `start`.

    Raises:
        SystemExit: if no page or several hold it.
    """
    pages = [path for path in sorted(PAGES.glob("*.md")) if start in path.read_text().splitlines()]
    if not pages:
        raise SystemExit(f"{PAGES} has no place for the table; put {start} on a line of one of its pages")
    if len(pages) > 1:
        raise SystemExit(f"{start} stands in {', '.join(path.name for path in pages)}; leave one of them")
    return pages[0]


def rewrite_page(page: str, folder: Path, start: str = START, end: str = END) -> str:
    """A page with fresh tables between `start` and `end`."""
    runs = open_runs(folder)
    text = replace_between(page, start, end, f"{comparison_table(runs)}\n\n{systems_table(runs)}")
    return replace_between(text, *CAPTION, caption(runs)) if folder == KEPT else text


def replace_between(page: str, start: str, end: str, fresh: str) -> str:
    """The page with `fresh` between its lines `start` and `end`.

    Raises:
        SystemExit: if the page lacks the line `start`.
    """
    if start not in page:
        raise SystemExit(f"the page has no place for the table; put {start} and {end} there")
    before, _, rest = page.partition(start)
    return f"{before}{start}\n{fresh}\n{end}{rest.partition(end)[2]}"


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        keep_run(Path(argument))
    draw_curves(with_curves(open_runs(KEPT)), CURVES, KEPT / "curves.png")
    path = page_with(START)
    path.write_text(rewrite_page(path.read_text(), KEPT))
