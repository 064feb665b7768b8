"""Axes of figures: logarithmic ones whose ticks can be read, however little they span."""

import math
import sys
from collections.abc import Sequence
from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import NullLocator

DECADES = 1.0
"""Numbers that span more are drawn on a logarithmic axis."""

FEWEST_TICKS, MOST_TICKS = 3, 7
"""Labels on a logarithmic axis."""


def set_scale(ax: Axes, side: Literal["x", "y"], values: Sequence[float]) -> None:
    """Make an axis logarithmic where `values` are positive and span more than a decade; else leave it."""
    if values and min(values) > 0 and max(values) > 10**DECADES * min(values):
        set_log(ax, side, values)


def set_log(ax: Axes, side: Literal["x", "y"], values: Sequence[float]) -> None:
    """Make an axis logarithmic, a little wider than the positive ones of `values`, with labels in between.

    What matplotlib labels by itself, powers of ten, may all lie outside.
    """
    positive = [value for value in values if 0 < value < math.inf] or [1.0]
    # By logarithms: quotients of numbers that lie far apart are infinite.
    margin = max(1.15, 10 ** ((math.log10(max(positive)) - math.log10(min(positive))) * 0.06))
    low = max(min(positive) / margin, sys.float_info.min)
    high = min(max(positive) * margin, sys.float_info.max)
    ticks = log_ticks(low, high)
    axis = ax.xaxis if side == "x" else ax.yaxis
    ax.set(**{f"{side}scale": "log", f"{side}lim": (low, high)})
    axis.set_minor_locator(NullLocator())
    axis.set_ticks(ticks, [tick_text(tick) for tick in ticks])


def log_ticks(low: float, high: float) -> list[float]:
    """Round numbers from `low` to `high`, three to seven of them: powers of ten, or what lies between.

    >>> log_ticks(0.5, 2e6)
    [1.0, 10.0, 100.0, 1000.0, 10000.0, 100000.0, 1000000.0]
    >>> log_ticks(1e-8, 1e5)
    [1e-08, 1e-06, 0.0001, 0.01, 1.0, 100.0, 10000.0]
    >>> log_ticks(30.0, 70.0)
    [30.0, 40.0, 50.0, 60.0, 70.0]
    >>> log_ticks(0.61, 0.64)
    [0.61, 0.62, 0.63, 0.64]
    """
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    few = max(1, (last - first) // MOST_TICKS)
    steps = (*range(few, 0, -1), *range(few + 1, last - first))
    ladders: list[tuple[range, tuple[int, ...]]] = [
        *((range(first, last + 1, step), (1,)) for step in steps),
        (range(first, last + 1), (1, 2, 5)),
        (range(first, last + 1), (1, 2, 3, 5)),
        (range(first, last + 1), tuple(range(1, 10))),
    ]
    for powers, digits in ladders:
        ticks = [float(f"{digit}e{power}") for power in powers for digit in digits]
        inside = [tick for tick in ticks if low <= tick <= high]
        if FEWEST_TICKS <= len(inside) <= MOST_TICKS:
            return inside
    return _linear_ticks(low, high)


def _linear_ticks(low: float, high: float) -> list[float]:
    """Multiples of 1, 2 or 5 times a power of ten, where a logarithmic axis is as good as a linear one."""
    power = 10.0 ** math.floor(math.log10((high - low) / FEWEST_TICKS))
    for step in (5 * power, 2 * power, power):
        numbers = np.arange(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)
        if len(numbers) >= FEWEST_TICKS:
            break
    return [float(f"{number * step:.12g}") for number in numbers]


def tick_text(value: float) -> str:
    """A number as ticks show it; far powers of ten as such.

    >>> [tick_text(value) for value in (0.2, 50.0, 1000.0, 100000.0)]
    ['0.2', '50', '1000', '$10^{5}$']
    """
    power = math.log10(value)
    return f"$10^{{{round(power)}}}$" if abs(power) > 3.5 and power == round(power) else f"{value:g}"
