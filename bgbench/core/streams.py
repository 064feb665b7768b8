"""What a thread prints, sent elsewhere: to where it is looked at, or away from what a command prints."""

import io
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TextIO

from bgbench.core.threads import INHERITANCE

NAMES = ("stdout", "__stdout__")
"""What standard output is called in `sys`."""


@dataclass
class Diversion:
    """Where a block sends what is printed; `open` until it ends. It may lie in an `outer` one."""

    target: TextIO
    outer: "Diversion | None"
    open: bool = True


_DIVERSION = INHERITANCE.variable("diversion")
"""Of the block in which this thread is, or was started."""


class DividedStdout(io.TextIOBase):
    """Stands in for a stream of `sys`: sends elsewhere what diverted threads print, passes on all else."""

    def __init__(self, name: str) -> None:
        self._name = name
        self.stream: TextIO = getattr(sys, name)

    def stand_in(self) -> None:
        """Become that stream of `sys`, where it has one."""
        stream = getattr(sys, self._name)
        # Whoever diverted it inside an earlier block, and ended that after the block, has put this one back.
        if stream is not self:
            self.stream = stream
        if stream is not None:
            setattr(sys, self._name, self)

    def step_back(self) -> None:
        """Give `sys` its stream back, unless somebody has replaced it meanwhile."""
        if getattr(sys, self._name) is self:
            setattr(sys, self._name, self.stream)

    def write(self, text: str) -> int:
        """Write to where this thread's output goes."""
        return self._target().write(text)

    def flush(self) -> None:
        """Flush where this thread's output goes."""
        self._target().flush()

    def writable(self) -> bool:
        """It is."""
        return True

    def fileno(self) -> int:
        """Of the stream for which this one stands in."""
        return self.stream.fileno()

    def isatty(self) -> bool:
        """Of the stream for which this one stands in."""
        return self.stream.isatty()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)

    def _target(self) -> TextIO:
        diversion: Diversion | None = _DIVERSION.get()
        while diversion is not None and not diversion.open:
            diversion = diversion.outer
        return self.stream if diversion is None else diversion.target


class StandardOutput:
    """Diverts standard output of some threads. While there are such threads, and for no longer, others stand
    in for `sys.stdout` and `sys.__stdout__`.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._blocks = 0
        # For good: a thread that is printing holds no reference to what was `sys.stdout` when it began.
        self._stand_ins = [DividedStdout(name) for name in NAMES]

    @contextmanager
    def diverted(self, target: TextIO) -> Iterator[None]:
        """Send to `target` what this thread prints inside the block, and what those print that it starts.

        Blocks may lie in each other. Once a block has ended, threads that outlive it print where others do.
        """
        diversion = Diversion(target, _DIVERSION.get())
        with self._lock:
            self._blocks += 1
            if self._blocks == 1:
                for stream in self._stand_ins:
                    stream.stand_in()
        token = _DIVERSION.set(diversion)
        try:
            with INHERITANCE():
                yield
        finally:
            _DIVERSION.reset(token)
            diversion.open = False
            with self._lock:
                self._blocks -= 1
                if not self._blocks:
                    for stream in self._stand_ins:
                        stream.step_back()


STDOUT = StandardOutput()
"""One a process."""
