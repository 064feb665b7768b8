"""Numbers that come thousands of times a second, passed on a few times a second."""

import math
import time
from collections.abc import Callable


class Throttle:
    """Adds numbers up, and passes the sum on; the first at once, further ones after `every` seconds.

    Args:
        send: is called with each sum.
        every: seconds between two calls, at least.

    >>> sums = []
    >>> throttle = Throttle(sums.append, every=60.0)
    >>> for n in (1, 2, 3):
    ...     throttle.add(n)
    >>> sums, throttle.take()
    ([1], 5)
    """

    def __init__(self, send: Callable[[int], None], every: float) -> None:
        self._send, self._every = send, every
        self._sum, self._last = 0, -math.inf

    def add(self, n: int) -> None:
        """Count n more."""
        self._sum += n
        if time.monotonic() >= self._last + self._every:
            self.flush()

    def flush(self) -> None:
        """Pass on what has not been yet."""
        self._send(self.take())
        self._last = time.monotonic()

    def take(self) -> int:
        """Take back what has not been passed on, for another message."""
        total, self._sum = self._sum, 0
        return total
