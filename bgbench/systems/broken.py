"""Frames a reference should not hold: D-residues, cis peptide bonds, broken bonds."""

import torch
from torch import Tensor

from bgbench.core.types import System
from bgbench.systems.bonds import has_broken_bonds
from bgbench.systems.chirality import is_wrong
from bgbench.systems.features import dihedral, proline_omega_atoms, torsion_atoms


def is_cis(system: System, x: Tensor) -> Tensor:
    """`(n,)` True where a peptide bond before any residue but proline has |ω| < 90°."""
    rows = torsion_atoms(system)["omega"]
    others = rows[[system.atoms[int(row[2])].residue_name != "PRO" for row in rows]]
    return (dihedral(x, others).abs() < torch.pi / 2).any(1)


def broken(system: System, x: Tensor) -> dict[str, Tensor]:
    """Flags `(n,)` of every kind."""
    return {
        "wrong_hand": is_wrong(system, x),
        "cis": is_cis(system, x),
        "torn": has_broken_bonds(system.bonds, system.positions, x),
    }


def broken_fractions(system: System, x: Tensor) -> dict[str, float]:
    """Fraction of frames of every kind."""
    return {name: float(flags.double().mean()) for name, flags in broken(system, x).items()}


def cis_fractions(system: System, x: Tensor) -> dict[str, float]:
    """Fraction of frames in which each peptide bond before proline is cis, by the proline's number from 1."""
    rows = proline_omega_atoms(system)
    fractions = (dihedral(x.double(), rows).abs() < torch.pi / 2).double().mean(0).tolist()
    residues = [system.atoms[int(row[2])].residue + 1 for row in rows]
    return {f"PRO{residue}": fraction for residue, fraction in zip(residues, fractions, strict=True)}
