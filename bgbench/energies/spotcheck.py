"""Check one energy backend against another on a few conformers of a run."""

import torch
from torch import Tensor

from bgbench.abstract import AbstractEnergy

CONFORMERS = 32


def spot_check(energy: AbstractEnergy, judge: AbstractEnergy, x: Tensor) -> float:
    """Largest |Δu| (kT) over ≤ 32 of `x (n, atoms, 3)`, evenly taken.

    Conformers above 10⁶ kT are left out: there, float32 rounding of the clash says nothing.
    """
    chosen = x[torch.linspace(0, len(x) - 1, min(CONFORMERS, len(x))).long()]
    truth = judge.energy(chosen.double()).cpu()
    ours = energy.energy(chosen).double().cpu()
    sane = truth.abs() < 1e6
    return float((ours - truth)[sane].abs().max()) if bool(sane.any()) else 0.0
