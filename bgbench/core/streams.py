"""What a thread prints, sent elsewhere: to where it is looked at, or away from what a command prints."""

import io
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO


class DividedStdout(io.TextIOBase):
    """Standard output that sends elsewhere what some threads print, and passes on what all others do.

    It stands in for `sys.stdout` while some thread is diverted, and for no longer.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._diverted: dict[int, TextIO] = {}
        self._stream: TextIO = sys.stdout

    @contextmanager
    def diverted(self, target: TextIO) -> Iterator[None]:
        """Send what this thread prints inside the block to `target`; blocks may lie in each other."""
        thread = threading.get_ident()
        with self._lock:
            if not self._diverted:
                self._stream, sys.stdout = sys.stdout, self
            outer = self._diverted.get(thread)
            self._diverted[thread] = target
        try:
            yield
        finally:
            with self._lock:
                if outer is None:
                    del self._diverted[thread]
                else:
                    self._diverted[thread] = outer
                # Whoever has replaced it meanwhile keeps his own.
                if not self._diverted and sys.stdout is self:
                    sys.stdout = self._stream

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
        return self._stream.fileno()

    def isatty(self) -> bool:
        """Of the stream for which this one stands in."""
        return self._stream.isatty()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def _target(self) -> TextIO:
        return self._diverted.get(threading.get_ident(), self._stream)


STDOUT = DividedStdout()
"""One a process, which `sys.stdout` is for as long as a sampler runs."""
