"""Check one energy backend against another on a few conformers of a run. Nobody's budget is charged."""

import torch
from torch import Tensor

from bgbench.core.abstract import AbstractEnergy
from bgbench.core.types import Ensemble

CONFORMERS = 32
"""Conformers that are looked at, at most."""

CLASH = 1e6
"""kT above which float32 rounding of the positions says nothing about the energy."""

ROUNDING = 1.0
"""kT by which a claimed energy may be off, besides a thousandth of itself: float32, another platform."""


def spot_check(energy: AbstractEnergy, judge: AbstractEnergy, x: Tensor) -> float:
    """The largest |Δu| between two energies of the same conformers.

    Args:
        energy: the backend that is checked.
        judge: the backend that it is checked against.
        x: `(n, atoms, 3)` nm, of which `CONFORMERS` are looked at, evenly spread.

    Returns:
        kT; zero where every energy is above `CLASH`.
    """
    x = x[_evenly_spread(len(x))]
    truth = judge.energy(x.double()).double().cpu()
    u = energy.energy(x).double().cpu()
    sane = truth.abs() < CLASH
    return float((u - truth)[sane].abs().max()) if bool(sane.any()) else 0.0


def fraction_of_false_energies(energy: AbstractEnergy, ensemble: Ensemble) -> float:
    """The fraction of conformers with a weight whose claimed energy is not their energy.

    A claim of +inf is true above `CLASH`, too: rounded positions may have a finite energy there.

    Args:
        energy: the target.
        ensemble: the conformers with their claims, of which `CONFORMERS` are looked at, evenly spread.
    """
    weighty = torch.nonzero(ensemble.log_w > -torch.inf).flatten()
    index = weighty[_evenly_spread(len(weighty))]
    truth = energy.energy(ensemble.x[index]).double().cpu()
    claimed = ensemble.u[index].detach().double().cpu()
    near = (truth - claimed).abs() <= ROUNDING + 1e-3 * truth.abs()
    true = torch.where(claimed == torch.inf, truth > CLASH, near & claimed.isfinite() & truth.isfinite())
    return float((~true).double().mean().nan_to_num())


def _evenly_spread(n: int) -> Tensor:
    return torch.linspace(0, n - 1, min(CONFORMERS, n)).long()
