"""The Python door to a run: plan, execute, draw, mirror. The command line calls the same function."""

import math
from collections.abc import Iterator
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Unpack

from bgbench.core.errors import BgbenchError
from bgbench.core.options import select_prefixed
from bgbench.evaluation.cell import Cell
from bgbench.evaluation.suites import suite_path
from bgbench.runs.choices import Choices, Observer
from bgbench.runs.executors import AbstractExecutor, InProcess
from bgbench.runs.interrupts import interrupts
from bgbench.runs.mirroring import Mirror
from bgbench.runs.planning import DEFAULT_SUITE, inputs_of, only_of, plan_cells, refuse_other_run
from bgbench.runs.provenance import cores, versions, visible_devices
from bgbench.runs.records import Record
from bgbench.runs.runfolder import RunFolder, locked, new_plan
from bgbench.runs.subprocesses import Limits
from bgbench.systems.residues import heavy_atoms

MOST_WORKERS = 4


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
    where = executor(choices)
    with opened(sampler, choices) as folder:
        cells = due(folder, choices, observer)
        mirror = Mirror(folder)
        observer.started(folder, cells)
        with (
            mirror.feeding() if where.apart else nullcontext(),
            told_how_to_go_on(folder, observer),
            interrupts() as raise_lost_interrupt,
            closing(where.map(folder, cells, observer.advanced)) as records,
        ):
            for record in records:
                draw(folder, record, observer)
                mirror.new_record()
                observer.finished(record)
                raise_lost_interrupt()
        mirror.send()
        if mirror.complaint:
            observer.notice(mirror.complaint)
        return Result(folder.path, folder.records())


@contextmanager
def opened(sampler: str, choices: Choices) -> Iterator[RunFolder]:
    """The run's folder, locked: the one to resume, or a new one with its plan."""
    out = choices.get("out")
    if choices.get("resume") and not out:
        raise BgbenchError("--resume needs the run to go on with; give its folder with --out")
    if choices.get("resume") and out and (Path(out) / "run.json").exists():
        with locked(Path(out)):
            folder = RunFolder.open(Path(out))
            refuse_other_run(folder.path, folder.plan, sampler, choices)
            folder.sweep()
            yield folder
        return
    cells, suite = plan_cells(sampler, choices)
    inputs = inputs_of(cells[0], list(dict.fromkeys(cell.system for cell in cells)), suite)
    stamp = datetime.now().strftime("%Y%m%d-%H%M%S")
    path = Path(out) if out else Path("runs") / f"{stamp}-{sampler}-{suite.id}"
    default_uri = f"sqlite:///{(path if out else path.parent).resolve() / 'mlflow.db'}"
    plan = new_plan(cells, suite.sha256, choices.get("tracking_uri") or default_uri, inputs)
    with locked(path):
        yield RunFolder.create(path, plan, suite_path(choices.get("suite", DEFAULT_SUITE)))


def due(folder: RunFolder, choices: Choices, observer: Observer) -> list[Cell]:
    """The cells to run now, every system before any comes again: its floors are known then.

    Large systems come first: workers that end with small ones wait less for each other.
    Damaged records are told of, set aside and run again.
    """
    records, damaged = folder.readable()
    for sentence in damaged:
        observer.notice(f"{sentence}; its cell runs again")
    mixed = {str(record.provenance.get("libraries")) for record in records} - {
        str({name: value for name, value in versions().items() if name != "bgbench"})
    }
    if mixed:
        observer.notice(f"{folder.path} holds records made with other library versions than today's")
    missing = folder.missing(retry_failed=choices.get("retry_failed", False))
    wanted = {cell.name for cell in only_of(folder.plan, choices.get("only", ()))}
    asked = (cell for cell in missing if cell.name in wanted)
    return sorted(asked, key=lambda cell: (cell.seed, -heavy_atoms(cell.system)))


def draw(folder: RunFolder, record: Record, observer: Observer) -> None:
    """Draw a cell's figures; one that fails costs a notice, never a record."""
    if record.status != "ok":
        return
    from bgbench.reports.figures import draw_cell

    try:
        draw_cell(folder, record)
    except Exception as error:
        observer.notice(f"no figures of {record.cell.name}: {error}")


@contextmanager
def told_how_to_go_on(folder: RunFolder, observer: Observer) -> Iterator[None]:
    """Whatever ends the run early, say what is kept and what goes on with it."""
    try:
        yield
    except BaseException:
        observer.ended()
        missing = len(folder.missing())
        observer.notice(
            f"{len(folder.plan.cells) - missing} of {len(folder.plan.cells)} cells are finished and kept; "
            f"go on with `bgbench run {folder.plan.sampler} --out {folder.path} --resume`"
        )
        raise
    observer.ended()


def executor(choices: Choices) -> AbstractExecutor:
    """In process for `workers=0`, else Dask workers: here, behind a scheduler, or as jobs.

    The default is one a core or one a GPU, at most four, of one thread each: small networks gain nothing
    from threads, and the same threads everywhere give the same records everywhere.

    Raises:
        BgbenchError: for numbers out of range, and for choices that exclude each other.
    """
    refuse_numbers(choices)
    devices = visible_devices()
    workers = choices.get("workers", min(len(devices) or cores(), MOST_WORKERS))
    threads = choices.get("threads", 1)
    if workers == 0 and "scheduler" not in choices and "cluster" not in choices:
        return InProcess(threads)
    from bgbench.runs import clusters
    from bgbench.runs.dask import OnDask

    limits = Limits(threads, choices.get("timeout", math.inf), choices.get("memory", math.inf))
    if "scheduler" in choices:
        return OnDask(clusters.existing(choices["scheduler"]), limits)
    if "cluster" in choices:
        options = {"cores": str(threads), **select_prefixed(choices.get("options", {}), "cluster")}
        return OnDask(clusters.slurm(options, max(1, workers)), limits)
    return OnDask(clusters.local(workers), limits, devices)


def refuse_numbers(choices: Choices) -> None:
    """Raise BgbenchError for what cannot be."""
    if choices.get("workers", 0) < 0:
        raise BgbenchError(f"--workers must be 0 (in this process) or more, got {choices['workers']}")
    if choices.get("threads", 1) < 1:
        raise BgbenchError(f"--threads must be at least 1, got {choices['threads']}")
    for name in ("timeout", "memory"):
        if choices.get(name, math.inf) <= 0:  # type: ignore[operator]
            raise BgbenchError(f"--{name} must be above 0, got {choices.get(name)}")
        if name in choices and choices.get("workers") == 0:
            raise BgbenchError(f"--{name} needs worker processes to watch; leave out --workers 0")
    if "scheduler" in choices and "cluster" in choices:
        raise BgbenchError("--scheduler and --cluster are two places; give one")
    if choices.get("cluster", "slurm") != "slurm":
        raise BgbenchError(f"unknown cluster '{choices['cluster']}'; known: slurm")
