"""Who is informed while a run goes on."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bgbench.evaluation.cell import Cell
    from bgbench.runs.records import Record
    from bgbench.runs.runfolder import RunFolder


class Observer:
    """Is called at every step of a run and does nothing. Subclass it to show progress.

    All methods are called in the thread that called `bgbench.run`, except `advanced`, which Dask calls in
    a thread of its own.
    """

    def started(self, folder: "RunFolder", cells: "list[Cell]") -> None:
        """Called once before the first of `cells` starts; the records will be in `folder`."""

    def advanced(self, cell: "Cell", n: int) -> None:
        """Called when `n` more conformers of `cell` have been produced."""

    def finished(self, record: "Record") -> None:
        """Called after a record has been written."""

    def ended(self) -> None:
        """Called when no more cells will run, whether or not all of them are finished."""

    def notice(self, message: str) -> None:
        """Called with a sentence that the user should read."""
