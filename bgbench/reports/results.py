"""Results of runs as tables: a row a cell for analysis, or a row a run for papers."""

import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from bgbench.evaluation.protocols import get_protocol
from bgbench.reports.compare import labels
from bgbench.reports.headings import heading, means_something, value_of
from bgbench.reports.statistics import Interval, interval
from bgbench.runs.records import Record
from bgbench.runs.runfolder import RunFolder

if TYPE_CHECKING:
    from pandas import DataFrame

Format = Literal["csv", "parquet", "json", "latex", "markdown"]
"""What results can be written as: the first three have a row a cell, the others a row a run."""

LATEX = {"↑": r"$\uparrow$", "↓": r"$\downarrow$", "_": r"\_", "%": r"\%", "&": r"\&", "#": r"\#"}
"""What LaTeX writes otherwise."""


def frame_of(runs: Sequence[RunFolder]) -> "DataFrame":
    """A row for each record: what determines the cell, how it ended, and every number.

    Args:
        runs: of any suites, protocols and budgets.

    Returns:
        Columns `run`, `sampler`, `estimator`, `protocol`, `suite`, `system`, `seed`, `budget`, `temperature`,
        `options`, `status`, `error`, `evaluations`, `seconds`, `grade`, `leakage`, `run_here`, and for each
        metric NAME `NAME`, `floor.NAME` and `skill.NAME`; NaN where a record lacks one.

    Raises:
        BgbenchError: for a damaged record.
    """
    import pandas

    rows = [
        row_of(label, record)
        for label, run in zip(labels(runs), runs, strict=True)
        for record in run.records()
    ]
    columns = dict.fromkeys(name for row in rows for name in row)
    return pandas.DataFrame(rows, columns=[*columns])


def row_of(run: str, record: Record) -> dict[str, Any]:
    """A record as a row of `frame_of`."""
    cell = record.cell
    options = {**cell.options, **{f"estimator.{name}": word for name, word in cell.estimator_options.items()}}
    return {
        "run": run,
        "sampler": cell.sampler,
        "estimator": cell.estimator,
        "protocol": cell.protocol,
        "suite": cell.suite,
        "system": cell.system,
        "seed": cell.seed,
        "budget": cell.budget,
        "temperature": cell.temperature,
        "options": " ".join(f"{name}={word}" for name, word in options.items()),
        "status": record.status,
        "error": record.error,
        "evaluations": record.budget.used,
        "seconds": record.seconds.get("total"),
        "grade": str(record.reference.get("grade", "")),
        "leakage": record.leakage,
        "run_here": bool(record.card.get("run_here", True)),
        **{name: _number(value_of(record, name)) for name in record.metrics},
        **{f"floor.{name}": _number(value) for name, value in record.floors.items()},
        **{f"skill.{name}": _number(value) for name, value in record.skills.items()},
    }


def _number(value: float | None) -> float:
    return np.nan if value is None else float(value)


def summary_of(runs: Sequence[RunFolder]) -> tuple[list[str], list[list[str]]]:
    """Heads and rows of a table for papers: a row a run, means over systems with 95 % intervals.

    A last row has the noise floors. Metrics are those of the protocol's headline. A run with cells that
    failed or are missing has a mean over the others, and says how many they are.

    Raises:
        BgbenchError: for a damaged record.
    """
    names = list(get_protocol(runs[0].plan.protocol, runs[0].path).headline)
    rows, floors = [], dict[str, list[float]]()
    for label, run in zip(labels(runs), runs, strict=True):
        finished = [record for record in run.records() if record.status == "ok"]
        cells = f"{len(finished)} of {len(run.plan.cells)}"
        texts = []
        for name in names:
            values = table_of(finished, {r.cell.name: r.metrics.get(name) for r in finished})
            known = means_something(name, run.plan.estimator) and bool(np.isfinite(values).any())
            texts.append(_text(interval(values[np.isfinite(values).any(1)])) if known else "–")
            own = [floor for record in finished if (floor := record.floors.get(name)) is not None]
            floors.setdefault(name, []).extend(own)
        rows.append([label, run.plan.estimator, cells, *texts])
    lowest = [f"{np.mean(floors[name]):.3g}" if floors.get(name) else "–" for name in names]
    rows.append(["noise floor", "–", "–", *lowest])
    return ["sampler", "estimator", "cells", *map(heading, names)], rows


def table_of(records: Sequence[Record], values: Mapping[str, float | None]) -> np.ndarray:
    """`(systems, seeds)` of a number of each cell; NaN where there is none."""
    systems = list(dict.fromkeys(record.cell.system for record in records))
    seeds = sorted({record.cell.seed for record in records})
    table = np.full((len(systems), len(seeds)), np.nan)
    for record in records:
        place = systems.index(record.cell.system), seeds.index(record.cell.seed)
        table[place] = _number(values[record.cell.name])
    return table


def _text(value: Interval) -> str:
    ends = value.ends("{:.3g}".format)
    return f"{value.mean:.3g} ({ends})" if ends else f"{value.mean:.3g}"


def write_results(runs: Sequence[RunFolder], format: Format) -> bytes:
    """The results of runs in a format.

    Args:
        runs: one or more.
        format: `csv`, `parquet` and `json` have a row a cell (`frame_of`), `latex` and `markdown` a row a run
            (`summary_of`).

    Returns:
        The file's contents.

    Raises:
        BgbenchError: for a damaged record.
    """
    if format in ("latex", "markdown"):
        heads, rows = summary_of(runs)
        return (as_latex(heads, rows) if format == "latex" else as_markdown(heads, rows)).encode()
    frame = frame_of(runs)
    if format == "parquet":
        stream = io.BytesIO()
        frame.to_parquet(stream, index=False)
        return stream.getvalue()
    if format == "json":
        return (frame.to_json(orient="records", indent=1, double_precision=15) + "\n").encode()
    return frame.to_csv(index=False).encode()


def as_markdown(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown.

    >>> print(as_markdown(["sampler", "ess ↑"], [["a|b", "0.5"]]), end="")
    | sampler | ess ↑ |
    |---|---|
    | a\\|b | 0.5 |
    """
    lines = [[cell.replace("|", r"\|") for cell in row] for row in (heads, *rows)]
    body = [f"| {' | '.join(line)} |" for line in lines]
    return "\n".join([body[0], "|---" * len(heads) + "|", *body[1:]]) + "\n"


def as_latex(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    r"""A table in LaTeX, for the package booktabs.

    >>> print(as_latex(["sampler", "torus_w2 ↓"], [["md", "0.5"]]), end="")
    \begin{tabular}{lr}
    \toprule
    sampler & torus\_w2 $\downarrow$ \\
    \midrule
    md & 0.5 \\
    \bottomrule
    \end{tabular}
    """
    lines = [" & ".join(_escaped(cell) for cell in row) + r" \\" for row in (heads, *rows)]
    columns = "l" + "r" * (len(heads) - 1)
    return "\n".join(
        [
            rf"\begin{{tabular}}{{{columns}}}",
            r"\toprule",
            lines[0],
            r"\midrule",
            *lines[1:],
            r"\bottomrule",
            r"\end{tabular}",
            "",
        ]
    )


def _escaped(text: str) -> str:
    return "".join(LATEX.get(character, character) for character in text.replace("–", "--"))
