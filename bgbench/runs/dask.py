"""Cells on Dask workers, here or elsewhere; each worker watches a process in which its cells run."""

import hashlib
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

from distributed import Client, Future, Worker, WorkerPlugin, as_completed, get_worker
from distributed.scheduler import KilledWorker

from bgbench.core.errors import BgbenchError
from bgbench.evaluation.cell import Cell
from bgbench.runs.cells import LOST, record_failure
from bgbench.runs.executors import AbstractExecutor, Records
from bgbench.runs.records import Ending, Record, read_record
from bgbench.runs.runfolder import RunFolder
from bgbench.runs.subprocesses import Advanced, CellProcess, Limits
from bgbench.runs.throttle import Throttle

REPORT_EVERY = 0.2
"""Seconds between two reports of a cell's progress, at least."""


class OnDask(AbstractExecutor):
    """Dask workers, here or elsewhere; each runs its cells in a watched process of its own.

    If a sampler crashes, it ends that process and its own cell, nothing else. A Dask worker that dies is
    replaced and its cell run again, three times at most. The run folder must be on a file system that every
    worker sees. Workers are numbered from 0; each sees one of the GPUs `devices`, by their names in
    CUDA_VISIBLE_DEVICES, or the GPUs of this process where there are none.
    """

    def __init__(
        self,
        cluster: Callable[[Path], AbstractContextManager[Client]],
        limits: Limits,
        devices: Sequence[str] = (),
    ) -> None:
        self._cluster = cluster
        self._limits = limits
        self._devices = tuple(devices)

    def map(self, folder: RunFolder, cells: Sequence[Cell], advanced: Advanced) -> Records:
        if not cells:
            return
        path = folder.path.resolve()
        name = f"bgbench-{hashlib.sha256(str(path).encode()).hexdigest()[:16]}"
        by_name = {cell.name: cell for cell in cells}

        def on_progress(event: tuple[float, dict[str, Any]]) -> None:
            advanced(by_name[event[1]["cell"]], event[1]["n"])

        with self._cluster(path) as client:
            client.register_plugin(CellRunner(path, self._limits, self._devices), name)
            client.subscribe_topic(name, on_progress)
            keys = {f"{name}-{cell.name}-{time.time_ns()}": cell for cell in cells}
            futures = [
                client.submit(run_here, name, cell.model_dump(), key=key, pure=False)
                for key, cell in keys.items()
            ]
            try:
                for future in as_completed(futures):
                    yield record_of(future, keys[future.key], folder)
            finally:
                client.unsubscribe_topic(name)
                client.cancel(futures)
                client.unregister_worker_plugin(name)


def record_of(future: "Future[Any]", cell: Cell, folder: RunFolder) -> Record:
    """The record that a finished task left.

    Raises:
        BgbenchError: what a worker reports for the user to correct, or if the cluster was lost.
    """
    error = future.exception() if future.status == "error" else None
    if isinstance(error, KilledWorker):
        lost = Ending(status="crash", error=f"every Dask worker that ran it died: {error}", phase="running")
        return record_failure(cell, lost, folder)
    if error is not None:
        raise error
    if future.status != "finished":
        raise BgbenchError(f"the Dask cluster was lost ({future.status}); go on with --resume")
    return Record.model_validate_json(future.result())


class CellRunner(WorkerPlugin):
    """Lives in a Dask worker for the length of a run and holds its cell process."""

    def __init__(self, path: Path, limits: Limits, devices: Sequence[str]) -> None:
        self._path = path
        self._limits = limits
        self._devices = devices

    def setup(self, worker: Worker) -> None:
        """Called by Dask when the worker joins."""
        place = str(worker.name)
        visible = self._devices[int(place) % len(self._devices)] if self._devices else None
        self._worker = worker
        self._stop = threading.Event()
        self._busy = threading.Lock()
        self._folder: RunFolder | None = None
        self._process = CellProcess(self._path, replace(self._limits, visible_devices=visible))

    def teardown(self, worker: Worker) -> None:
        """Called by Dask when the run or the worker ends: so does the cell process."""
        del worker
        self._stop.set()
        with self._busy:
            self._process.close()

    def run(self, name: str, cell: Cell) -> str:
        """Run a cell into its record, whatever becomes of the process; the record's text.

        Raises:
            BgbenchError: if this machine does not see the run folder, or for another fault that the user can
                correct.
        """
        folder = self._opened()
        report = Throttle(lambda n: self._worker.log_event(name, {"cell": cell.name, "n": n}), REPORT_EVERY)
        with self._busy:
            ending = self._process.run(cell, lambda _, n: report.add(n), self._stop)
        report.flush()
        if ending is None:
            raise CancelledError(f"{cell.name} was stopped")
        if ending.status != "ok":
            return record_failure(cell, ending, folder).model_dump_json()
        return written_record(cell, folder).model_dump_json()

    def _opened(self) -> RunFolder:
        """The run folder, read once: a plan of thousands of cells takes longer to read than one of them."""
        if not (self._path / "run.json").is_file():
            raise BgbenchError(
                f"{self._path} is not there on worker {self._worker.address}: give an --out that all "
                f"workers see"
            )
        self._folder = self._folder or RunFolder.open(self._path)
        return self._folder


def written_record(cell: Cell, folder: RunFolder) -> Record:
    """The record that a worker says it wrote, or one of a failure if it is not there."""
    try:
        record = read_record(folder.record_path(cell))
        reason = "" if record.cell == cell else "it is that of another cell"
    except BgbenchError as error:
        reason = str(error)
    if not reason:
        return record
    lost = Ending(status="crash", error=f"{LOST} ({reason})")
    return record_failure(cell, lost, folder)


def run_here(name: str, cell: dict[str, Any]) -> str:
    """The task: run a cell by the `CellRunner` that this Dask worker holds for the run `name`."""
    runner = get_worker().plugins[name]
    if not isinstance(runner, CellRunner):
        raise TypeError(f"the plugin {name} is a {type(runner).__name__}, not a CellRunner")
    return runner.run(name, Cell(**cell))
