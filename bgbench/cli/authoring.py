"""`bgbench new` and `bgbench check`: a package for a plugin, and the laws on what is installed."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from bgbench.cli.commands import App

if TYPE_CHECKING:
    from bgbench.authoring.check import CheckReport

app = App(no_args_is_help=True)
out = Console(highlight=False, markup=False)
err = Console(stderr=True, highlight=False, markup=False)


@app.command(example="bgbench new sampler my-flow")
def new(
    kind: Annotated[str, typer.Argument(help="sampler, metric, estimator, energy, suite or protocol")],
    name: Annotated[str, typer.Argument(help="of the plugin; its package gets the same name")],
    to: Annotated[Path, typer.Option("--to", help="folder in which the folder NAME is made")] = Path("."),
) -> None:
    """Write a package with one plugin that installs, runs and passes its own tests, to be filled in."""
    from bgbench.authoring.skeletons import write_skeleton

    folder = write_skeleton(kind, name, to)
    out.print(f"written: {folder}; fill in what is marked TODO", soft_wrap=True)
    out.print(f"next: pip install -e {folder} && bgbench check {name}", soft_wrap=True)


@app.command(example="bgbench check my-flow")
def check(
    name: Annotated[
        str, typer.Argument(help="a registered sampler, estimator, metric, energy, suite or protocol")
    ],
    kind: Annotated[
        str,
        typer.Option(
            help="samplers, estimators, … where the name is that of several kinds; default: the only one"
        ),
    ] = "",
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set", help="an option as KEY=VALUE; repeat for more; default: none", metavar="KEY=VALUE"
        ),
    ] = None,
    seconds: Annotated[float, typer.Option(help="after which no further law is begun")] = 60.0,
    as_json: Annotated[bool, typer.Option("--json", help="print the report as JSON, for CI")] = False,
) -> None:
    """Run every law of bgbench against an installed plugin: what fails, why it matters, what to change.

    The exit code is 1 if a law does not hold.
    """
    from bgbench.cli.progress import steps
    from bgbench.core.options import parse_settings
    from bgbench.testing import check as check_installed

    with steps(err, "checking", quiet=as_json) as begin:
        report = check_installed(
            name, kind=kind, options=parse_settings(settings), seconds=seconds, advanced=begin
        )
    if as_json:
        sys.stdout.write(report.model_dump_json(indent=1) + "\n")
    else:
        print_check(report)
    if not report.passed:
        raise typer.Exit(1)


def print_check(report: "CheckReport") -> None:
    """A line for each law; below those that do not hold, why it matters and what to change."""
    signs = {"passed": "ok", "failed": "FAILED", "skipped": "skipped"}
    causes: dict[str, str] = {}
    for finding in report.findings:
        law = finding.law.removeprefix("test_").replace("_", " ")
        line = f"{signs[finding.verdict]:8}{finding.topic}: {law}"
        if finding.verdict == "skipped":
            out.print(f"{line} ({finding.message})", soft_wrap=True)
            continue
        out.print(line, soft_wrap=True)
        if finding.verdict == "passed":
            continue
        if finding.message in causes:
            out.print(f"          as {causes[finding.message]}", soft_wrap=True)
            continue
        causes[finding.message] = law
        out.print(f"          what: {finding.message}", soft_wrap=True)
        out.print(f"          why it matters: {finding.why}", soft_wrap=True)
        out.print(f"          what to change: {finding.change}", soft_wrap=True)
    made = [finding for finding in report.findings if finding.verdict != "skipped"]
    out.print(
        f"{report.name} of {report.distribution} {report.version}: {len(made) - len(report.failed)} of "
        f"{len(made)} laws hold, {len(report.findings) - len(made)} skipped, {report.seconds:.0f} s",
        soft_wrap=True,
    )
