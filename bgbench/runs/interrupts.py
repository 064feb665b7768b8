"""Ctrl-C counts even where Python drops it: in a finalizer, a callback from C, a library's bare `except`."""

import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def interrupts() -> Iterator[Callable[[], None]]:
    """Yields a function that raises KeyboardInterrupt if an earlier one, raised in this context, was lost.

    What Python would print of a lost one, a traceback of the finalizer it fell into, is not printed.
    Only signals that would raise it anyway are watched: a notebook's or a service's own handlers stay, and
    so does everything outside the main thread, where Python takes no handlers.
    """
    heard: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        heard.append(number)
        signal.default_int_handler(number, frame)

    def raise_what_was_lost() -> None:
        if heard:
            raise KeyboardInterrupt

    watched = [
        number
        for number in (signal.SIGINT, signal.SIGTERM)
        if threading.current_thread() is threading.main_thread()
        and signal.getsignal(number) is signal.default_int_handler
    ]
    before = sys.unraisablehook

    def told(lost: "sys.UnraisableHookArgs") -> None:
        if not issubclass(lost.exc_type, KeyboardInterrupt):
            before(lost)

    for number in watched:
        signal.signal(number, note)
    if watched:
        sys.unraisablehook = told
    try:
        yield raise_what_was_lost
    finally:
        if watched:
            sys.unraisablehook = before
        for number in watched:
            signal.signal(number, signal.default_int_handler)
