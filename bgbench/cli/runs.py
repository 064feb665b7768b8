"""`bgbench show`, `compare`, `curve`, `report`, `results`, `export`, `figures`, `replay` and `verify`, the
commands on finished runs; and `score`, which makes a run of samples that are there.
"""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer
from rich.console import Console

from bgbench.cli.commands import App
from bgbench.core.errors import BgbenchError
from bgbench.metrics.names import CURVES

if TYPE_CHECKING:
    from bgbench.runs.runfolder import RunFolder

app = App(no_args_is_help=True)
out = Console(highlight=False, markup=False)
err = Console(stderr=True, highlight=False, markup=False)

RunDir = Annotated[Path, typer.Argument(help="a run folder")]
LikeRuns = Annotated[list[Path], typer.Argument(help="run folders of the same suite, protocol and budget")]


@app.command(example="bgbench show runs/mine --json")
def show(
    folder: RunDir,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
) -> None:
    """Print the table of a run."""
    from bgbench.cli.display import print_run, run_as_dict
    from bgbench.runs.runfolder import RunFolder

    run = RunFolder.open(folder)
    records, damaged = run.readable()
    if as_json:
        sys.stdout.write(json.dumps(run_as_dict(run), indent=1) + "\n")
    else:
        print_run(run.path, records, out)
    if damaged:
        raise BgbenchError(f"{damaged[0]}; --resume runs its cell again")


@app.command("compare", example="bgbench compare runs/verse runs/md --metric torus_w2")
def compare_(
    folders: LikeRuns,
    metric: Annotated[
        list[str] | None,
        typer.Option(help="a metric; repeat for more; default: the headline of the protocol"),
    ] = None,
    figure: Annotated[Path, typer.Option(help="file of the figure")] = Path("comparison.png"),
) -> None:
    """Compare runs: means with 95 % intervals, ranges of ranks, paired tests with Holm's correction."""
    from bgbench.cli.display import print_comparison
    from bgbench.evaluation.protocols import get_protocol
    from bgbench.reports.comparability import caveats, comparability_of
    from bgbench.reports.compare import compare, draw_comparison, labels
    from bgbench.runs.runfolder import RunFolder

    runs = [RunFolder.open(folder) for folder in folders]
    names = metric or list(get_protocol(runs[0].plan.protocol, runs[0].path).headline)
    comparisons = [compare(runs, name) for name in names]
    out.print(comparability_of(runs[0]).title, soft_wrap=True)
    for comparison in comparisons:
        print_comparison(comparison, out)
    sentences = [sentence for item in comparisons for sentence in (item.ranking, item.untested) if sentence]
    sentences += caveats(dict(zip(labels(runs), runs, strict=True)))
    for sentence in dict.fromkeys(sentences):
        out.print(f"  {sentence}", soft_wrap=True)
    print_break_even(runs, names)
    out.print(f"figure: {draw_comparison(comparisons, figure)}", soft_wrap=True)


def print_break_even(runs: "list[RunFolder]", metrics: list[str]) -> None:
    """A line for each pair of a trained and an untrained sampler; none where no sampler was trained."""
    from bgbench.cli.progress import steps
    from bgbench.reports.breakeven import break_even

    metric = CURVES[0] if CURVES[0] in metrics else metrics[-1]
    try:
        with steps(err, "scoring for break-even", quiet=False) as begin:
            pairs = break_even(runs, metric, begin)
    except BgbenchError as error:
        out.print(f"  no break-even numbers: {error}", soft_wrap=True)
        return
    for pair in pairs:
        out.print(f"  {pair.sentence}", soft_wrap=True)


@app.command(example="bgbench score mine.xtc --top mine.pdb")
def score(
    file: Annotated[Path, typer.Argument(help="samples of one peptide: .xtc, .dcd, .npz, .h5 or .pdb")],
    top: Annotated[
        str | None,
        typer.Option(
            help="a .pdb or .h5 file that names the atoms; system: they are in bgbench's order; default: "
            "FILE names them"
        ),
    ] = None,
    system: Annotated[str | None, typer.Option(help="its sequence; default: what the atoms say")] = None,
    log_q: Annotated[
        Path | None, typer.Option(help="log-densities of the samples: .npy or .npz; default: none")
    ] = None,
    weights: Annotated[
        Path | None, typer.Option(help="weights of the samples: .npy or .npz; default: equal")
    ] = None,
    suite: Annotated[
        str | None, typer.Option(help="with the terms to judge by; default: one that lists the peptide")
    ] = None,
    protocol: Annotated[str | None, typer.Option(help="the rules; default: the suite's")] = None,
    out_dir: Annotated[
        Path | None, typer.Option("--out", help="the run folder; default: a new one below runs/")
    ] = None,
) -> None:
    """Judge samples of one peptide that were made elsewhere: a line of metrics beside floors, and figures.

    The exit code is 1 if they cannot be judged.
    """
    from bgbench.api import score as judge_samples
    from bgbench.cli.display import print_score

    result = judge_samples(
        file, top, system=system, log_q=log_q, weights=weights, suite=suite, protocol=protocol, out=out_dir
    )
    print_score(result.folder, result.records[0], out)
    if result.records[0].status != "ok":
        raise typer.Exit(1)


@app.command(example="bgbench results runs/verse runs/md --format latex")
def results(
    folders: Annotated[list[Path], typer.Argument(help="run folders")],
    format: Annotated[
        str, typer.Option(help="csv, parquet or json: a row a cell; latex or markdown: a row a run")
    ] = "csv",
    target: Annotated[Path | None, typer.Option("--out", help="file; default: standard output")] = None,
) -> None:
    """Write the numbers of runs as a table."""
    from typing import get_args

    from bgbench.core.files import atomic_file
    from bgbench.core.options import refuse_unknown_word
    from bgbench.reports.results import Format, write_results
    from bgbench.runs.runfolder import RunFolder

    refuse_unknown_word("--format", format, get_args(Format))
    if target is None and format == "parquet":
        raise BgbenchError("--format parquet is no text; name a file with --out")
    content = write_results([RunFolder.open(folder) for folder in folders], cast(Format, format))
    if target is None:
        sys.stdout.write(content.decode())
        return
    with atomic_file(target) as stream:
        stream.write(content)
    out.print(f"results: {target}", soft_wrap=True)


@app.command(example="bgbench export runs/mine AA --format xtc")
def export(
    folder: RunDir,
    system: Annotated[str, typer.Argument(help="a system of the run")],
    format: Annotated[str, typer.Option(help="xtc, pdb or h5")] = "xtc",
    seed: Annotated[int | None, typer.Option(help="seed of the cell; default: the first")] = None,
    resample: Annotated[
        int | None,
        typer.Option(help="draw so many frames by their weights; default: all, with a file of weights"),
    ] = None,
    target: Annotated[
        Path | None, typer.Option("--out", help="folder; default: exports/ in the run folder")
    ] = None,
) -> None:
    """Write the conformers of a cell as a trajectory for other programs, its topology beside it."""
    from typing import get_args

    from bgbench.core.options import refuse_unknown_word
    from bgbench.reports.exports import Format
    from bgbench.reports.exports import export as write_frames
    from bgbench.runs.runfolder import RunFolder

    refuse_unknown_word("--format", format, get_args(Format))
    run = RunFolder.open(folder)
    files = write_frames(run, system, cast(Format, format), seed=seed, resample=resample, target=target)
    out.print(f"{files.n_samples:,} frames: {files.frames}; atoms: {files.topology}", soft_wrap=True)
    if files.weights is not None:
        out.print(f"weights: {files.weights}", soft_wrap=True)


@app.command(example="bgbench figures runs/mine --format pdf")
def figures(
    folder: RunDir,
    format: Annotated[str, typer.Option(help="png, svg or pdf")] = "svg",
    only: Annotated[
        list[str] | None, typer.Option(help="only this system; repeat for more; default: all")
    ] = None,
    target: Annotated[
        Path | None, typer.Option("--out", help="folder; default: figures/ in the run folder")
    ] = None,
) -> None:
    """Draw the figures of a run's cells again, as SVG or PDF for papers."""
    from typing import get_args

    from bgbench.core.options import describe_known, refuse_unknown_word
    from bgbench.reports.figures import draw_cell
    from bgbench.reports.saving import Format
    from bgbench.runs.runfolder import RunFolder

    refuse_unknown_word("--format", format, get_args(Format))
    run = RunFolder.open(folder)
    records = [record for record in run.records() if record.status == "ok"]
    known = dict.fromkeys(record.cell.system for record in records)
    for name in only or ():
        if name not in known:
            raise BgbenchError(f"--only {name}: no finished cell of {folder}{describe_known(name, known)}")
    for record in records:
        if not only or record.cell.system in only:
            for path in draw_cell(run, record, target, cast(Format, format)):
                out.print(str(path), soft_wrap=True)


@app.command(example="bgbench curve runs/verse runs/md --figure curves.svg")
def curve(
    folders: LikeRuns,
    metric: Annotated[
        list[str] | None, typer.Option(help="a metric; repeat for more; default: torus_w2 and energy_w2")
    ] = None,
    figure: Annotated[Path, typer.Option(help="file of the figure")] = Path("curves.png"),
) -> None:
    """Draw error against evaluations and seconds, from the stored samples of finished runs."""
    draw(folders, metric, figure, quiet=False)


def draw(folders: list[Path], metrics: list[str] | None, figure: Path, quiet: bool) -> None:
    """Draw the curves of runs and, unless quiet, show how far that is and print them."""
    from bgbench.cli.display import print_curve
    from bgbench.cli.progress import steps
    from bgbench.reports.compare import labels
    from bgbench.reports.curves import curve as points_of
    from bgbench.reports.curves import draw_curves, steps_of
    from bgbench.runs.runfolder import RunFolder

    names = metrics or list(CURVES)
    runs = [RunFolder.open(folder) for folder in folders]
    with steps(err, "scoring", quiet, sum(map(steps_of, runs))) as begin:
        path = draw_curves(runs, names, figure, begin)
    if quiet:
        return
    for label, run in zip(labels(runs), runs, strict=True):
        print_curve(label, points_of(run), names, out)
    out.print(f"figure: {path}", soft_wrap=True)


@app.command(example="bgbench report runs/verse runs/md --out report.html")
def report(
    folders: Annotated[list[Path], typer.Argument(help="run folders")],
    target: Annotated[Path, typer.Option("--out", help="file of the page")] = Path("report.html"),
) -> None:
    """Write one self-contained HTML page of runs: tables, figures, evaluations by phase, provenance."""
    from bgbench.cli.progress import steps
    from bgbench.reports.curves import steps_of
    from bgbench.reports.page import write_report
    from bgbench.runs.runfolder import RunFolder

    runs = [RunFolder.open(folder) for folder in folders]
    with steps(err, "scoring", quiet=False, total=sum(map(steps_of, runs))) as begin:
        page = write_report(runs, target, begin)
    out.print(f"report: {page}", soft_wrap=True)


@app.command(example="bgbench replay runs/mine")
def replay(folder: RunDir) -> None:
    """Compute every metric of a run again from its stored arrays, and compare it with the records.

    The exit code is 1 if one differs.
    """
    from bgbench.reports.replay import replay as differences_of
    from bgbench.reports.replay import verify as errors_in
    from bgbench.runs.runfolder import RunFolder

    run = RunFolder.open(folder)
    errors = errors_in(run)
    if errors:
        raise BgbenchError(errors[0])
    differences = differences_of(run)
    for difference in differences:
        out.print(
            f"{difference.cell}: {difference.metric} is recorded as {difference.recorded}, recomputed "
            f"{difference.recomputed}"
        )
    if differences:
        raise typer.Exit(1)
    out.print(f"{folder}: every metric of {len(run.records())} records is as recorded")


@app.command(example="bgbench verify runs/mine")
def verify(folder: RunDir) -> None:
    """Check that every record is valid and that every array file has its recorded hash.

    The exit code is 1 if one is wrong.
    """
    from bgbench.reports.replay import verify as errors_in
    from bgbench.runs.runfolder import RunFolder

    run = RunFolder.open(folder)
    errors = errors_in(run)
    for error in errors:
        out.print(error, soft_wrap=True)
    if errors:
        raise typer.Exit(1)
    records = run.records()
    arrays = sum(record.arrays is not None for record in records)
    out.print(f"{folder}: {len(records)} records and {arrays} array files are as they were written")
    missing = len(run.plan.cells) - len(records)
    if missing:
        out.print(f"{missing} of {len(run.plan.cells)} cells have no record yet; --resume runs them")
