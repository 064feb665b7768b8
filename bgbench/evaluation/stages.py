"""Where a cell is: its stages, timed, and who listens to them."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any


def _ignore(_: Any) -> None:
    return None


@dataclass(frozen=True)
class Watch:
    """What is called while a cell runs.

    Attributes:
        advanced: `advanced(n)`, when n more conformers are done.
        entered: `entered(stage)`, when a stage begins.
        judged: `judged(judgement)`, when the scores are there, whatever becomes of the cell afterwards.
    """

    advanced: Callable[[int], None] = _ignore
    entered: Callable[[str], None] = _ignore
    judged: Callable[[Any], None] = _ignore


class Stages:
    """Books the seconds of each stage; after a failure `current` is the stage it happened in.

    >>> stages = Stages()
    >>> with stages("sampling"):
    ...     pass
    >>> stages.current, list(stages.seconds)
    ('sampling', ['sampling'])
    """

    def __init__(self, entered: Callable[[str], None] = _ignore) -> None:
        self.current = ""
        self.seconds: dict[str, float] = {}
        self._entered = entered

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        """Book the block's seconds under `name`."""
        self.current = name
        self._entered(name)
        started = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - started
