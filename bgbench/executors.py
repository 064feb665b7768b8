"""Where cells run: one interface, any number of places. Each yields records as they end."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence

from bgbench.records import Cell, Record


class AbstractExecutor(ABC):
    """Applies `work` to cells."""

    @abstractmethod
    def map(self, work: Callable[[Cell], Record], cells: Sequence[Cell]) -> Iterator[Record]:
        """Records in the order in which cells end."""


class InProcess(AbstractExecutor):
    """One cell after another, in this process."""

    def map(self, work: Callable[[Cell], Record], cells: Sequence[Cell]) -> Iterator[Record]:
        return map(work, cells)
