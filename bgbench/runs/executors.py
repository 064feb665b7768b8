"""Where cells run: one interface, any number of places. Each yields records as cells end."""

from abc import ABC, abstractmethod
from collections.abc import Generator, Sequence
from functools import partial

from bgbench.evaluation.cell import Cell
from bgbench.evaluation.stages import Watch
from bgbench.runs.cells import execute
from bgbench.runs.process import limited
from bgbench.runs.records import Record
from bgbench.runs.runfolder import RunFolder
from bgbench.runs.subprocesses import Advanced

Records = Generator[Record, None, None]


class AbstractExecutor(ABC):
    """Runs cells of a run; the records are the same whichever does it."""

    apart: bool = True
    """Whether cells run in other processes than this one."""

    @abstractmethod
    def map(self, folder: RunFolder, cells: Sequence[Cell], advanced: Advanced) -> Records:
        """Records in the order in which cells end; `advanced(cell, n)` hears of conformers done."""


class InProcess(AbstractExecutor):
    """One cell after another in this process: for tests, debuggers and notebooks. Nothing is isolated."""

    apart = False

    def __init__(self, threads: int = 1) -> None:
        self._threads = threads

    def map(self, folder: RunFolder, cells: Sequence[Cell], advanced: Advanced) -> Records:
        for cell in cells:
            with limited(self._threads):
                record = execute(cell, folder, Watch(partial(advanced, cell)))
            yield record
