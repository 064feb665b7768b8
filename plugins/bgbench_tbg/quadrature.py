"""∫ f dt by Gauss–Kronrod pairs (7 and 15 points; QUADPACK, 1983), panels halved where the pairs disagree."""

from collections.abc import Callable

import torch
from torch import Tensor

PLACES = (
    0.991455371120812639206854697526329,
    0.949107912342758524526189684047851,
    0.864864423359769072789712788640926,
    0.741531185599394439863864773280788,
    0.586087235467691130294144691258130,
    0.405845151377397166906606412076961,
    0.207784955007898467600689403773245,
)
FIFTEEN = (
    0.022935322010529224963732008058970,
    0.063092092629978553290700663189204,
    0.104790010322250183839876322541518,
    0.140653259715525918745189590510238,
    0.169004726639267902826583426598550,
    0.190350578064785409913256402421014,
    0.204432940075298892414161999234649,
)
FIFTEEN_MIDDLE = 0.209482141084727828012999174891714
SEVEN = (
    0.129484966168869693270611432679082,
    0.279705391489276667901467771423780,
    0.381830050505118944950369775488975,
)
SEVEN_MIDDLE = 0.417959183673469387755102040816327
"""Weights of the points of the seven-point rule: the second, fourth and sixth of `PLACES`, and 0."""

NARROWEST = 2.0**-12
"""Of the whole interval: a panel that must be halved further never settles."""


def points(start: float, end: float) -> Tensor:
    """The 15 times of one panel, in its direction, float64."""
    half = torch.tensor(PLACES, dtype=torch.float64)
    unit = torch.cat([-half, torch.zeros(1, dtype=torch.float64), half.flip(0)])
    return (start + end) / 2 + (end - start) / 2 * unit


def pair(f: Tensor, start: float, end: float) -> tuple[Tensor, Tensor]:
    """Integrals by 15 and by 7 points of values `f (15, n)`."""
    half = torch.tensor(FIFTEEN, dtype=torch.float64)
    fifteen = torch.cat([half, torch.tensor([FIFTEEN_MIDDLE], dtype=torch.float64), half.flip(0)])
    few = torch.tensor(SEVEN, dtype=torch.float64)
    seven = torch.cat([few, torch.tensor([SEVEN_MIDDLE], dtype=torch.float64), few.flip(0)])
    width = (end - start) / 2
    return width * (fifteen.to(f) @ f), width * (seven.to(f) @ f[1::2])


def integral(
    values: Callable[[Tensor, Tensor], Tensor], n: int, panel: tuple[float, float], tolerance: float
) -> Tensor:
    """∫ over the panel of n functions, `(n,)`; `values` of times `(15,)` and rows `(k,)` are `(15, k)`.

    A panel is halved for the rows whose two rules differ there by more than `tolerance`, and for these alone;
    the answer is the finer rule's, whose own error is far smaller.
    """
    whole = abs(panel[1] - panel[0])
    left, settled = [(*panel, torch.arange(n))], []
    while left:
        start, end, rows = left.pop()
        fine, coarse = pair(values(points(start, end), rows), start, end)
        apart = (fine - coarse).detach().abs() > tolerance
        settled.append((rows[~apart], fine[~apart]))
        if not apart.any():
            continue
        if abs(end - start) <= NARROWEST * whole:
            raise ArithmeticError(
                f"{int(apart.sum())} of {n} integrals over {panel} did not settle between {start} and {end}"
            )
        middle = (start + end) / 2
        left += [(middle, end, rows[apart]), (start, middle, rows[apart])]
    rows, parts = (torch.cat(column) for column in zip(*settled, strict=True))
    return parts.new_zeros(n).index_add(0, rows.to(parts.device), parts)
