"""What a sampler may not touch while it samples: global generators, threads, dtype, folder, output.

Whatever it changed is restored, so that the next cell of the process finds things as they were, and an error
says what was changed.
"""

import io
import os
import random
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TextIO

import numpy as np
import torch

from bgbench.core.errors import BrokenContract

SHOWN = 200
"""Characters of forbidden output that the error quotes."""


@dataclass(frozen=True)
class Global:
    """Something global: how to read it, how to restore it, and what to say of a sampler that changed it."""

    read: Callable[[], Any]
    restore: Callable[[Any], Any]
    complaint: str


GENERATOR = "drew from or seeded the global generator of {}; draw from task.generator"
GLOBALS = (
    Global(torch.get_rng_state, torch.set_rng_state, GENERATOR.format("torch")),
    Global(
        lambda: np.random.get_state(),  # noqa: NPY002
        lambda state: np.random.set_state(state),  # noqa: NPY002
        GENERATOR.format("numpy"),
    ),
    Global(random.getstate, random.setstate, GENERATOR.format("Python")),
    Global(torch.get_num_threads, torch.set_num_threads, "changed torch's threads, which executors set"),
    Global(torch.get_default_dtype, torch.set_default_dtype, "changed torch's default dtype"),
    Global(torch.is_grad_enabled, torch.set_grad_enabled, "left gradients switched over"),
    Global(os.getcwd, os.chdir, "changed the working folder"),
)


@contextmanager
def contained() -> Iterator[None]:
    """Run a sampler in this block.

    Only what this thread prints counts: other threads, as of a notebook, print where they always do.

    Raises:
        BrokenContract: if the block ended well but changed something global or wrote to standard output.
    """
    before = [(item, item.read()) for item in GLOBALS]
    try:
        with STDOUT.collected() as printed:
            yield
    finally:
        changed = [item.complaint for item, value in before if _restore(item, value)]
    if text := printed.getvalue()[:SHOWN]:
        changed.append(f"wrote {text!r} to standard output; report with task.progress")
    if changed:
        raise BrokenContract(f"the sampler {', and '.join(changed)}")


class DividedStdout(io.TextIOBase):
    """Standard output that collects what some threads print, and passes on what all others do.

    It stands in for `sys.stdout` while some thread is collected, and for no longer.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._collected: dict[int, io.StringIO] = {}
        self._stream: TextIO = sys.stdout

    @contextmanager
    def collected(self) -> Iterator[io.StringIO]:
        """Collect what this thread prints inside the block; blocks may lie in each other."""
        thread, printed = threading.get_ident(), io.StringIO()
        with self._lock:
            if not self._collected:
                self._stream, sys.stdout = sys.stdout, self
            outer = self._collected.get(thread)
            self._collected[thread] = printed
        try:
            yield printed
        finally:
            with self._lock:
                if outer is None:
                    del self._collected[thread]
                else:
                    self._collected[thread] = outer
                # Whoever has replaced it meanwhile keeps his own.
                if not self._collected and sys.stdout is self:
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
        return self._collected.get(threading.get_ident(), self._stream)


STDOUT = DividedStdout()
"""One a process, which `sys.stdout` is for as long as a sampler runs."""


def _restore(item: Global, value: Any) -> bool:
    """Restore the value; True where it had been changed."""
    if _same(item.read(), value):
        return False
    item.restore(value)
    return True


def _same(one: Any, two: Any) -> bool:
    if isinstance(one, torch.Tensor):
        return torch.equal(one, two)
    if isinstance(one, np.ndarray):
        return np.array_equal(one, two)
    if isinstance(one, tuple):
        return all(_same(a, b) for a, b in zip(one, two, strict=True))
    return bool(one == two)
