"""OpenMM's one thread and its caller on one core: between two they wake each other, several times a step.

Waking a core that sleeps takes tens of microseconds, more than the pass it is woken for: 38 atoms made 606
steps a second beside an idle core and 3,170 on one core together.
"""

import os
import threading
import time
from pathlib import Path

TASKS = Path("/proc/self/task")
SPAN = 0.2
"""Seconds after which a core is chosen anew."""
OWN = 0.8
"""A core that gives less of its time than this works for others too: leave the choice to the system."""
PROCESSOR = 36
"""The field of `/proc/…/stat` after the name with the core a thread ran on last."""


def threads() -> set[int]:
    """Of this process, where the system tells (Linux)."""
    return {int(task.name) for task in TASKS.iterdir()} if TASKS.exists() else set()


class OneCore:
    """Holds `pool`'s threads and the caller together; `renew` now and then, `release` at the end."""

    def __init__(self, pool: set[int]) -> None:
        self._threads = {threading.get_native_id(), *pool} if pool else set[int]()
        self._allowed = os.sched_getaffinity(0) if self._threads else set[int]()
        self._held = False
        self._begin()

    def renew(self) -> None:
        """Choose a core again if it is time: the caller's, unless another process worked on it meanwhile."""
        elapsed = time.perf_counter() - self._started
        if not self._threads or elapsed < SPAN:
            return
        mine = time.process_time() - self._used >= OWN * elapsed
        if self._held and not mine:
            self.release()
        elif not self._held:
            self._move({_core()})
            self._held = True
        self._begin()

    def release(self) -> None:
        """Every thread may run wherever the caller might before."""
        if self._held:
            self._move(self._allowed)
            self._held = False

    def _begin(self) -> None:
        self._started, self._used = time.perf_counter(), time.process_time()

    def _move(self, cores: set[int]) -> None:
        for thread in self._threads & threads():
            os.sched_setaffinity(thread, cores)


def _core() -> int:
    stat = (TASKS / str(threading.get_native_id()) / "stat").read_text()
    return int(stat.rpartition(")")[2].split()[PROCESSOR])
