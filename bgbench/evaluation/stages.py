"""Where a cell is: its stages, timed, and who hears of them."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any


def _silent(_: Any) -> None:
    return None


@dataclass(frozen=True)
class Watch:
    """Who hears how a cell goes: `advanced(n)`, n more conformers are done; `entered(stage)`."""

    advanced: Callable[[int], None] = _silent
    entered: Callable[[str], None] = _silent


class Stages:
    """`with stages("sampling"): …` books the seconds; after a failure `current` says where it was."""

    def __init__(self, entered: Callable[[str], None] = _silent) -> None:
        self.current = ""
        self.seconds: dict[str, float] = {}
        self._entered = entered

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        self.current = name
        self._entered(name)
        started = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - started
