"""Kernels compiled by numba, cached where that is possible."""

from collections.abc import Callable
from typing import Any

from numba import njit


def compiled(**options: Any) -> Callable[[Callable[..., Any]], Any]:
    """numba's `njit` with a cache on disk where there is a place for one, else without.

    Of a read-only installation and a user without a home there is none, and numba refuses then.

    Args:
        options: of `numba.njit`, without `cache`.

    Returns:
        A decorator.

    >>> @compiled()
    ... def twice(x):
    ...     return 2 * x
    >>> twice(3)
    6
    """

    def decorate(function: Callable[..., Any]) -> Any:
        try:
            return njit(**options, cache=True)(function)
        except RuntimeError:
            return njit(**options)(function)

    return decorate
