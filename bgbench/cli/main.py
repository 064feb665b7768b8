"""The command line: parse, call, print.

Everything heavy is imported inside the commands, so that `bgbench --help` answers at once.
"""

import errno
import io
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from bgbench.cli import authoring as cli_authoring
from bgbench.cli import data as cli_data
from bgbench.cli import leaderboard as cli_leaderboard
from bgbench.cli import runs as cli_runs
from bgbench.cli.commands import App, Device
from bgbench.cli.runs import RunDir
from bgbench.cli.streams import reserve_stdout
from bgbench.core.errors import BgbenchError, refuse_lost_folder, refuse_other_systems
from bgbench.core.options import parse_settings

app = App(
    name="bgbench",
    help="Equal-budget benchmark of transferable Boltzmann generators.",
    invoke_without_command=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(cli_data.app, name="data")
app.add_typer(cli_runs.app)
app.add_typer(cli_authoring.app)
app.add_typer(cli_leaderboard.app, name="leaderboard")
out = Console(highlight=False, markup=False)
err = Console(stderr=True, highlight=False, markup=False)

Options = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        help="an option of the sampler as KEY=VALUE; repeat for more; default: none",
        metavar="KEY=VALUE",
    ),
]


WAYS_TO_START = """\
bgbench compares samplers of molecular equilibrium at equal numbers of energy evaluations. You have …

  samples in a file    bgbench score mine.xtc --top mine.pdb
  a checkpoint         bgbench run verse --set weights=FILE
  a sampler            bgbench new sampler my-flow
  a molecule           bgbench data simulate GS --engine softened

Nothing yet: `bgbench run verse --only AA`. All commands: `bgbench --help`."""
"""What `bgbench` alone prints."""


def print_version(wanted: bool) -> None:
    """Print the version and end, if `wanted`."""
    if wanted:
        out.print(f"bgbench {version('bgbench')}")
        raise typer.Exit


@app.callback()
def bgbench(
    context: typer.Context,
    show_version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=print_version, is_eager=True)
    ] = False,
) -> None:
    """Equal-budget benchmark of transferable Boltzmann generators."""
    del show_version  # its callback has ended the command
    if context.invoked_subcommand is None:
        out.print(WAYS_TO_START)


@app.command(example="bgbench run prose --only AA --budget 1000")
def run(
    sampler: Annotated[
        str | None,
        typer.Argument(
            help="a sampler that `bgbench list samplers` names; may be left out where -c names one",
            show_default=False,
        ),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(
            "--config",
            "-c",
            help="a YAML file of options of this command, such as the config.yaml of a run folder; what is "
            "on the command line comes over it; default: none",
        ),
    ] = None,
    suite: Annotated[
        str | None,
        typer.Option(
            help="a suite that `bgbench list suites` names, or a YAML file; default: dipeptides-mini@1"
        ),
    ] = None,
    estimator: Annotated[
        str | None,
        typer.Option(help="an estimator that `bgbench list estimators` names; default: the sampler's"),
    ] = None,
    protocol: Annotated[
        str | None,
        typer.Option(
            help="a protocol that `bgbench list protocols` names, or a YAML file; default: the suite's"
        ),
    ] = None,
    budget: Annotated[
        int | None,
        typer.Option(
            help="energy evaluations of each cell, that is of each system and seed; default: the suite's, "
            "10,000 in dipeptides-mini (`bgbench list suites`)"
        ),
    ] = None,
    seeds: Annotated[
        int | None,
        typer.Option(
            help="number of seeds of each system; default: the suite's, 1 in dipeptides-mini, else mostly 3"
        ),
    ] = None,
    first_seed: Annotated[int | None, typer.Option(help="the first seed; default: 0")] = None,
    only: Annotated[
        list[str] | None,
        typer.Option(help="run only this system; repeat for more; default: all of the suite"),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            help="an option of the sampler, of the estimator (estimator.KEY=VALUE) or of the cluster "
            "(cluster.KEY=VALUE), or temperature=KELVIN; repeat for more; default: none",
            metavar="KEY=VALUE",
        ),
    ] = None,
    out_dir: Annotated[
        Path | None, typer.Option("--out", help="the run folder; default: a new one below runs/")
    ] = None,
    tracking_uri: Annotated[
        str | None,
        typer.Option(
            help="where records are mirrored: a URI of a tracker that `bgbench list trackers` names, or "
            "none; default: a SQLite file in the run folder, for MLflow"
        ),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(
            help="worker processes; 0 runs the cells in this process; default: one for each GPU, else "
            "one for each core, at most 4"
        ),
    ] = None,
    threads: Annotated[
        int | None,
        typer.Option(help="threads of each worker; default: 1, or with GPUs an equal share of the cores"),
    ] = None,
    device: Annotated[
        str | None,
        typer.Option(
            help="where the sampler computes: auto (the default: a GPU where there is one), cpu, cuda or "
            "cuda:K"
        ),
    ] = None,
    scheduler: Annotated[
        str | None,
        typer.Option(
            help="run the cells on the workers of this Dask scheduler: tcp://HOST:PORT; default: on this "
            "machine"
        ),
    ] = None,
    cluster: Annotated[
        str | None,
        typer.Option(
            help="slurm: run the cells in --workers jobs, described with --set cluster.KEY=VALUE; "
            "slurm-array: submit them as a job array of --workers tasks, and end; default: on this machine"
        ),
    ] = None,
    timeout: Annotated[
        float | None, typer.Option(help="seconds that a cell may take; default: no limit")
    ] = None,
    memory: Annotated[float | None, typer.Option(help="MB that a cell may use; default: no limit")] = None,
    checkpoints: Annotated[
        bool, typer.Option("--checkpoints", help="also draw the error after 100, 1,000, … evaluations")
    ] = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="run the cells that are missing from the run in --out")
    ] = False,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="with --resume: run failed cells again, too")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="print nothing but errors")] = False,
) -> None:
    """Run a sampler on every system of a suite at an equal energy budget.

    Each system is run with each seed; one such pair is a cell and becomes one record. The exit code is 1 if
    a cell failed.
    """
    from bgbench.runs.configs import merge, read_config
    from bgbench.runs.request import RunRequest

    keywords = {
        "sampler": sampler,
        "suite": suite,
        "estimator": estimator,
        "protocol": protocol,
        "budget": budget,
        "seeds": seeds,
        "first_seed": first_seed,
        "only": only,
        "options": parse_settings(settings),
        "tracking_uri": tracking_uri,
        "out": out_dir,
        "resume": resume or None,
        "retry_failed": retry_failed or None,
        "workers": workers,
        "threads": threads,
        "device": device,
        "scheduler": scheduler,
        "cluster": cluster,
        "timeout": timeout,
        "memory": memory,
    }
    merged = merge(read_config(config) if config else {}, keywords)
    named = merged.pop("sampler", None)
    if named is None:
        raise BgbenchError("name a sampler (see `bgbench list samplers`), or a file that does with -c")
    request = RunRequest.from_keywords(str(named), **merged)
    from bgbench.api import run_request
    from bgbench.cli.display import print_run
    from bgbench.cli.progress import LiveObserver, QuietObserver

    result = run_request(request, QuietObserver(err) if quiet else LiveObserver(err))
    if not quiet:
        print_run(result.folder, result.records, out)
    if checkpoints:
        cli_runs.draw([result.folder], None, result.folder / "figures" / "curves.png", quiet)
    if any(record.status != "ok" for record in result.records):
        raise typer.Exit(1)


@app.command("list", example="bgbench list samplers")
def list_(
    kind: Annotated[
        str,
        typer.Argument(
            help="samplers, suites, protocols, metrics, estimators, energies, systems, engines, trackers or "
            "plugins"
        ),
    ],
) -> None:
    """List what is installed, with the distribution that it comes from and its version."""
    from bgbench.cli.display import broken_plugins, print_listing

    print_listing(kind, out)
    for line in broken_plugins():
        err.print(line, soft_wrap=True)


@app.command(example="bgbench options snis")
def options(
    name: Annotated[str, typer.Argument(help="a sampler, an estimator, an engine of references, or slurm")],
) -> None:
    """List the options of `--set`, with what they mean and what holds without them."""
    from bgbench.cli.display import print_options

    print_options(name, out)


@app.command(example="bgbench train verse --config verse-tiny --set data=training --set steps=100")
def train(
    sampler: Annotated[str, typer.Argument(help="a sampler that can be trained")],
    config: Annotated[
        str | None,
        typer.Option(help="a named size of the sampler, such as verse-tiny; default: the sampler's"),
    ] = None,
    device: Annotated[
        str | None,
        typer.Option(
            help="where to train: auto (the default: a GPU where there is one), cpu, cuda or cuda:K"
        ),
    ] = None,
    settings: Options = None,
) -> None:
    """Train a sampler, with the sampler's own training options (--set)."""
    from bgbench.core.devices import find_device
    from bgbench.core.plugins import call_plugin, plugins

    plugin, origin = plugins().samplers[sampler], plugins().samplers.origin(sampler)
    if plugin.train is None:
        raise BgbenchError(f"sampler '{sampler}' has nothing to train; see `bgbench list samplers`")
    options = parse_settings(settings)
    if config and options.setdefault("config", config) != config:
        raise BgbenchError(f"--config {config} and --set config={options['config']}: leave one of them out")
    if device is not None:
        find_device(device)
        if options.setdefault("device", device) != device:
            raise BgbenchError(
                f"--device {device} and --set device={options['device']}: leave one of them out"
            )
    weights = call_plugin(origin, f"training '{sampler}'", plugin.train, options)
    out.print(f"trained: {weights}", soft_wrap=True)


weights_app = App(help="Convert published weights.", no_args_is_help=True)
app.add_typer(weights_app, name="weights")


@weights_app.command("import", example="bgbench weights import prose prose_up_to_8aa.pth")
def import_(
    sampler: Annotated[str, typer.Argument(help="a sampler that can import weights")],
    source: Annotated[Path, typer.Argument(help="FILE.pth or FILE.safetensors")],
    target: Annotated[Path | None, typer.Option("--out", help="default: FILE-bgbench.safetensors")] = None,
) -> None:
    """Convert a published state dict into weights that the sampler reads. Every key and shape is checked."""
    from bgbench.core.plugins import call_plugin, plugins

    plugin, origin = plugins().samplers[sampler], plugins().samplers.origin(sampler)
    if plugin.import_weights is None:
        raise BgbenchError(f"sampler '{sampler}' cannot import weights")
    if not source.is_file():
        raise BgbenchError(f"{source} does not exist; give a .pth or .safetensors file")
    place = target or source.with_name(f"{source.stem}-bgbench.safetensors")
    path = call_plugin(origin, f"importing weights for '{sampler}'", plugin.import_weights, source, place)
    out.print(f"imported: {path}; use it with `bgbench run {sampler} --set weights={path}`", soft_wrap=True)


@app.command(example="bgbench audit verse --system GS")
def audit(
    sampler: Annotated[str, typer.Argument(help="a sampler with a density")],
    system: Annotated[str, typer.Option(help="the peptide to audit it on")] = "AA",
    settings: Options = None,
    seed: Annotated[int, typer.Option(help="seed of the draws")] = 0,
    device: Device = "auto",
) -> None:
    """Check the density of a sampler: round trip, Jacobian, normalisation.

    The exit code is 1 if a check fails.
    """
    from bgbench.cli.display import print_audit
    from bgbench.core.abstract import AbstractDensitySampler
    from bgbench.core.devices import find_device
    from bgbench.core.plugins import build_sampler, call_plugin, plugins
    from bgbench.evaluation.audit import audit as audit_density
    from bgbench.systems.peptides import peptide

    place = find_device(device)
    instance = build_sampler(sampler, parse_settings(settings))
    if not isinstance(instance, AbstractDensitySampler):
        raise BgbenchError(f"sampler '{sampler}' has no density to audit")
    origin = plugins().samplers.origin(sampler)
    audited = partial(audit_density, instance, peptide(system), seed, device=place)
    checks = call_plugin(origin, f"'{sampler}', while it was audited,", audited)
    print_audit(checks, out)
    if not all(check.passed for check in checks):
        raise typer.Exit(1)


@app.command(example="bgbench track runs/mine --tracking-uri http://127.0.0.1:5000")
def track(
    folder: RunDir,
    tracking_uri: Annotated[
        str | None, typer.Option(help="where to; default: where the run was to be tracked")
    ] = None,
) -> None:
    """Send the records of a run to its tracker; those that it holds already are not sent twice."""
    from contextlib import closing

    from bgbench.runs.mirroring import NOWHERE, Mirror, tracking_uri_of
    from bgbench.runs.runfolder import RunFolder

    run_folder = RunFolder.open(folder)
    uri = tracking_uri or tracking_uri_of(run_folder)
    if uri == NOWHERE:
        raise BgbenchError(f"{folder} was run with --tracking-uri none; name a store with --tracking-uri")
    with closing(Mirror(run_folder, uri)) as mirror:
        mirror.send()
    for notice in mirror.notices:
        err.print(f"bgbench: {notice}", soft_wrap=True)
    if mirror.complaint:
        raise BgbenchError(mirror.complaint)
    out.print(f"{folder} is at {uri}", soft_wrap=True)


@app.command(example="bgbench doctor")
def doctor() -> None:
    """Print versions, platforms, what a run would use of this machine, and what is not installed."""
    from bgbench.cli.display import print_doctor

    print_doctor(out)


def main() -> None:
    """Run the command line: a user's mistake is one line and exit code 2. SIGTERM, SIGHUP and SIGQUIT
    end it like Ctrl-C.

    Standard output gets what the command prints, and nothing of what libraries write. A character that the
    terminal cannot show, such as an arrow in an ASCII locale, is printed as `?`.
    """
    from bgbench.runs.interrupts import end_by_signals

    end_by_signals()
    reserve_stdout()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    sys.exit(guarded(app))


def guarded(command: Callable[..., Any]) -> int:
    """Call a typer app and return its exit code."""
    try:
        refuse_other_systems()
        refuse_lost_folder()
        result = command(standalone_mode=False)
    except BgbenchError as error:
        err.print(f"bgbench: {error}", soft_wrap=True)
        return 2
    except OSError as error:
        return _output_lost(error)
    except KeyboardInterrupt:
        err.print("bgbench: stopped")
        return 130
    except Exception as error:
        return _usage_error(error)
    return result if isinstance(result, int) else 0


LOST = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
"""Errors of a stream that takes no more, as of standard output on a full disk."""


def _output_lost(error: OSError) -> int:
    """One line where standard output takes no more.

    An error of a file with a name is a bug, and keeps its traceback.
    """
    if error.errno not in LOST or error.filename is not None:
        raise error
    # What is left in the buffer would fail again when the interpreter ends.
    with suppress(OSError, ValueError), open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), sys.stdout.fileno())
    err.print(
        f"bgbench: cannot print: {error.strerror}; what was finished is kept: see `bgbench show RUN`",
        soft_wrap=True,
    )
    return 2


def _usage_error(error: Exception) -> int:
    """Print a complaint of Typer's as one line; anything else is a bug and keeps its traceback."""
    format_message = getattr(error, "format_message", None)
    if format_message is None:
        raise error
    message = format_message()
    if message:  # `bgbench` alone has printed its help
        context = getattr(error, "ctx", None)
        advice = f"; see `{context.command_path} --help`" if context else ""
        err.print(f"bgbench: {message.rstrip('.')}{advice}", soft_wrap=True)
    return 2
