"""Check one energy backend against another on a few conformers of a run."""

import torch
from torch import Tensor

from bgbench.core.abstract import AbstractEnergy

CONFORMERS = 32
ROUNDING = 1.0
"""kT by which a claimed energy may be off, besides a thousandth of itself: float32, another platform."""


def spot_check(energy: AbstractEnergy, judge: AbstractEnergy, x: Tensor) -> float:
    """Largest |Δu| (kT) over ≤ 32 of `x (n, atoms, 3)`, evenly taken.

    Conformers above 10⁶ kT are left out: there, float32 rounding of the clash says nothing.
    """
    chosen = x[torch.linspace(0, len(x) - 1, min(CONFORMERS, len(x))).long()]
    truth = judge.energy(chosen.double()).cpu()
    ours = energy.energy(chosen).double().cpu()
    sane = truth.abs() < 1e6
    return float((ours - truth)[sane].abs().max()) if bool(sane.any()) else 0.0


def false_energies(energy: AbstractEnergy, x: Tensor, u: Tensor) -> float:
    """Share of ≤ 32 conformers `x (n, atoms, 3)` whose claimed `u (n,)` kT is not their energy.

    A claim of +inf is taken at its word: such points carry no weight.
    """
    pick = torch.linspace(0, len(x) - 1, min(CONFORMERS, len(x))).long()
    counted = energy.n_nonfinite
    truth, claimed = energy.energy(x[pick]).double().cpu(), u[pick].detach().double().cpu()
    energy.n_nonfinite = counted
    wrong = (truth - claimed).abs() > ROUNDING + 1e-3 * truth.abs()
    return float((wrong | truth.isinf())[claimed.isfinite()].double().mean().nan_to_num())
