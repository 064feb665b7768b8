"""The Python door to a run: plan, execute, draw, mirror. The command line calls the same function."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, TypedDict, Unpack

from bgbench.abstract import SamplerPlugin
from bgbench.cells import bury, execute
from bgbench.errors import BgbenchError
from bgbench.executors import AbstractExecutor, InProcess, Job, Workers
from bgbench.plugins import plugins
from bgbench.protocols import get_protocol
from bgbench.provenance import cores
from bgbench.records import Cell, Record, atomic_file, read_record
from bgbench.references.providers import find_reference
from bgbench.report import draw_cell
from bgbench.runfolder import RunFolder, new_plan
from bgbench.subprocesses import Limits
from bgbench.suites import load_suite, suite_path
from bgbench.types import Suite, System

DEFAULT_SUITE = "dipeptides-mini@1"
MOST_WORKERS = 4


class Choices(TypedDict, total=False):
    """What can be chosen about a run; everything has a default from the suite or the sampler.

    `workers` processes (0: this one), each cell at most `timeout` s and `memory` MB. `options` are the
    sampler's, `estimator.NAME` keys the estimator's, `temperature` the system's (K).
    """

    suite: str
    estimator: str
    protocol: str
    budget: int
    seeds: int
    only: tuple[str, ...]
    options: Mapping[str, str]
    out: str | Path
    workers: int
    timeout: float
    memory: float
    resume: bool
    retry_failed: bool
    tracking_uri: str
    observer: "Observer"


class Observer:
    """Hears how a run goes; this one keeps silent. Subclass to show progress."""

    def started(self, folder: RunFolder, cells: list[Cell]) -> None:
        """Before the first cell."""

    def advanced(self, cell: Cell, n: int) -> None:
        """`n` more conformers of `cell` are done."""

    def finished(self, record: Record) -> None:
        """A record was written."""

    def notice(self, message: str) -> None:
        """Something a user should read."""


@dataclass(frozen=True)
class Result:
    """A finished run: its folder and its records."""

    folder: Path
    records: list[Record] = field(default_factory=list)

    def __iter__(self) -> Iterator[Record]:
        return iter(self.records)


def run(sampler: str, **choices: Unpack[Choices]) -> Result:
    """Run `sampler` on every system of a suite and return the records.

    Raises:
        BgbenchError: for anything unknown, impossible or not at hand, before the first cell starts.
    """
    observer = choices.get("observer", Observer())
    folder = open_folder(sampler, choices)
    with folder.lock():
        cells = folder.missing(retry_failed=choices.get("retry_failed", False))
        observer.started(folder, cells)
        for record in executor(choices).map(job(folder, observer), cells):
            if record.status == "ok":
                draw_cell(folder, record)
            observer.finished(record)
        mirror(folder, observer)
    return Result(folder.path, folder.records())


def open_folder(sampler: str, choices: Choices) -> RunFolder:
    """The run's folder: the one to resume, or a new one with its plan."""
    out = choices.get("out")
    if choices.get("resume") and not out:
        raise BgbenchError("--resume needs the run to go on with; give its folder with --out")
    if choices.get("resume") and out and (Path(out) / "run.json").exists():
        return RunFolder.open(Path(out))
    cells, suite = plan_cells(sampler, choices)
    check_at_hand(cells, suite)
    stamp = datetime.now().strftime("%Y%m%d-%H%M%S")
    path = Path(out) if out else Path("runs") / f"{stamp}-{sampler}-{suite.id}"
    default_uri = f"sqlite:///{(path if out else path.parent).resolve() / 'mlflow.db'}"
    plan = new_plan(cells, suite.sha256, choices.get("tracking_uri") or default_uri)
    folder = RunFolder.create(path, plan)
    with atomic_file(path / f"{suite.id}.yaml") as stream:
        stream.write(suite_path(choices.get("suite", DEFAULT_SUITE)).read_bytes())
    return folder


def plan_cells(sampler: str, choices: Choices) -> tuple[list[Cell], Suite]:
    """Every (system, seed) of the suite, with defaults filled in."""
    plugin = plugins().samplers[sampler]
    suite = load_suite(choices.get("suite", DEFAULT_SUITE))
    options = dict(choices.get("options", {}))
    own = {key: value for key, value in options.items() if "." not in key and key != "temperature"}
    seeds = choices.get("seeds", suite.seeds)
    budget = choices.get("budget", suite.budget)
    if budget < 1:
        raise BgbenchError(f"--budget must be at least 1 energy evaluation, got {budget}")
    if seeds < 1:
        raise BgbenchError(f"--seeds must be at least 1, got {seeds}")
    shared: Any = {
        "sampler": sampler,
        "estimator": choices.get("estimator") or plugin.estimator,
        "protocol": choices.get("protocol") or suite.protocol,
        "suite": suite.id,
        "budget": budget,
        "energy": suite.energy,
        "temperature": _temperature(options, suite),
        "options": own,
        "estimator_options": _prefixed(options, "estimator."),
    }
    systems = _chosen(suite, choices.get("only", ()))
    cells = [Cell(system=name, seed=seed, **shared) for name in systems for seed in range(seeds)]
    check_choices(plugin, cells[0])
    return cells, suite


def check_choices(plugin: SamplerPlugin, cell: Cell) -> None:
    """Build everything once, so that a wrong option fails before the first cell."""
    get_protocol(cell.protocol)
    plugins().estimators[cell.estimator].build(cell.estimator_options)
    plugins().energies[cell.energy]
    plugin.build(cell.options)


def check_at_hand(cells: list[Cell], suite: Suite) -> None:
    """Raise BgbenchError for the first system whose reference is missing."""
    for cell in cells:
        if not cell.system.startswith("analytic:"):
            find_reference(System.from_sequence(cell.system, cell.temperature, suite.forcefield), suite.id)


def mirror(folder: RunFolder, observer: Observer) -> None:
    """Send the run to its tracker; a tracker that fails costs a notice, never a record."""
    try:
        plugins().trackers["mlflow"].mirror(folder.path, folder.plan.tracking_uri)
    except Exception as error:
        observer.notice(
            f"tracking to {folder.plan.tracking_uri} failed ({type(error).__name__}: {error}); the records "
            f"are safe in {folder.path}; send them later with `bgbench track {folder.path}`"
        )


def job(folder: RunFolder, observer: Observer) -> Job:
    """What an executor needs of this run."""
    return Job(
        folder=folder.path,
        execute=lambda cell: execute(cell, folder, partial(observer.advanced, cell)),
        collect=lambda cell: read_record(folder.record_path(cell)),
        bury=partial(bury, folder=folder),
        advanced=observer.advanced,
    )


def executor(choices: Choices) -> AbstractExecutor:
    """In process for `workers=0`, else that many worker processes sharing the cores.

    The default is one a core, at most four: small networks gain nothing from threads.

    Raises:
        BgbenchError: for a negative number of workers.
    """
    workers = choices.get("workers", min(cores(), MOST_WORKERS))
    if workers < 0:
        raise BgbenchError(f"--workers must be 0 (in this process) or more, got {workers}")
    if workers == 0:
        return InProcess()
    threads = max(1, cores() // workers)
    limits = Limits(threads, choices.get("timeout", math.inf), choices.get("memory", math.inf))
    return Workers(limits, workers)


def _temperature(options: Mapping[str, str], suite: Suite) -> float:
    text = options.get("temperature")
    if text is None:
        return suite.temperature
    try:
        temperature = float(text)
    except ValueError as error:
        raise BgbenchError(f"--set temperature={text}: not a number of kelvin") from error
    fixed = [name for name in suite.systems if name.startswith("analytic:")]
    if fixed and temperature != suite.temperature:
        raise BgbenchError(f"--set temperature={text}: {fixed[0]} has its own temperature; leave it out")
    return temperature


def _prefixed(options: Mapping[str, str], prefix: str) -> dict[str, str]:
    return {key.removeprefix(prefix): value for key, value in options.items() if key.startswith(prefix)}


def _chosen(suite: Suite, only: tuple[str, ...]) -> tuple[str, ...]:
    unknown = sorted(set(only) - set(suite.systems))
    if unknown:
        raise BgbenchError(f"--only {', '.join(unknown)}: not in {suite.id} ({', '.join(suite.systems)})")
    return tuple(name for name in suite.systems if not only or name in only)
