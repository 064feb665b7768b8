"""`bgbench show|compare|curve|report|replay|verify`: what is done with finished runs."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from bgbench.core.errors import BgbenchError
from bgbench.metrics.names import COMPARED, CURVES

if TYPE_CHECKING:
    from bgbench.runs.runfolder import RunFolder

app = typer.Typer(no_args_is_help=True)
out = Console(highlight=False, markup=False)

RunDir = Annotated[Path, typer.Argument(help="a run folder")]


@app.command()
def show(
    folder: RunDir,
    as_json: Annotated[bool, typer.Option("--json", help="machine-readable")] = False,
) -> None:
    """Print a run's table."""
    from bgbench.cli.display import print_run, run_as_dict
    from bgbench.runs.runfolder import RunFolder

    opened = RunFolder.open(folder)
    records, damaged = opened.readable()
    if as_json:
        sys.stdout.write(json.dumps(run_as_dict(opened), indent=1) + "\n")
    else:
        print_run(opened.path, records, out)
    if damaged:
        raise BgbenchError(f"{damaged[0]}; --resume runs its cell again")


@app.command("compare")
def compare_(
    folders: Annotated[list[Path], typer.Argument(help="run folders of the same suite, protocol and budget")],
    metric: Annotated[list[str] | None, typer.Option(help="repeat for more; default: the distances")] = None,
    figure: Annotated[Path, typer.Option(help="where the figure goes")] = Path("comparison.png"),
) -> None:
    """Compare runs: means with 95 % intervals, rank ranges with ties, paired tests with Holm's correction."""
    from bgbench.cli.display import print_comparison
    from bgbench.reports.compare import compare, draw_comparison
    from bgbench.runs.runfolder import RunFolder

    opened = [RunFolder.open(folder) for folder in folders]
    names = metric or list(COMPARED)
    found = [compare(opened, name) for name in names]
    for comparison in found:
        print_comparison(comparison, out)
    print_break_even(opened, names)
    out.print(f"figure: {draw_comparison(found, figure)}", soft_wrap=True)


def print_break_even(folders: "list[RunFolder]", metrics: list[str]) -> None:
    """A line for each trained sampler beside each untrained one; no line where nobody was trained."""
    from bgbench.reports.breakeven import break_even

    metric = CURVES[0] if CURVES[0] in metrics else metrics[-1]
    try:
        pairs = break_even(folders, metric)
    except BgbenchError as error:
        out.print(f"  no break-even numbers: {error}", soft_wrap=True)
        return
    for found in pairs:
        out.print(f"  {found.sentence}", soft_wrap=True)


@app.command()
def curve(
    folders: Annotated[list[Path], typer.Argument(help="run folders of the same suite, protocol and budget")],
    metric: Annotated[list[str] | None, typer.Option(help="repeat for more")] = None,
    figure: Annotated[Path, typer.Option(help="where the figure goes")] = Path("curves.png"),
) -> None:
    """Draw error against evaluations and seconds, from the stored samples of finished runs."""
    draw(folders, metric, figure, quiet=False)


def draw(folders: list[Path], metrics: list[str] | None, figure: Path, quiet: bool) -> None:
    """Draw the curves of runs and, unless quiet, print them."""
    from bgbench.cli.display import print_curve
    from bgbench.reports.curves import curve as scored
    from bgbench.reports.curves import draw_curves
    from bgbench.runs.runfolder import RunFolder

    names = metrics or list(CURVES)
    opened = [RunFolder.open(folder) for folder in folders]
    drawn = draw_curves(opened, names, figure)
    if quiet:
        return
    for folder in opened:
        print_curve(folder, scored(folder), names, out)
    out.print(f"figure: {drawn}", soft_wrap=True)


@app.command()
def report(
    folders: Annotated[list[Path], typer.Argument(help="run folders")],
    target: Annotated[Path, typer.Option("--out", help="the page to write")] = Path("report.html"),
) -> None:
    """Write one self-contained HTML page of runs: tables, figures, ledgers, provenance."""
    from bgbench.reports.page import write_report
    from bgbench.runs.runfolder import RunFolder

    out.print(
        f"report: {write_report([RunFolder.open(folder) for folder in folders], target)}", soft_wrap=True
    )


@app.command()
def replay(folder: RunDir) -> None:
    """Recompute every metric of a run from its stored arrays and compare with its records."""
    from bgbench.reports.replay import replay as judge_again
    from bgbench.reports.replay import verify
    from bgbench.runs.runfolder import RunFolder

    opened = RunFolder.open(folder)
    wrong = verify(opened)
    if wrong:
        raise BgbenchError(wrong[0])
    differences = judge_again(opened)
    for found in differences:
        out.print(
            f"{found.cell}: {found.metric} is recorded as {found.recorded}, recomputed {found.recomputed}"
        )
    if differences:
        raise typer.Exit(1)
    out.print(f"{folder}: every metric of {len(opened.records())} records is as recorded")


@app.command()
def verify(folder: RunDir) -> None:
    """Check every record and the hash of every array file. Exit code 1 if one is wrong."""
    from bgbench.reports.replay import verify as check
    from bgbench.runs.runfolder import RunFolder

    opened = RunFolder.open(folder)
    wrong = check(opened)
    for sentence in wrong:
        out.print(sentence, soft_wrap=True)
    if wrong:
        raise typer.Exit(1)
    records = opened.records()
    arrays = sum(record.arrays is not None for record in records)
    out.print(f"{folder}: {len(records)} records and {arrays} array files are as they were written")
