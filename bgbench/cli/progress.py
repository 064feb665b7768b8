"""Progress bars of runs and simulations, with a rate and the remaining time.

They are shown on a terminal only."""

import itertools
import threading
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
        self._console.print(f"bgbench: {message}", soft_wrap=True)


class LiveObserver(Observer):
    """A bar for the cells and one for the running cell; silent when the console is no terminal."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bars = bars_on(console, quiet=False)
        self._cells: TaskID | None = None
        self._running: dict[str, TaskID] = {}
        self._lock = threading.Lock()

    def started(self, folder: "RunFolder", cells: "list[Cell]") -> None:
        del folder
        self._bars.start()
        self._cells = self._bars.add_task("cells", total=len(cells), rate="")

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
        if record.status != "ok":
            self.notice(f"{record.cell.name}: {record.status}: {record.error}")

    def ended(self) -> None:
        self._bars.stop()

    def notice(self, message: str) -> None:
        self._console.print(f"bgbench: {message}", markup=False, soft_wrap=True)


@contextmanager
def simulation_bar(console: Console, name: str, quiet: bool) -> Iterator[Callable[[int, int, float], None]]:
    """A bar for one simulation, with ns/day. Yields a function of frames done, all frames, and ns/day."""
    bars = bars_on(console, quiet=quiet)
    with bars:
        task = bars.add_task(f"{name}: starting", total=None, rate="")

        def progress(done: int, total: int, ns_per_day: float) -> None:
            bars.update(task, description=name, completed=done, total=total, rate=f"{ns_per_day:,.0f} ns/day")

        yield progress


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
