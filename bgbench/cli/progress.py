"""Progress bars of runs and simulations, with a rate and the remaining time.

They are shown on a terminal only; elsewhere, as in the log of a job, a run prints a line for each cell."""

import itertools
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from bgbench.runs.observer import Observer

if TYPE_CHECKING:
    from bgbench.evaluation.cell import Cell
    from bgbench.runs.records import Record
    from bgbench.runs.runfolder import RunFolder


def bars_on(console: Console, *, quiet: bool) -> Progress:
    """Bars with count, rate and remaining time; disabled when quiet or when the console is no terminal."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=quiet or not console.is_terminal,
    )


class QuietObserver(Observer):
    """Prints notices, which tell of something that went wrong, and nothing else."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def notice(self, message: str) -> None:
        self._console.print(f"bgbench: {message}", markup=False, soft_wrap=True)


class CellLog:
    """A line of text for each finished cell of a run: how it ended, and how much is left.

    Args:
        total: cells to run.
        begun: when the first was started, s.
    """

    def __init__(self, total: int = 0, begun: float = 0.0) -> None:
        self._total = total
        self._begun = begun
        self._finished = 0

    def head(self, cells: "list[Cell]", folder: "RunFolder") -> str:
        """The line before the first cell: how many there are, of what size, and where the records will be."""
        what = "1 cell" if len(cells) == 1 else f"{len(cells)} cells"
        size = f" of {cells[0].budget:,} evaluations" if cells else " to run"
        until = "; the time left is estimated after the first" if len(cells) > 1 else ""
        return f"{what}{size}, into {folder.path}{until}"

    def line(self, record: "Record", now: float) -> str:
        """The line of one more cell, finished `now` (s); each cell left takes as long as those so far."""
        self._finished += 1
        name, error = record.cell.name, f": {record.error}" if record.error else ""
        left = self._total - self._finished
        remaining = (now - self._begun) / self._finished * left
        line = f"{name}: {record.status}{error}; {self._finished} of {self._total} cells"
        return f"{line}, about {write_duration(remaining)} left" if left > 0 else line


def write_duration(seconds: float) -> str:
    """A duration in words, to two digits or so.

    >>> write_duration(41.2), write_duration(150.0), write_duration(9000.0)
    ('41 s', '2.5 min', '2.5 h')
    """
    for unit, size in (("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.2g} {unit}"
    return f"{seconds:.0f} s"


class LiveObserver(Observer):
    """A bar for the cells and one for the running cell; in a log, a line for each finished cell."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bars = bars_on(console, quiet=False)
        self._cells: TaskID | None = None
        self._running: dict[str, TaskID] = {}
        self._lock = threading.Lock()
        self._log = CellLog()

    def started(self, folder: "RunFolder", cells: "list[Cell]") -> None:
        self._bars.start()
        self._cells = self._bars.add_task("cells", total=len(cells), rate="")
        self._log = CellLog(len(cells), begun=time.monotonic())
        if not self._console.is_terminal:
            self.notice(self._log.head(cells, folder))

    def advanced(self, cell: "Cell", n: int) -> None:
        with self._lock:
            self._advance(cell, n)

    def _advance(self, cell: "Cell", n: int) -> None:
        if cell.name not in self._running:
            starting = f"{cell.name}: preparing (the first run compiles kernels)"
            self._running[cell.name] = self._bars.add_task(starting, total=cell.budget, rate="")
        task = self._running[cell.name]
        if n:
            self._bars.update(task, description=cell.name)
        self._bars.advance(task, n)
        speed = self._bars.tasks[self._bars.task_ids.index(task)].speed
        self._bars.update(task, rate=f"{speed:,.0f}/s" if speed else "")

    def finished(self, record: "Record") -> None:
        with self._lock:
            if record.cell.name in self._running:
                self._bars.remove_task(self._running.pop(record.cell.name))
        if self._cells is not None:
            self._bars.advance(self._cells)
        line = self._log.line(record, time.monotonic())
        if record.status != "ok" or not self._console.is_terminal:
            self.notice(line)

    def ended(self) -> None:
        self._bars.stop()

    def notice(self, message: str) -> None:
        self._console.print(f"bgbench: {message}", markup=False, soft_wrap=True)


@contextmanager
def simulation_bars(
    console: Console, quiet: bool
) -> Iterator[Callable[[str], Callable[[int, int, float], None]]]:
    """A bar for each simulation under way, with ns/day.

    Yields a function that starts the bar of a system and returns another, of frames done, all frames, and
    ns/day. A bar goes when its last frame is done.
    """
    bars = bars_on(console, quiet=quiet)
    with bars:

        def begin(name: str) -> Callable[[int, int, float], None]:
            task = bars.add_task(f"{name}: starting", total=None, rate="")

            def progress(done: int, total: int, speed: float) -> None:
                bars.update(task, description=name, completed=done, total=total, rate=f"{speed:,.0f} ns/day")
                if done == total:
                    bars.remove_task(task)

            return progress

        yield begin


@contextmanager
def steps(
    console: Console, what: str, quiet: bool, total: int | None = None
) -> Iterator[Callable[[str], None]]:
    """A line that names the step under way, counts those done of `total`, and gives a rate.

    Yields a function to be called with the name of each step when it begins.
    """
    bars = bars_on(console, quiet=quiet)
    with bars:
        task = bars.add_task(what, total=total, rate="")
        steps_begun = itertools.count()

        def begin(step: str) -> None:
            bars.update(task, description=f"{what} {step}", completed=next(steps_begun))
            speed = bars.tasks[0].speed
            bars.update(task, rate=f"{60 * speed:,.1f}/min" if speed else "")

        yield begin
