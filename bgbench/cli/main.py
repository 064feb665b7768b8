"""The command line: parse, call, print."""

import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from bgbench.cli import data as cli_data
from bgbench.cli import leaderboard as cli_leaderboard
from bgbench.cli import runs as cli_runs
from bgbench.cli.runs import RunDir
from bgbench.core.errors import BgbenchError
from bgbench.core.options import parse_settings
from bgbench.systems.peptides import peptide

app = typer.Typer(
    name="bgbench",
    help="Equal-budget benchmark of transferable Boltzmann generators.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(cli_data.app, name="data")
app.add_typer(cli_runs.app)
app.add_typer(cli_leaderboard.app, name="leaderboard")
out = Console(highlight=False, markup=False)
err = Console(stderr=True, highlight=False, markup=False)

Set = Annotated[
    list[str] | None, typer.Option("--set", help="KEY=VALUE; repeat for more", metavar="KEY=VALUE")
]


@app.command()
def run(
    sampler: Annotated[str, typer.Argument(help="a sampler of `bgbench list samplers`")],
    suite: Annotated[
        str | None, typer.Option(help="a suite of `bgbench list suites`; default: dipeptides-mini@1")
    ] = None,
    estimator: Annotated[str | None, typer.Option(help="default: the sampler's own")] = None,
    protocol: Annotated[str | None, typer.Option(help="bgbench@1 or paper@1; default: the suite's")] = None,
    budget: Annotated[
        int | None, typer.Option(help="energy evaluations a cell; default: the suite's")
    ] = None,
    seeds: Annotated[int | None, typer.Option(help="seeds a system; default: the suite's")] = None,
    first_seed: Annotated[int | None, typer.Option(help="the first of them; default: 0")] = None,
    only: Annotated[list[str] | None, typer.Option(help="only this system; repeat for more")] = None,
    settings: Set = None,
    out_dir: Annotated[Path | None, typer.Option("--out", help="run folder; default: runs/…")] = None,
    tracking_uri: Annotated[
        str | None, typer.Option(help="MLflow store, or none; default: SQLite beside the run")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(help="worker processes; 0 runs in this one; default: one a core, at most 4")
    ] = None,
    threads: Annotated[int | None, typer.Option(help="threads a worker; default: 1")] = None,
    scheduler: Annotated[
        str | None, typer.Option(help="a Dask scheduler whose workers run the cells: tcp://HOST:PORT")
    ] = None,
    cluster: Annotated[
        str | None, typer.Option(help="slurm: --workers jobs, described with --set cluster.queue=…")
    ] = None,
    timeout: Annotated[float | None, typer.Option(help="seconds a cell may take")] = None,
    memory: Annotated[float | None, typer.Option(help="MB a cell may use")] = None,
    checkpoints: Annotated[
        bool, typer.Option("--checkpoints", help="score the run at 100, 1,000 … evaluations too")
    ] = False,
    resume: Annotated[bool, typer.Option("--resume", help="run only the missing cells of --out")] = False,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="run failed cells again")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="print nothing but errors")] = False,
) -> None:
    """Run a sampler on every system of a suite at an equal energy budget."""
    from bgbench import api
    from bgbench.cli.display import print_run
    from bgbench.cli.progress import LiveObserver

    chosen = {
        "suite": suite,
        "estimator": estimator,
        "protocol": protocol,
        "budget": budget,
        "seeds": seeds,
        "first_seed": first_seed,
        "only": tuple(only) if only else None,
        "options": parse_settings(settings),
        "threads": threads,
        "scheduler": scheduler,
        "cluster": cluster,
        "out": out_dir,
        "tracking_uri": tracking_uri,
        "workers": workers,
        "timeout": timeout,
        "memory": memory,
        "resume": resume,
        "retry_failed": retry_failed,
        "observer": api.Observer() if quiet else LiveObserver(err),
    }
    choices: Any = {key: value for key, value in chosen.items() if value is not None}
    result = api.run(sampler, **choices)
    if not quiet:
        print_run(result.folder, result.records, out)
    if checkpoints:
        cli_runs.draw([result.folder], None, result.folder / "figures" / "curves.png", quiet)
    if any(record.status != "ok" for record in result.records):
        raise typer.Exit(1)


@app.command("list")
def list_(
    kind: Annotated[str, typer.Argument(help="samplers|suites|metrics|estimators|energies|trackers|plugins")],
) -> None:
    """List what is registered, with version and distribution."""
    from bgbench.cli.display import print_listing

    print_listing(kind, out)


@app.command()
def train(
    sampler: Annotated[str, typer.Argument(help="a sampler that can be trained")],
    config: Annotated[str | None, typer.Option(help="a named configuration of the sampler")] = None,
    settings: Set = None,
) -> None:
    """Train a sampler; options are the sampler's own (--set)."""
    from bgbench.core.plugins import plugins

    plugin = plugins().samplers[sampler]
    if plugin.train is None:
        raise BgbenchError(f"sampler '{sampler}' has nothing to train")
    options = parse_settings(settings)
    if config:
        options["config"] = config
    out.print(f"trained: {plugin.train(options)}")


weights_app = typer.Typer(help="Weights of others, made ours.", no_args_is_help=True)
app.add_typer(weights_app, name="weights")


@weights_app.command("import")
def import_(
    sampler: Annotated[str, typer.Argument(help="a sampler that can import weights")],
    source: Annotated[Path, typer.Argument(help="FILE.pth or FILE.safetensors")],
    target: Annotated[Path | None, typer.Option("--out", help="default: FILE-bgbench.safetensors")] = None,
) -> None:
    """Turn a published state dict into weights of ours, checked key by key and shape by shape."""
    from bgbench.core.plugins import plugins

    plugin = plugins().samplers[sampler]
    if plugin.import_weights is None:
        raise BgbenchError(f"sampler '{sampler}' imports no weights")
    if not source.is_file():
        raise BgbenchError(f"{source} does not exist; give a .pth or .safetensors file")
    path = plugin.import_weights(source, target or source.with_name(f"{source.stem}-bgbench.safetensors"))
    out.print(f"imported: {path}; use it with `bgbench run {sampler} --set weights={path}`", soft_wrap=True)


@app.command()
def audit(
    sampler: Annotated[str, typer.Argument(help="a sampler with a density")],
    system: Annotated[str, typer.Option(help="the peptide to audit it on")] = "AA",
    settings: Set = None,
    seed: Annotated[int, typer.Option(help="seed of the draws")] = 0,
) -> None:
    """Check a sampler's density: round trip, Jacobian, E_q[p/q] = 1. Exit code 1 if a check fails."""
    from bgbench.cli.display import print_audit
    from bgbench.core.abstract import AbstractDensitySampler
    from bgbench.core.plugins import plugins
    from bgbench.evaluation.audit import audit as examine

    built = plugins().samplers[sampler].build(parse_settings(settings))
    if not isinstance(built, AbstractDensitySampler):
        raise BgbenchError(f"sampler '{sampler}' has no density to audit")
    checks = examine(built, peptide(system), seed)
    print_audit(checks, out)
    if not all(check.passed for check in checks):
        raise typer.Exit(1)


@app.command()
def track(
    folder: RunDir,
    tracking_uri: Annotated[str | None, typer.Option(help="default: the one of the run")] = None,
) -> None:
    """Send a run's records to MLflow; what is there already is not sent twice."""
    from bgbench.runs.mirroring import NOWHERE, Mirror
    from bgbench.runs.runfolder import RunFolder

    opened = RunFolder.open(folder)
    uri = tracking_uri or opened.plan.tracking_uri
    if uri == NOWHERE:
        raise BgbenchError(f"{folder} was run with --tracking-uri none; give one now")
    mirror = Mirror(opened, uri)
    mirror.send()
    if mirror.complaint:
        raise BgbenchError(mirror.complaint)
    out.print(f"{folder} is at {uri}", soft_wrap=True)


@app.command()
def doctor() -> None:
    """Versions, platforms, threads, and what is missing."""
    from bgbench.cli.display import print_doctor

    print_doctor(out)


def main() -> None:
    """Run the command line: a user's mistake is one line and exit code 2. SIGTERM ends it like Ctrl-C."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(guarded(app))


def guarded(command: Callable[..., Any]) -> int:
    """Call a typer app; returns its exit code."""
    try:
        result = command(standalone_mode=False)
    except BgbenchError as error:
        err.print(f"bgbench: {error}", soft_wrap=True)
        return 2
    except KeyboardInterrupt:
        err.print("bgbench: stopped")
        return 130
    except Exception as error:
        return _usage_error(error)
    return result if isinstance(result, int) else 0


def _usage_error(error: Exception) -> int:
    """Typer's own complaints as one line; anything else is a bug and keeps its traceback."""
    shown = getattr(error, "format_message", None)
    if shown is None:
        raise error
    err.print(f"bgbench: {shown()}", soft_wrap=True)
    return 2
