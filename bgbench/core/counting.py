"""Counts evaluations of energies, so that those that a sampler makes past its meter are noticed.

Counted is what the meter, `bgbench.energy` and any other `AbstractEnergy` compute in the thread that samples
and in the threads that it starts. What a sampler computes with an engine of its own, or in another process,
is out of sight: it is charged by the sampler (`task.oracle.charge`).
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from bgbench.core.threads import INHERITANCE


class Count:
    """Conformers whose energy has been evaluated."""

    def __init__(self) -> None:
        self.n = 0
        self.open = True


_LOCK = threading.Lock()
_COUNT = INHERITANCE.variable("evaluations")
"""Of the block in which this thread is or was started; none inside an evaluation, which has been counted."""
_OPEN: list[Count] = []


@contextmanager
def count_evaluations() -> Iterator[Count]:
    """Count the evaluations inside the block, in this thread and in those that it starts.

    A thread that outlives its block, as that of a pool, counts where one is open later.

    >>> import bgbench
    >>> system = bgbench.peptide("GG")
    >>> with count_evaluations() as count:
    ...     u = bgbench.energy(system).energy(system.positions.expand(3, -1, -1))
    >>> count.n
    3
    """
    count = Count()
    token = _COUNT.set(count)
    with _LOCK:
        _OPEN.append(count)
    try:
        with INHERITANCE():
            yield count
    finally:
        with _LOCK:
            count.open = False
            _OPEN.remove(count)
        _COUNT.reset(token)


@contextmanager
def evaluating(n: int) -> Iterator[None]:
    """Count `n` evaluations, made inside the block; an energy that asks another one counts once."""
    count: Count | None = _COUNT.get()
    if count is None:
        yield
        return
    with _LOCK:
        for each in [count] if count.open else _OPEN:
            each.n += n
    token = _COUNT.set(None)
    try:
        yield
    finally:
        _COUNT.reset(token)
