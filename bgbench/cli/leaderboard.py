"""`bgbench leaderboard …`: submit, validate, accept, withdraw, reproduce, build and serve."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from bgbench.cli.commands import App
from bgbench.core.errors import BgbenchError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from bgbench.authoring.check import CheckReport
    from bgbench.leaderboard.problems import Problem

app = App(help="Publish runs, check submissions, show the board.", no_args_is_help=True)
out = Console(highlight=False, markup=False)
err = Console(stderr=True, highlight=False, markup=False)

BOARD = Path("leaderboard")
Board = Annotated[Path, typer.Option("--board", help="folder with records/ and ledger/")]
Elsewhere = Annotated[
    Path | None,
    typer.Option(
        "--arrays", help="folder of arrays that were downloaded by hand; default: those in the entry"
    ),
]
Quiet = Annotated[bool, typer.Option("--quiet", help="print nothing but errors")]


@app.command(example="bgbench leaderboard submit runs/mine --author 'A. Author'")
def submit(
    runs: Annotated[
        list[Path], typer.Argument(help="finished run folders; runs of one suite share their noise floors")
    ],
    to: Annotated[Path, typer.Option("--to", help="folder in which the submission folder is made")] = BOARD
    / "records",
    name: Annotated[
        str, typer.Option(help="name of the entry; default: made from sampler, suite and budget")
    ] = "",
    author: Annotated[
        list[str] | None, typer.Option(help="who publishes, always needed; repeat for more; no default")
    ] = None,
    licence: Annotated[
        str, typer.Option(help="SPDX name of the licence of records and arrays")
    ] = "CC-BY-4.0",
    pin: Annotated[
        str, typer.Option(help="what to install with pip; default: the plugin's distribution and version")
    ] = "",
    source: Annotated[str, typer.Option(help="https address of the code of the sampler; default: none")] = "",
    note: Annotated[str, typer.Option(help="a sentence to show beside the entry; default: none")] = "",
    title: Annotated[
        str, typer.Option(help="a name for people, shown beside the entry's own; default: none")
    ] = "",
    control: Annotated[
        bool, typer.Option("--control", help="the entry is a yardstick, never ranked; controls always are")
    ] = False,
    owner: Annotated[
        list[str] | None,
        typer.Option(
            help="account whose pull requests may change the entry later; repeat for more; default: "
            "maintainers' alone"
        ),
    ] = None,
    arrays_url: Annotated[
        str,
        typer.Option(
            help="https folder of the arrays, if they are too large; default: they are in the submission"
        ),
    ] = "",
    no_arrays: Annotated[
        bool, typer.Option("--no-arrays", help="submit no arrays: the entry stays in the tier 'reported'")
    ] = False,
    check: Annotated[
        bool, typer.Option("--check", help="run `bgbench check` on the sampler, and submit its report too")
    ] = False,
    quiet: Quiet = False,
) -> None:
    """Pack runs into folders for a pull request, check them, and list what will be public.

    The options hold for all runs. If one run is refused, the others are packed all the same.
    """
    from bgbench.cli.progress import steps
    from bgbench.leaderboard.submit import public
    from bgbench.leaderboard.submit import submit as pack

    if not author:
        raise BgbenchError("name who publishes: --author 'NAME'; repeat for more")
    if no_arrays and arrays_url:
        raise BgbenchError("--no-arrays and --arrays-url exclude each other; leave one of them out")
    if name and len(runs) > 1:
        raise BgbenchError(f"--name {name} is for one run, not for {len(runs)}; leave it out")
    where = "" if no_arrays else arrays_url or None
    terms: dict[str, Any] = {"authors": author, "licence": licence, "source": source, "note": note}
    terms["title"] = title
    terms["owners"] = owner or []
    terms |= {key: value for key, value in (("name", name), ("pin", pin), ("control", control)) if value}
    n_refused = 0
    for run in runs:
        try:
            with steps(err, "checking", quiet) as begin:
                packed = pack(run, to, terms, where, begin, checked(run, begin) if check else None)
        except BgbenchError as error:
            err.print(f"bgbench: {run}: {error}", soft_wrap=True)
            n_refused += 1
            continue
        if quiet:
            continue
        out.print(f"packed: {packed.folder}; this will be public:", soft_wrap=True)
        for line in public(packed):
            out.print(f"  {line}", soft_wrap=True)
    if n_refused:
        raise typer.Exit(2)


def checked(run: Path, begin: "Callable[[str], None]") -> "CheckReport":
    """The report of `bgbench check` on the sampler of a run, with the options that it had there."""
    from bgbench.runs.runfolder import RunFolder
    from bgbench.testing import check

    cell = RunFolder.open(run).plan.cells[0]
    options = {name: str(value) for name, value in cell.options.items()}
    report = check(cell.sampler, kind="samplers", options=options, advanced=begin)
    for finding in report.failed:
        err.print(f"bgbench: {run}: a law does not hold: {finding.topic}: {finding.message}", soft_wrap=True)
    return report


@app.command(example="bgbench leaderboard validate leaderboard --against base")
def validate(
    folder: Annotated[Path, typer.Argument(help="a submission, or a board with records/")] = BOARD,
    against: Annotated[
        Path | None,
        typer.Option(
            help="the board before the change: no entry may vanish or be renamed; default: not compared"
        ),
    ] = None,
    arrays: Elsewhere = None,
    by: Annotated[
        str,
        typer.Option(
            help="with --against: account that proposes the change; others' entries are not its; default: "
            "a maintainer"
        ),
    ] = "",
    quiet: Quiet = False,
) -> None:
    """Compute everything that can be computed again with trusted code. The exit code is 1 if it differs."""
    from bgbench.cli.progress import steps
    from bgbench.leaderboard.board import validate_board
    from bgbench.leaderboard.folders import PLAN
    from bgbench.leaderboard.problems import printable
    from bgbench.leaderboard.validate import validate as check

    single = (folder / PLAN).is_file()
    if not single and not (folder / "records").is_dir():
        raise BgbenchError(f"{folder} is neither a submission (run.json) nor a board (records/)")
    with steps(err, "validating", quiet) as begin:
        if not single:
            problems_of = validate_board(folder, against, arrays, begin, by)
        else:
            validation = check(folder, arrays, begin)
            problems_of = {folder.name: validation.problems}
    for name, problems in problems_of.items():
        if problems or not quiet:
            out.print(f"{printable(name)}: {'refused' if problems else 'sound'}", soft_wrap=True)
        print_problems(problems)
    if single and validation.verdict is not None and not quiet:
        verdict = validation.verdict
        out.print(f"  {verdict.tier}; {verdict.energies:,} energies computed again")
    if any(problems_of.values()):
        raise typer.Exit(1)


def print_problems(problems: "Iterable[Problem]") -> None:
    """Print a line for each problem."""
    for problem in problems:
        out.print(f"  {problem}", soft_wrap=True)


@app.command(example="bgbench leaderboard accept leaderboard/records/mine")
def accept(
    folders: Annotated[list[Path], typer.Argument(help="submissions")],
    board: Board = BOARD,
    why: Annotated[
        str, typer.Option(help="what changed, for an entry that is on the board already; default: nothing")
    ] = "",
    arrays: Elsewhere = None,
    quiet: Quiet = False,
) -> None:
    """Validate submissions, add them to the board, and write their scores into its ledger."""
    from bgbench.cli.progress import steps
    from bgbench.leaderboard.board import accept as accept_one

    with steps(err, "validating", quiet) as begin:
        events = [(folder.name, accept_one(folder, board, why, arrays, begin)) for folder in folders]
    for name, event in [] if quiet else events:
        line = (
            f"{event.kind}, version {event.version}, {event.tier}"
            if event
            else "is on the board already, unchanged"
        )
        out.print(f"{name}: {line}", soft_wrap=True)


@app.command(example="bgbench leaderboard withdraw mine --why 'a bug in log q'")
def withdraw(
    name: Annotated[str, typer.Argument(help="an entry")],
    why: Annotated[str, typer.Option(help="the reason, which stays in the ledger")],
    board: Board = BOARD,
) -> None:
    """Take an entry off the board; the ledger keeps that it was there, and the reason."""
    from bgbench.leaderboard.board import withdraw as withdraw_one

    event = withdraw_one(name, board, why)
    out.print(f"{name}: {event.kind}, {event.why}", soft_wrap=True)


@app.command(example="bgbench leaderboard reproduce mine")
def reproduce(
    name: Annotated[str, typer.Argument(help="an entry")],
    run: Annotated[
        Path | None, typer.Option(help="the run on fresh seeds; default: print the command that makes it")
    ] = None,
    board: Board = BOARD,
    device: Annotated[
        str | None,
        typer.Option(
            help="the --device of the command that is printed: auto, cpu, cuda or cuda:K; default: none"
        ),
    ] = None,
) -> None:
    """Compare an entry with a maintainer's own run on fresh seeds, and raise its tier.

    The seeds are fixed after the submission.
    """
    from bgbench.core.devices import refuse_unknown_device
    from bgbench.leaderboard.entries import open_entry
    from bgbench.leaderboard.reproduce import fresh_seed
    from bgbench.leaderboard.reproduce import reproduce as compare

    if device is not None:
        refuse_unknown_device(device)
        if run is not None:
            raise BgbenchError(
                "--device is for a run to be made, and --run names a finished one; leave one out"
            )
    if run is None:
        command = open_entry(board / "records" / name).command
        if device is not None:
            command += f" --device {device}"
        out.print(f"{command} --first-seed {fresh_seed()} --out runs/again", soft_wrap=True)
        return
    verdict = compare(name, board, run)
    gaps = ", ".join(f"{metric} {value:+.1f}" for metric, value in verdict.reproduction.items())
    out.print(f"{name}: {verdict.tier}; differences in standard errors: {gaps}", soft_wrap=True)


@app.command(example="bgbench leaderboard build --out site")
def build(
    target: Annotated[Path, typer.Option("--out", help="folder of the site")] = Path("site"),
    board: Board = BOARD,
    url: Annotated[
        str, typer.Option(help="its future address, for the links of the feed; default: none")
    ] = "",
    quiet: Quiet = False,
) -> None:
    """Build the pages of the board: static files that load nothing from other hosts."""
    from bgbench.cli.progress import steps
    from bgbench.leaderboard.site import build as build_site

    if not board.is_dir():
        raise BgbenchError(f"{board} holds no board; name its folder with --board")
    with steps(err, "building", quiet) as begin:
        page = build_site(board, target, url, begin)
    if not quiet:
        out.print(f"site: {page}; look at it with `bgbench leaderboard serve {target}`", soft_wrap=True)


@app.command(example="bgbench leaderboard serve site")
def serve(
    site: Annotated[Path, typer.Argument(help="a built site")] = Path("site"),
    port: Annotated[int, typer.Option(help="port; 0: any free one")] = 8000,
) -> None:
    """Serve a built site to this machine only (127.0.0.1), until Ctrl-C."""
    from bgbench.leaderboard.serve import server

    with server(site, port) as running:
        out.print(f"http://127.0.0.1:{running.server_port}/ shows {site}; stop with Ctrl-C", soft_wrap=True)
        running.serve_forever()
