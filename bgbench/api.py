"""The Python door to a run: plan it, run its cells, draw figures, mirror the records.

The command line makes the same `RunRequest` and calls `run_request`.
"""

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from bgbench.core.errors import BgbenchError
from bgbench.core.guard import restored
from bgbench.core.plugins import plugins
from bgbench.evaluation.cell import Cell
from bgbench.evaluation.protocols import protocol_path
from bgbench.evaluation.suites import load_suite, read_suite, suite_path
from bgbench.reports.exports import Export, export
from bgbench.reports.exports import Format as ExportFormat
from bgbench.runs.arrays import refuse_queued
from bgbench.runs.cells import LOST, record_failure
from bgbench.runs.configs import merge, read_config, write_config
from bgbench.runs.interrupts import interrupts
from bgbench.runs.mirroring import Mirror
from bgbench.runs.observer import Observer
from bgbench.runs.placement import executor_for
from bgbench.runs.planning import resolve
from bgbench.runs.provenance import versions
from bgbench.runs.records import Ending, Record
from bgbench.runs.request import DEFAULT_SUITE, RunRequest
from bgbench.runs.resuming import refuse_another_plan, select
from bgbench.runs.runfolder import Plan, RunFolder, locked
from bgbench.systems.residues import heavy_atoms, parse_chain
from bgbench.systems.topology import chain_of
from bgbench.systems.trajectories import read_trajectory

if TYPE_CHECKING:
    from pandas import DataFrame

RUNS = Path("runs")
"""Where runs go for which no folder was named."""


@dataclass(frozen=True)
class Result:
    """A finished run: its folder and its records, over which it iterates."""

    folder: Path
    records: list[Record] = field(default_factory=list)

    def __iter__(self) -> Iterator[Record]:
        return iter(self.records)

    def to_dataframe(self) -> "DataFrame":
        """A row for each record: what determines the cell, how it ended, and every number.

        Returns:
            A pandas data frame. A metric stands under its name, its noise floor under `floor.NAME`, its skill
            under `skill.NAME`; NaN where a record lacks one.
        """
        from bgbench.reports.results import frame_of

        return frame_of([RunFolder.open(self.folder)])

    def export(self, system: str, format: ExportFormat = "xtc", **choices: Any) -> Export:
        """Write the conformers of a cell for other programs, with their topology beside them.

        Args:
            system: of the cell.
            format: `xtc`, `pdb` or `h5`.
            choices: `seed`, `resample` and `target`, see `bgbench.reports.exports.export`.

        Returns:
            The files.
        """
        return export(RunFolder.open(self.folder), system, format, **choices)

    def _repr_html_(self) -> str:
        """A table of the run for notebooks, with the figures of its first finished cell."""
        from bgbench.reports.notebook import html_of

        return html_of(RunFolder.open(self.folder), self.records)


def load_run(path: str | Path) -> Result:
    """Read a run that is finished, or as far as it is.

    Args:
        path: a run folder, or a run in one file.

    Returns:
        The run folder and its records, in the plan's order.

    Raises:
        BgbenchError: if `path` holds no readable run, or a record is damaged.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as out:
    ...     result = run("prior", only=["AA"], budget=20, seeds=1, out=out, workers=0, tracking_uri="none")
    ...     frame = load_run(out).to_dataframe()
    >>> frame["system"].tolist(), frame["evaluations"].tolist()
    (['AA'], [20])
    """
    folder = RunFolder.open(Path(path))
    return Result(folder.path, folder.records())


def score(
    file: str | Path,
    top: str | Path | None = None,
    *,
    system: str | None = None,
    log_q: str | Path | None = None,
    weights: str | Path | None = None,
    suite: str | Path | None = None,
    protocol: str | None = None,
    out: str | Path | None = None,
    observer: Observer | None = None,
) -> Result:
    """Judge samples of one peptide that were made elsewhere: `run("samples", …)` of one cell.

    Args:
        file: the samples, in an xtc, dcd, npz, h5 or pdb file.
        top: a pdb or h5 file that names their atoms, where `file` does not; or "system", if they are in the
            order of `bgbench.peptide`.
        system: its sequence; default: what the names of the atoms say.
        log_q: an npy or npz file of the samples' log-densities.
        weights: an npy or npz file of the samples' weights.
        suite: with the terms to judge by; default: one that lists the peptide, else the default terms.
        protocol: the rules to judge by; default: the suite's.
        out: the run folder; default: a new one below `runs/`.
        observer: is called at every step.

    Returns:
        The run folder and one record. Every frame's energy is evaluated.

    Raises:
        BgbenchError: for files that are damaged or of other atoms, or a peptide without a reference.

    >>> import tempfile, numpy, bgbench
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     x = bgbench.find_reference(bgbench.peptide("AA")).x[:30].numpy()
    ...     numpy.savez(f"{folder}/AA.npz", x=x)
    ...     [record] = score(f"{folder}/AA.npz", "system", system="AA", out=f"{folder}/run")
    >>> record.status, record.budget.used, record.card["run_here"]
    ('ok', 30, False)
    """
    own_order = top is not None and str(top) == "system"
    trajectory = read_trajectory(Path(file), None if top is None or own_order else Path(top))
    if system is None and not trajectory.atoms:
        raise BgbenchError(f"{file} does not say which peptide it holds; name it with --system")
    name = (parse_chain(system) if system is not None else chain_of(trajectory.atoms)).name
    options = {"file": file, "top": top, "log_q": log_q, "weights": weights}
    with tempfile.TemporaryDirectory() as folder:
        request = RunRequest.from_keywords(
            "samples",
            suite=str(suite or suite_with(name, Path(folder))),
            protocol=protocol,
            only=(name,),
            budget=trajectory.n_samples,
            seeds=1,
            options={key: str(value) for key, value in options.items() if value is not None},
            workers=0,
            tracking_uri="none",
            out=out,
        )
        return run_request(request, observer or Observer())


def suite_with(system: str, folder: Path) -> str:
    """A registered suite that lists a peptide, the default one first; else a new one in `folder`.

    Returns:
        The name of the suite, or the path of its file.
    """
    suites = plugins().suites
    for name in sorted(suites, key=lambda name: name != DEFAULT_SUITE):
        if system in load_suite(name).systems:
            return name
    path = folder / f"{system}@1.yaml"
    path.write_text(f"systems: [{system}]\n")
    return str(path)


def run(
    sampler: str,
    *,
    suite: str | Path | None = None,
    estimator: str | None = None,
    protocol: str | None = None,
    budget: int | None = None,
    seeds: int | None = None,
    first_seed: int | None = None,
    only: tuple[str, ...] | list[str] | None = None,
    options: Mapping[str, object] | None = None,
    tracking_uri: str | None = None,
    out: str | Path | None = None,
    resume: bool = False,
    retry_failed: bool = False,
    workers: int | None = None,
    threads: int | None = None,
    device: str | torch.device | None = None,
    scheduler: str | None = None,
    cluster: str | None = None,
    timeout: float | None = None,
    memory: float | None = None,
    observer: Observer | None = None,
    **unknown: object,
) -> Result:
    """Run `sampler` on every system of a suite at an equal energy budget, and return the records.

    Args:
        sampler: name of a registered sampler, as `bgbench list samplers` prints it.
        suite: `name@version`, `name` alone for its latest version, or the path of a suite's YAML file.
        estimator: name of an estimator; default: the sampler's own.
        protocol: `name@version`, `name` alone for its latest version, or the path of a protocol's YAML file;
            default: the suite's.
        budget: energy evaluations of each cell, that is of each system and seed; default: the suite's.
        seeds: seeds of each system; default: the suite's.
        first_seed: the first of these consecutive seeds; default: 0.
        only: systems of the suite to run; default: all.
        options: options of the sampler; `estimator.NAME` is the estimator's, `cluster.NAME` the cluster's,
            `temperature` (K) the system's.
        tracking_uri: where to mirror the records, or "none"; default: a SQLite file in the run folder.
        out: the run folder; default: a new one below `runs/`.
        resume: go on with the run in `out`; what is not given is as it was planned.
        retry_failed: when resuming, run cells that failed again.
        workers: worker processes; 0: in this process; default: one for each core or GPU, at most four.
            In this process, what a sampler writes to descriptor 1 itself, or a program that it starts, is
            neither noticed nor redirected; worker processes send it to standard error.
        threads: threads of each worker; default: 1, or with GPUs an equal share of the cores.
        device: where samplers compute: `auto` (the default: a GPU where there is one), `cpu`, `cuda` or
            `cuda:K`.
        scheduler: address (`tcp://HOST:PORT`) of a Dask scheduler whose workers run the cells.
        cluster: `slurm`: submit the workers as jobs; `slurm-array`: submit the cells as a job array and
            return at once, with the records that there are.
        timeout: seconds that a cell may take.
        memory: MB that a cell may use.
        observer: is called at every step.
        unknown: refused.

    Returns:
        The run folder and a record for each cell, in the plan's order. A cell that failed has a record too:
        its `status` is not "ok" and its `error` says why.

    Raises:
        BgbenchError: before the first cell starts, for anything unknown, impossible or not on this machine.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as out:
        ...     [record] = run("prior", only=["AA"], budget=20, out=out, workers=0, tracking_uri="none")
        >>> record.cell.system, record.status, record.budget.used
        ('AA', 'ok', 20)
    """
    request = RunRequest.from_keywords(
        sampler,
        suite=None if suite is None else str(suite),
        estimator=estimator,
        protocol=protocol,
        budget=budget,
        seeds=seeds,
        first_seed=first_seed,
        only=only,
        options=options,
        tracking_uri=tracking_uri,
        out=out,
        resume=resume,
        retry_failed=retry_failed,
        workers=workers,
        threads=threads,
        device=None if device is None else str(device),
        scheduler=scheduler,
        cluster=cluster,
        timeout=timeout,
        memory=memory,
        **unknown,
    )
    # Libraries that the first run of a process imports change the environment, warning filters and more.
    with restored():
        return run_request(request, observer or Observer())


def run_config(
    path: str | Path,
    *,
    options: Mapping[str, object] | None = None,
    observer: Observer | None = None,
    **changes: object,
) -> Result:
    """Run what a YAML file describes: `bgbench run -c FILE`.

    Args:
        path: the file. Its keys are `sampler` and the keywords of `run`; every run folder holds one,
            `config.yaml`, which runs again as it is.
        options: over those of the file, by name.
        observer: is called at every step.
        changes: keywords of `run`, over those of the file.

    Returns:
        As `run` does.

    Raises:
        BgbenchError: for a file that cannot be read or has an unknown key; and as `run` does.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as place:
    ...     file = Path(place) / "mine.yaml"
    ...     text = "{sampler: prior, only: [AA], budget: 20, workers: 0, tracking_uri: none}"
    ...     _ = file.write_text(text)
    ...     [first] = run_config(file, options={"width": 0.01}, out=f"{place}/one")
    ...     [again] = run_config(f"{place}/one/config.yaml", out=f"{place}/two")
    >>> again.cell == first.cell, again.metrics == first.metrics
    (True, True)
    """
    keywords = merge(read_config(Path(path)), {"options": options, **changes})
    if not isinstance(keywords.get("sampler"), str):
        raise BgbenchError(f"{path} names no sampler; write `sampler: NAME` into it")
    sampler = keywords.pop("sampler")
    with restored():
        return run_request(RunRequest.from_keywords(sampler, **keywords), observer or Observer())


def run_request(request: RunRequest, observer: Observer) -> Result:
    """Run what `request` asks for.

    Raises:
        BgbenchError: before the first cell starts, for anything unknown, impossible or not on this machine.
    """
    executor = executor_for(request)
    with open_run(request) as folder:
        cells = cells_to_run(folder, request, observer)
        observer.started(folder, cells)
        with closing(Mirror(folder)) as mirror:
            with (
                mirror.feeding() if executor.apart else nullcontext(),
                advice_on_resuming(folder, observer),
                interrupts() as raise_lost_interrupt,
                closing(executor.map(folder, cells, observer.advanced)) as records,
            ):
                ended: list[Cell] = []
                for record in records:
                    ended.append(record.cell)
                    draw_figures(folder, record, observer)
                    mirror.new_record()
                    observer.finished(record)
                    raise_lost_interrupt()
            record_losses(folder, ended, observer)
            if executor.notice:
                observer.notice(executor.notice)
            mirror.send_last()
            for sentence in [*mirror.notices, *filter(None, [mirror.complaint])]:
                observer.notice(sentence)
        return Result(folder.path, folder.records())


def record_losses(folder: RunFolder, ended: Sequence[Cell], observer: Observer) -> None:
    """Cells that ended and have no record any more failed: a sampler may have deleted it."""
    missing = {cell.name for cell in folder.missing()}
    for cell in ended:
        if cell.name in missing:
            record = record_failure(cell, Ending(status="crash", error=LOST), folder)
            observer.notice(f"{cell.name}: {record.error}; --resume --retry-failed runs the cell again")


@contextmanager
def open_run(request: RunRequest) -> Iterator[RunFolder]:
    """The run's folder, locked: the one to resume, or a new one that holds the plan of `request`.

    Raises:
        BgbenchError: if the plan is impossible or not that of the run to resume, or there is none to resume.
    """
    if request.resume and request.out is not None:
        if not (request.out / "run.json").exists():
            raise BgbenchError(
                f"--resume: {request.out} holds no run; name the folder of the run with --out, or leave out "
                "--resume to start one there"
            )
        refuse_queued(request.out)
        with locked(request.out):
            folder = RunFolder.open(request.out)
            refuse_another_plan(folder.path, folder.plan, request)
            folder.sweep()
            yield folder
        return
    plan = resolve(request)
    path = request.out or new_folder(plan)
    with locked(path):
        suite = suite_path(request.suite or DEFAULT_SUITE)
        protocol = protocol_path(request.protocol or read_suite(suite).protocol)
        folder = RunFolder.create(path, plan, suite, protocol)
        write_config(path, plan, request)
        yield folder


def new_folder(plan: Plan) -> Path:
    """Make a folder below `runs/`, named by the time, the sampler and the suite; of runs that start in the
    same second, the later ones get a number.

    Raises:
        BgbenchError: if it cannot be written.
    """
    name = f"{datetime.now():%Y%m%d-%H%M%S}-{plan.sampler}-{plan.suite}"
    path, number = RUNS / name, 1
    while True:
        try:
            path.mkdir(parents=True)
        except FileExistsError:
            number += 1
            path = RUNS / f"{name}-{number}"
        except OSError as error:
            raise BgbenchError(
                f"cannot write {path}: {error.strerror}; choose a folder with --out"
            ) from error
        else:
            return path


def cells_to_run(folder: RunFolder, request: RunRequest, observer: Observer) -> list[Cell]:
    """The cells of the plan that have no record yet, in the order in which they are started.

    All systems of one seed come before the next seed: their noise floors are known from then on. Large
    systems come first, so that workers wait less for each other in the end. Damaged records are named in a
    notice, and their cells run again.

    Raises:
        BgbenchError: if the request names a system that is not in the plan.
    """
    records, damaged = folder.readable()
    for sentence in damaged:
        observer.notice(f"{sentence}; its cell runs again")
    today = {name: version for name, version in versions().items() if name != "bgbench"}
    if any(record.provenance.get("libraries") != today for record in records):
        observer.notice(f"{folder.path} holds records made with other library versions than today's")
    selected = {cell.name for cell in select(folder.plan, request.only)}
    missing = folder.missing(retry_failed=request.retry_failed)
    cells = (cell for cell in missing if cell.name in selected)
    return sorted(cells, key=lambda cell: (cell.seed, -heavy_atoms(cell.system)))


def draw_figures(folder: RunFolder, record: Record, observer: Observer) -> None:
    """Draw a cell's figures. If that fails there is a notice, and the record stays as it is."""
    if record.status != "ok":
        return
    from bgbench.reports.figures import draw_cell

    try:
        draw_cell(folder, record)
    except Exception as error:
        observer.notice(f"no figures of {record.cell.name}: {error}")


@contextmanager
def advice_on_resuming(folder: RunFolder, observer: Observer) -> Iterator[None]:
    """Whatever ends the run early: say what is on disk, and which command goes on with it."""
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
