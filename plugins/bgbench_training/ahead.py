"""Batches that are made while the device computes on those before."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

import torch

from bgbench_training.devices import pinned

DEPTH = 2
"""Batches that are made ahead."""

Batch = TypeVar("Batch")


class Ahead(Generic[Batch]):
    """Batches by number. For a GPU the next are made on a thread, in memory that it copies from by itself.

    Args:
        make: makes batch number k on the CPU, the same whenever it is called.
    """

    def __init__(self, make: Callable[[int], Batch]) -> None:
        self._make = make
        self._thread: ThreadPoolExecutor | None = None
        self._made: dict[int, Future[Batch]] = {}

    def __call__(self, number: int, device: torch.device) -> Batch:
        """Batch `number`, on the CPU, for `device`."""
        if device.type != "cuda":
            return self._make(number)
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, "bgbench-batches")
        # What was made for other numbers, before a run jumped, is of no use.
        wanted = range(number, number + DEPTH + 1)
        for other in [k for k in self._made if k not in wanted]:
            self._made.pop(other).cancel()
        for k in wanted:
            if k not in self._made:
                self._made[k] = self._thread.submit(self._make_pinned, k)
        return self._made.pop(number).result()

    def close(self) -> None:
        """End the thread; batches that nobody waits for are not made."""
        if self._thread is not None:
            self._thread.shutdown(cancel_futures=True)
        self._thread, self._made = None, {}

    def _make_pinned(self, number: int) -> Batch:
        return pinned(self._make(number))
