"""∫ f dt by Gauss–Kronrod pairs (Kronrod, 1965; QUADPACK, 1983), panels halved where the pairs disagree."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Rule:
    """A Gauss rule and Kronrod's of twice its points and one, on [−1, 1].

    `places` are Kronrod's from the end to the middle, `fine` their weights; `coarse` are Gauss's, of every
    second place.
    """

    places: tuple[float, ...]
    fine: tuple[float, ...]
    coarse: tuple[float, ...]

    @property
    def n_points(self) -> int:
        """Values that the rule asks for."""
        return 2 * len(self.places) - 1

    def points(self, start: float, end: float) -> Tensor:
        """The times of one panel, in its direction, `(n_points,)` float64."""
        half = torch.tensor(self.places, dtype=torch.float64)
        unit = torch.cat([-half, half[:-1].flip(0)])
        return (start + end) / 2 + (end - start) / 2 * unit

    def pair(self, f: Tensor, start: float, end: float) -> tuple[Tensor, Tensor]:
        """Integrals by the finer and the coarser rule of values `f (n_points, n)`."""
        fine, coarse = _mirrored(self.fine).to(f), _mirrored(self.coarse).to(f)
        width = (end - start) / 2
        return width * (fine @ f), width * (coarse @ f[1::2])


def _mirrored(half: Sequence[float]) -> Tensor:
    left = torch.tensor(half, dtype=torch.float64)
    return torch.cat([left, left[:-1].flip(0)])


SEVEN = Rule(
    places=(0.960491268708020283, 0.774596669241483377, 0.434243749346802558, 0.0),
    fine=(0.104656226026467265, 0.268488089868333441, 0.401397414775962223, 0.450916538658474142),
    coarse=(0.555555555555555556, 0.888888888888888889),
)
FIFTEEN = Rule(
    places=(
        0.991455371120812639, 0.949107912342758525, 0.864864423359769073, 0.741531185599394440,
        0.586087235467691130, 0.405845151377397167, 0.207784955007898468, 0.0,
    ),
    fine=(
        0.022935322010529225, 0.063092092629978553, 0.104790010322250184, 0.140653259715525919,
        0.169004726639267903, 0.190350578064785410, 0.204432940075298892, 0.209482141084727828,
    ),
    coarse=(0.129484966168869693, 0.279705391489276668, 0.381830050505118945, 0.417959183673469388),
)  # fmt: skip

START = ((0.0, 0.4, SEVEN), (0.4, 0.75, SEVEN), (0.75, 1.0, FIFTEEN))
"""Noise becomes a conformer late, so most points lie there. log q of 24 draws of `tbg-mini` on the validation
peptides AL and HV errs by 0.002 and 0.009 nats at worst with these 29 points, by 0.020 and 0.012 with 22 over
[0, 0.6] and [0.6, 1]."""

NARROWEST = 2.0**-10
"""A panel that must be halved further never settles."""

Asked = Sequence[tuple[Tensor, Tensor]]


def n_points() -> int:
    """Values that an integral asks for where no panel is halved."""
    return sum(rule.n_points for *_, rule in START)


def integral(values: Callable[[Asked], list[Tensor]], n: int, tolerance: float) -> Tensor:
    """∫ over [0, 1] of n functions, `(n,)`.

    `values` is given times `(points,)` and rows `(k,)` of each panel and returns `(points, k)` of each; times
    rise from panel to panel. A panel is halved for the rows whose two rules differ there by more than
    `tolerance`, and for these alone; the answer is the finer rule's, whose own error is far smaller.

    Raises:
        ArithmeticError: if a panel of `NARROWEST` still disagrees.
    """
    panels = [(*panel, torch.arange(n)) for panel in START]
    settled = []
    while panels:
        left = []
        found = values([(rule.points(start, end), rows) for start, end, rule, rows in panels])
        for (start, end, rule, rows), f in zip(panels, found, strict=True):
            fine, coarse = rule.pair(f, start, end)
            apart = ((fine - coarse).detach().abs() > tolerance).to(rows.device)
            settled.append((rows[~apart], fine[~apart.to(fine.device)]))
            if apart.any() and end - start <= NARROWEST:
                raise ArithmeticError(
                    f"{int(apart.sum())} of {n} integrals did not settle at {start} to {end}"
                )
            if apart.any():
                middle = (start + end) / 2
                left += [(start, middle, rule, rows[apart]), (middle, end, rule, rows[apart])]
        panels = left
    rows, parts = (torch.cat(column) for column in zip(*settled, strict=True))
    return parts.new_zeros(n).index_add(0, rows.to(parts.device), parts)
