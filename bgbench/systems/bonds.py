"""Whole or broken bonds."""

from collections.abc import Sequence

import torch
from torch import Tensor

STRETCH = 1.5
"""A bond this many times longer, or shorter, than in the start structure is broken."""


def has_broken_bonds(bonds: Sequence[tuple[int, int]], start: Tensor, x: Tensor) -> Tensor:
    """`(n,)` True where any bond of `x (n, atoms, 3)` is broken, measured against `start (atoms, 3)`."""
    i, j = torch.tensor(bonds).T
    ratio = (x[:, i] - x[:, j]).norm(dim=-1) / (start[i] - start[j]).norm(dim=-1).to(x)
    return ((ratio > STRETCH) | (ratio < 1 / STRETCH)).any(1)
