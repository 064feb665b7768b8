"""Counts evaluations of target energies, so that those that a sampler makes past its meter are noticed.

Counted is what `bgbench.energy` and the meter compute in the calling thread. What a sampler computes with an
engine of its own is out of sight: it is charged by the sampler (`task.oracle.charge`).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar


class Count:
    """Conformers whose energy has been evaluated."""

    def __init__(self) -> None:
        self.n = 0


_COUNT: ContextVar[Count | None] = ContextVar("evaluations", default=None)


@contextmanager
def count_evaluations() -> Iterator[Count]:
    """Count the target's evaluations inside the block, in this thread.

    >>> import bgbench
    >>> system = bgbench.peptide("GG")
    >>> with count_evaluations() as count:
    ...     u = bgbench.energy(system).energy(system.positions.expand(3, -1, -1))
    >>> count.n
    3
    """
    count = Count()
    token = _COUNT.set(count)
    try:
        yield count
    finally:
        _COUNT.reset(token)


@contextmanager
def evaluating(n: int) -> Iterator[None]:
    """Count `n` evaluations, made inside the block; an energy that asks another one counts once."""
    count = _COUNT.get()
    if count is None:
        yield
        return
    count.n += n
    token = _COUNT.set(None)
    try:
        yield
    finally:
        _COUNT.reset(token)
