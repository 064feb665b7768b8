"""The interface of what runs cells, and the executor that runs them in this process."""

from abc import ABC, abstractmethod
from collections.abc import Generator, Sequence
from functools import partial

import torch

from bgbench.core.devices import CPU
from bgbench.evaluation.cell import Cell
from bgbench.evaluation.stages import Watch
from bgbench.runs.cells import execute
from bgbench.runs.process import limited
from bgbench.runs.records import Record
from bgbench.runs.runfolder import RunFolder
from bgbench.runs.subprocesses import Advanced

Records = Generator[Record, None, None]


class AbstractExecutor(ABC):
    """Runs cells of a run. The records do not depend on which executor it was."""

    apart: bool = True
    """Whether cells run in other processes than this one."""

    notice: str = ""
    """What the user should know once `map` has ended."""

    @abstractmethod
    def map(self, folder: RunFolder, cells: Sequence[Cell], advanced: Advanced) -> Records:
        """Yield records in the order in which cells end.

        Args:
            folder: the run; records and arrays are written there.
            cells: of the plan.
            advanced: called with a cell and the number of conformers that it produced since the last call.
        """


class InProcess(AbstractExecutor):
    """One cell after another in this process: for tests, debuggers and notebooks. Nothing is isolated."""

    apart = False

    def __init__(self, threads: int = 1, device: torch.device = CPU) -> None:
        self._threads, self._device = threads, device

    def map(self, folder: RunFolder, cells: Sequence[Cell], advanced: Advanced) -> Records:
        for cell in cells:
            with limited(self._threads):
                record = execute(cell, folder, Watch(partial(advanced, cell)), self._device)
            yield record
