"""`bgbench leaderboard …`: submit, validate, accept, build, serve."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from bgbench.core.errors import BgbenchError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from bgbench.leaderboard.problems import Problem

app = typer.Typer(help="Publish runs, check them, show the board.", no_args_is_help=True)
out = Console(highlight=False, markup=False)
err = Console(stderr=True, highlight=False, markup=False)

BOARD = Path("leaderboard")
Board = Annotated[Path, typer.Option("--board", help="folder with records/ and ledger/")]
Elsewhere = Annotated[Path | None, typer.Option("--arrays", help="folder of arrays fetched by hand")]
Quiet = Annotated[bool, typer.Option("--quiet", help="print nothing but errors")]


@app.command()
def submit(
    runs: Annotated[list[Path], typer.Argument(help="finished run folders; of one suite share its floors")],
    to: Annotated[Path, typer.Option("--to", help="where the submission folder goes")] = BOARD / "records",
    name: Annotated[
        str, typer.Option(help="of one run's entry; default: from sampler, suite and budget")
    ] = "",
    author: Annotated[list[str] | None, typer.Option(help="repeat for more")] = None,
    licence: Annotated[str, typer.Option(help="SPDX name, for records and arrays")] = "CC-BY-4.0",
    pin: Annotated[str, typer.Option(help="what to install; default: the plugin's distribution")] = "",
    source: Annotated[str, typer.Option(help="https address of the sampler's code")] = "",
    note: Annotated[str, typer.Option(help="a sentence beside the entry")] = "",
    control: Annotated[
        bool,
        typer.Option(
            "--control", help="a yardstick, never ranked; samplers registered as controls always are"
        ),
    ] = False,
    arrays_url: Annotated[str, typer.Option(help="https folder where the arrays are, for large ones")] = "",
    no_arrays: Annotated[bool, typer.Option("--no-arrays", help="with you, or gone: tier reported")] = False,
    quiet: Quiet = False,
) -> None:
    """Pack runs into folders for a pull request, check them as the board will, and say what gets public.

    Options hold for every run named. One that is refused does not keep the others back.
    """
    from bgbench.cli.progress import steps
    from bgbench.leaderboard.submit import public
    from bgbench.leaderboard.submit import submit as pack

    if not author:
        raise BgbenchError("say who publishes: --author 'NAME'; repeat for more")
    if no_arrays and arrays_url:
        raise BgbenchError("--no-arrays keeps the arrays, --arrays-url says where they are: give one of them")
    if name and len(runs) > 1:
        raise BgbenchError(f"--name {name} is for one run, not for {len(runs)}; leave it out")
    where = "" if no_arrays else arrays_url or None
    said = {"authors": author, "licence": licence, "source": source, "note": note, "control": control}
    named = {key: value for key, value in {"name": name, "pin": pin}.items() if value}
    refused = 0
    for run in runs:
        try:
            with steps(err, "checking", quiet) as told:
                packed = pack(run, to, {**said, **named}, where, told)
        except BgbenchError as error:
            err.print(f"bgbench: {run}: {error}", soft_wrap=True)
            refused += 1
            continue
        if quiet:
            continue
        out.print(f"packed: {packed.folder}; this will be public:", soft_wrap=True)
        for line in public(packed):
            out.print(f"  {line}", soft_wrap=True)
    if refused:
        raise typer.Exit(2)


@app.command()
def validate(
    folder: Annotated[Path, typer.Argument(help="a submission, or a board with records/")] = BOARD,
    against: Annotated[
        Path | None, typer.Option(help="the board as it was: nothing may vanish or move")
    ] = None,
    arrays: Elsewhere = None,
    seed: Annotated[
        int | None, typer.Option(help="chooses the energies looked at; default: nobody knows")
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Recompute everything with trusted code. Exit code 1 if anything is refused."""
    from bgbench.cli.progress import steps
    from bgbench.leaderboard.board import validate_board
    from bgbench.leaderboard.folders import PLAN
    from bgbench.leaderboard.validate import validate as check

    single = (folder / PLAN).is_file()
    if not single and not (folder / "records").is_dir():
        raise BgbenchError(f"{folder} is neither a submission (run.json) nor a board (records/)")
    with steps(err, "validating", quiet) as told:
        if not single:
            found = validate_board(folder, against, arrays, told)
        else:
            validation = check(folder, arrays, seed, told)
            found = {folder.name: validation.problems}
    wrong = [problem for problems in found.values() for problem in problems]
    for name, problems in found.items():
        if problems or not quiet:
            out.print(f"{name}: {'refused' if problems else 'sound'}", soft_wrap=True)
        print_problems(problems)
    if single and validation.verdict is not None and not quiet:
        checked = validation.verdict
        out.print(f"  {checked.tier}; {checked.energies:,} energies again, --seed {validation.seed}")
    if wrong:
        raise typer.Exit(1)


def print_problems(problems: "Iterable[Problem]") -> None:
    """A line for each."""
    for problem in problems:
        out.print(f"  {problem}", soft_wrap=True)


@app.command()
def accept(
    folders: Annotated[list[Path], typer.Argument(help="submissions")],
    board: Board = BOARD,
    why: Annotated[str, typer.Option(help="what changed, for an entry that was there")] = "",
    arrays: Elsewhere = None,
    quiet: Quiet = False,
) -> None:
    """Put validated submissions among the board's entries, and their scores into its ledger."""
    from bgbench.cli.progress import steps
    from bgbench.leaderboard.board import accept as take

    with steps(err, "validating", quiet) as told:
        events = [(folder.name, take(folder, board, why, arrays, told)) for folder in folders]
    for name, event in [] if quiet else events:
        line = f"{event.kind}, version {event.version}, {event.tier}" if event else "is on the board as it is"
        out.print(f"{name}: {line}", soft_wrap=True)


@app.command()
def withdraw(
    name: Annotated[str, typer.Argument(help="an entry")],
    why: Annotated[str, typer.Option(help="stays in the ledger for good")],
    board: Board = BOARD,
) -> None:
    """Take an entry off the board; the ledger keeps that it was there, and why it went."""
    from bgbench.leaderboard.board import withdraw as take_off

    event = take_off(name, board, why)
    out.print(f"{name}: {event.kind}, {event.why}", soft_wrap=True)


@app.command()
def reproduce(
    name: Annotated[str, typer.Argument(help="an entry")],
    run: Annotated[
        Path | None, typer.Option(help="the run on fresh seeds; without it: how to make one")
    ] = None,
    board: Board = BOARD,
) -> None:
    """Compare a maintainer's own run, on seeds fixed after the submission, and raise the entry's tier."""
    from bgbench.leaderboard.entries import open_entry
    from bgbench.leaderboard.reproduce import fresh_seed
    from bgbench.leaderboard.reproduce import reproduce as compare

    if run is None:
        command = open_entry(board / "records" / name).command
        out.print(f"{command} --first-seed {fresh_seed()} --out runs/again", soft_wrap=True)
        return
    verdict = compare(name, board, run)
    gaps = ", ".join(f"{metric} {value:+.1f}" for metric, value in verdict.reproduction.items())
    out.print(f"{name}: {verdict.tier}; standard errors apart: {gaps}", soft_wrap=True)


@app.command()
def build(
    target: Annotated[Path, typer.Option("--out", help="folder of the site")] = Path("site"),
    board: Board = BOARD,
    url: Annotated[str, typer.Option(help="where it will be, for the feed's links")] = "",
    quiet: Quiet = False,
) -> None:
    """Build the board's pages: static files that ask no other host for anything."""
    from bgbench.cli.progress import steps
    from bgbench.leaderboard.site import build as make

    if not board.is_dir():
        raise BgbenchError(f"there is no board in {board}; give its folder with --board")
    with steps(err, "building", quiet) as told:
        page = make(board, target, url, told)
    if not quiet:
        out.print(f"site: {page}; look at it with `bgbench leaderboard serve {target}`", soft_wrap=True)


@app.command()
def serve(
    site: Annotated[Path, typer.Argument(help="a built site")] = Path("site"),
    port: Annotated[int, typer.Option(help="0: any that is free")] = 8000,
) -> None:
    """Show a built site on this machine alone (127.0.0.1), until Ctrl-C."""
    from bgbench.leaderboard.serve import server

    with server(site, port) as running:
        out.print(f"http://127.0.0.1:{running.server_port}/ shows {site}; stop with Ctrl-C", soft_wrap=True)
        running.serve_forever()
