"""Logarithmic axes for pictures drawn as SVG: where a value lies, and where ticks go."""

import math
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Scale:
    """Maps `low … high` (both above zero) on logarithmic axes to `start … end` pixels."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        """Pixels of a value; those off the axis lie on its edge."""
        inside = min(max(value, self.low), self.high)
        fraction = math.log(inside / self.low) / math.log(self.high / self.low)
        return round(self.start + fraction * (self.end - self.start), 1)

    def ticks(self) -> list[float]:
        """Powers of ten on the axis; with fewer than three of them 3s, or 2s and 5s, as well."""
        first, last = math.floor(math.log10(self.low)), math.ceil(math.log10(self.high))
        for steps in ((1.0,), (1.0, 3.0), (1.0, 2.0, 5.0)):
            ticks = [s * 10.0**k for k in range(first, last + 1) for s in steps]
            shown = [value for value in ticks if self.low * 0.999 <= value <= self.high * 1.001]
            if len(shown) >= 3:
                return shown
        return shown


def scale(values: Iterable[float], start: float, end: float, margin: float = 1.15) -> Scale | None:
    """The scale that holds all positive `values`, with a margin; None without any."""
    positive = [value for value in values if value > 0 and math.isfinite(value)]
    if not positive:
        return None
    return Scale(min(positive) / margin, max(positive) * margin, start, end)


def short(value: float) -> str:
    """A tick's label."""
    if value >= 1e6:
        return f"{value / 1e6:g}M"
    return f"{value / 1e3:g}k" if value >= 1e3 else f"{value:g}"
