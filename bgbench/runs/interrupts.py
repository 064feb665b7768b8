"""Ctrl-C ends a run even where Python loses the KeyboardInterrupt: in a finalizer, in a callback from C, or
in a bare `except` of a library."""

import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
"""Signals that end a run: Ctrl-C, kill, the end of a terminal, Ctrl-\\."""


class Interrupt(KeyboardInterrupt):
    """A KeyboardInterrupt that a signal raised, and nobody's code."""


def is_interrupt(error: BaseException) -> bool:
    """Whether an exception of a cell is meant for the whole run: a KeyboardInterrupt of a signal.

    Where the signals are not watched, as in a thread or under a notebook's own handlers, nobody can tell who
    raised it.

    >>> is_interrupt(ValueError()), is_interrupt(KeyboardInterrupt())
    (False, True)
    """
    watched = getattr(signal.getsignal(signal.SIGINT), "__qualname__", "") == NOTE
    return isinstance(error, Interrupt if watched else KeyboardInterrupt)


def end_by_signals() -> None:
    """Let every signal of ENDING raise KeyboardInterrupt, as Ctrl-C does. What is ignored stays so: `nohup`
    ignores the end of a terminal."""
    for number in ENDING:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler)


NOTE = "interrupts.<locals>.note"


@contextmanager
def interrupts() -> Iterator[Callable[[], None]]:
    """Yields a function that raises KeyboardInterrupt if an earlier one, raised in this context, was lost.

    Python would print a lost one as the traceback of a finalizer; inside the block it does not. Only signals
    that raise KeyboardInterrupt anyway are watched: the handlers of a notebook or a service stay, and outside
    the main thread, where Python accepts no handlers, nothing is watched.
    """
    signals: list[int] = []

    def note(number: int, _: FrameType | None) -> None:
        signals.append(number)
        raise Interrupt

    def raise_lost_interrupt() -> None:
        if signals:
            raise KeyboardInterrupt

    watched = [
        number
        for number in ENDING
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
