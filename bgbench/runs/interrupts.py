"""Ctrl-C ends a run even where Python loses the KeyboardInterrupt: in a finalizer, in a callback from C, or
in a bare `except` of a library."""

import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def interrupts() -> Iterator[Callable[[], None]]:
    """Yields a function that raises KeyboardInterrupt if an earlier one, raised in this context, was lost.

    Python would print a lost one as the traceback of a finalizer; inside the block it does not. Only signals
    that raise KeyboardInterrupt anyway are watched: the handlers of a notebook or a service stay, and outside
    the main thread, where Python accepts no handlers, nothing is watched.
    """
    signals: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        signals.append(number)
        signal.default_int_handler(number, frame)

    def raise_lost_interrupt() -> None:
        if signals:
            raise KeyboardInterrupt

    watched = [
        number
        for number in (signal.SIGINT, signal.SIGTERM)
        if threading.current_thread() is threading.main_thread()
        and signal.getsignal(number) is signal.default_int_handler
    ]
    before = sys.unraisablehook

    def hook(lost: "sys.UnraisableHookArgs") -> None:
        if not issubclass(lost.exc_type, KeyboardInterrupt):
            before(lost)

    for number in watched:
        signal.signal(number, note)
    if watched:
        sys.unraisablehook = hook
    try:
        yield raise_lost_interrupt
    finally:
        if watched:
            sys.unraisablehook = before
        for number in watched:
            signal.signal(number, signal.default_int_handler)
