"""Hands what a block has set on to the threads that it starts, which begin with nothing set.

Threads that others start beside the block, as a notebook's, are left alone.
"""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, ParamSpec, TypeVar

T = TypeVar("T")
P = ParamSpec("P")


class Inheritance:
    """Makes threads inherit variables from where they are started, and tasks of a pool from where they are
    submitted.

    Python does so from 3.14 on, where it is told to. Until then `Thread.start` and
    `ThreadPoolExecutor.submit` are replaced while some block needs it, and for no longer.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._variables: list[ContextVar[Any]] = []
        self._blocks = 0
        self._start = threading.Thread.start
        self._submit = ThreadPoolExecutor.submit

    def variable(self, name: str) -> ContextVar[Any]:
        """A new variable that is inherited; None where nothing set it."""
        variable: ContextVar[Any] = ContextVar(name, default=None)
        self._variables.append(variable)
        return variable

    @contextmanager
    def __call__(self) -> Iterator[None]:
        """Threads that are started inside the block inherit; blocks may lie in each other."""
        with self._lock:
            self._blocks += 1
            if self._blocks == 1:
                self._replace()
        try:
            yield
        finally:
            with self._lock:
                self._blocks -= 1
                if not self._blocks:
                    self._restore()

    def handed_on(self, function: Callable[P, T]) -> Callable[P, T]:
        """The function, to be called in another thread with what the variables are here and now."""
        values = [(variable, variable.get()) for variable in self._variables]

        def call(*args: P.args, **kwargs: P.kwargs) -> T:
            tokens = [(variable, variable.set(value)) for variable, value in values]
            try:
                return function(*args, **kwargs)
            finally:
                for variable, token in tokens:
                    variable.reset(token)

        return call

    def _replace(self) -> None:
        self._start, self._submit = start, submit = threading.Thread.start, ThreadPoolExecutor.submit

        def start_inheriting(thread: threading.Thread) -> None:
            thread.run = self.handed_on(thread.run)  # type: ignore[method-assign]
            start(thread)

        def submit_inheriting(
            pool: ThreadPoolExecutor, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs
        ) -> Future[T]:
            return submit(pool, self.handed_on(fn), *args, **kwargs)

        self._ours = start_inheriting, submit_inheriting
        threading.Thread.start = start_inheriting  # type: ignore[method-assign, assignment]
        ThreadPoolExecutor.submit = submit_inheriting  # type: ignore[method-assign, assignment]

    def _restore(self) -> None:
        # Whoever has replaced them meanwhile keeps his own.
        if threading.Thread.start is self._ours[0]:
            threading.Thread.start = self._start  # type: ignore[method-assign]
        if ThreadPoolExecutor.submit is self._ours[1]:
            ThreadPoolExecutor.submit = self._submit  # type: ignore[method-assign]


INHERITANCE = Inheritance()
"""One a process, since there is one class of threads."""
