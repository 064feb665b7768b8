"""Where cells run: one interface, any number of places. Each yields records as cells end."""

import queue
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bgbench.records import Cell, Record, Status
from bgbench.subprocesses import CellProcess, Limits


def _ignore(_: Cell, __: int) -> None:
    return None


@dataclass(frozen=True)
class Job:
    """What an executor needs of a run.

    `execute` runs a cell here; `collect` reads the record a worker wrote; `bury` writes the record of a
    cell whose worker died, with its status and cause; `advanced` hears of conformers done.
    """

    folder: Path
    execute: Callable[[Cell], Record]
    collect: Callable[[Cell], Record]
    bury: Callable[[Cell, Status, str], Record]
    advanced: Callable[[Cell, int], None] = _ignore


class AbstractExecutor(ABC):
    """Runs the cells of a job."""

    @abstractmethod
    def map(self, job: Job, cells: Sequence[Cell]) -> Iterator[Record]:
        """Records in the order in which cells end."""


class InProcess(AbstractExecutor):
    """One cell after another in this process: for tests, debuggers and notebooks."""

    def map(self, job: Job, cells: Sequence[Cell]) -> Iterator[Record]:
        return map(job.execute, cells)


class Workers(AbstractExecutor):
    """Worker processes that outlive a cell but not a crash: what a sampler breaks is its own cell."""

    def __init__(self, limits: Limits, n_workers: int = 1) -> None:
        self._n_workers = n_workers
        self._limits = limits

    def map(self, job: Job, cells: Sequence[Cell]) -> Iterator[Record]:
        todo: queue.SimpleQueue[Cell] = queue.SimpleQueue()
        for cell in cells:
            todo.put(cell)
        done: queue.SimpleQueue[Record | BaseException] = queue.SimpleQueue()
        stop = threading.Event()
        arguments = (job, todo, done, stop)
        count = min(self._n_workers, len(cells))
        threads = [threading.Thread(target=self._serve, args=arguments, daemon=True) for _ in range(count)]
        for thread in threads:
            thread.start()
        try:
            for _ in cells:
                result = done.get()
                if isinstance(result, BaseException):
                    raise result
                yield result
        finally:
            stop.set()
            for thread in threads:
                thread.join()

    def _serve(
        self,
        job: Job,
        todo: "queue.SimpleQueue[Cell]",
        done: "queue.SimpleQueue[Record | BaseException]",
        stop: threading.Event,
    ) -> None:
        process = CellProcess(job.folder, self._limits)
        try:
            while not stop.is_set():
                cell = todo.get_nowait()
                ended = process.run(cell, job.advanced, stop)
                if ended is not None:
                    record = job.bury(cell, *ended) if ended[0] != "ok" else job.collect(cell)
                    done.put(record)
        except queue.Empty:
            pass
        except BaseException as error:
            done.put(error)
        finally:
            process.close()
