"""Frames a reference should not hold: D-residues, cis peptide bonds, broken bonds."""

import torch
from torch import Tensor

from bgbench.chemistry.chirality import is_wrong
from bgbench.chemistry.features import torsions
from bgbench.types import System

STRETCH = 1.5
"""A bond this many times longer than in the start structure counts as broken."""


def is_cis(system: System, x: Tensor) -> Tensor:
    """`(n,)` True where a peptide bond before any residue but proline has |ω| < 90°."""
    omega = torsions(system, x).omega
    names = {atom.residue: atom.residue_name for atom in system.atoms}
    others = [k for k in range(omega.shape[1]) if names[k + 1] != "PRO"]
    return (omega[:, others].abs() < torch.pi / 2).any(1)


def is_torn(system: System, x: Tensor) -> Tensor:
    """`(n,)` True where a bond is STRETCH times longer than in the start structure."""
    i, j = torch.tensor(system.bonds).T
    normal = (system.positions[i] - system.positions[j]).norm(dim=-1).to(x)
    return ((x[:, i] - x[:, j]).norm(dim=-1) > STRETCH * normal).any(1)


def broken(system: System, x: Tensor) -> dict[str, Tensor]:
    """Flags `(n,)` of every kind."""
    return {"wrong_hand": is_wrong(system, x), "cis": is_cis(system, x), "torn": is_torn(system, x)}


def broken_fractions(system: System, x: Tensor) -> dict[str, float]:
    """Fraction of frames of every kind."""
    return {name: float(flags.double().mean()) for name, flags in broken(system, x).items()}
