"""Geometric features: backbone torsions, and the features of the TICA model.

Atoms are looked up by residue and name, never by their place in a file. `system` is anything with
`atoms`, a sequence of `Atom`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from bgbench.core.types import Atom

GAMMA = ("CG", "CG1", "OG", "OG1", "SG")
"""The atom of each side chain that χ₁ ends in."""

METHYL = {"ACE": "CH3", "NME": "C"}
"""The carbon of each cap that stands where a residue has its CA."""


class HasAtoms(Protocol):
    """What the features need of a system."""

    @property
    def atoms(self) -> Sequence[Atom]:
        """Atoms in the order of the positions."""


@dataclass(frozen=True)
class Torsions:
    """Backbone torsions in radians, `phi`, `psi`, `omega`: `(n, residues − 1)` each without caps."""

    phi: Tensor
    psi: Tensor
    omega: Tensor


def dihedral(x: Tensor, quadruples: Tensor) -> Tensor:
    """Angles `(n, k)` in (−π, π] of `quadruples (k, 4)`, IUPAC sign, of `x (n, atoms, 3)`."""
    a, b, c, d = (x[:, quadruples[:, k]] for k in range(4))
    u, v, w = b - a, c - b, d - c
    left, right = torch.linalg.cross(u, v), torch.linalg.cross(v, w)
    sine = (u * right).sum(-1) * v.norm(dim=-1)
    return torch.atan2(sine, (left * right).sum(-1))


def torsion_atoms(system: HasAtoms) -> dict[str, Tensor]:
    """Quadruples `(residues − 1, 4)` of φ, ψ and ω; of a molecule that is no peptide, those that it has.

    A cap has no φ and no ψ, but the ω of its peptide bond, with its methyl carbon in place of CA.
    """
    names = {atom.residue: atom.residue_name for atom in system.atoms}
    index = {
        (atom.residue, "CA" if atom.name == METHYL.get(names[atom.residue]) else atom.name): k
        for k, atom in enumerate(system.atoms)
    }
    pairs = range(max(residue for residue, _ in index))
    rows = {
        "phi": [((i, "C"), (i + 1, "N"), (i + 1, "CA"), (i + 1, "C")) for i in pairs],
        "psi": [((i, "N"), (i, "CA"), (i, "C"), (i + 1, "N")) for i in pairs],
        "omega": [((i, "CA"), (i, "C"), (i + 1, "N"), (i + 1, "CA")) for i in pairs],
    }
    whole = {name: [row for row in quads if all(key in index for key in row)] for name, quads in rows.items()}
    return {
        name: torch.tensor([[index[key] for key in row] for row in quads], dtype=torch.long).reshape(-1, 4)
        for name, quads in whole.items()
    }


def has_backbone(system: HasAtoms) -> bool:
    """Whether a molecule has a φ or ψ at all: water has none."""
    return any(len(torsion_atoms(system)[name]) for name in ("phi", "psi"))


def chi1_atoms(system: HasAtoms) -> Tensor:
    """Quadruples `(n, 4)` of χ₁, of every residue that has one outside a ring."""
    index = {(atom.residue, atom.name): k for k, atom in enumerate(system.atoms)}
    rows = [
        [index[end.residue, name] for name in ("N", "CA", "CB")] + [k]
        for k, end in enumerate(system.atoms)
        if end.name in GAMMA and end.residue_name != "PRO"
    ]
    return torch.tensor(rows, dtype=torch.long).reshape(-1, 4)


def proline_omega_atoms(system: HasAtoms) -> Tensor:
    """Quadruples `(n, 4)` of ω before each proline, whose peptide bond has two isomers."""
    rows = torsion_atoms(system)["omega"]
    return rows[[system.atoms[int(row[2])].residue_name == "PRO" for row in rows]]


def torsions(system: HasAtoms, x: Tensor) -> Torsions:
    """The backbone torsions φ, ψ and ω of conformers.

    Args:
        system: a peptide, whose atoms name the four of each torsion.
        x: positions `(n, atoms, 3)` nm.

    Returns:
        Angles in rad, −π to π, each `(n, residues − 1)`: φ of all residues but the first, ψ of all but the
        last, ω of the bonds between them. With caps, those that are there: φ and ψ of the residues between
        the caps, and ω of the caps' bonds too.

    >>> from bgbench import peptide
    >>> system = peptide("AGA")
    >>> torsions(system, system.positions[None]).phi.shape
    torch.Size([1, 2])
    """
    return Torsions(**{name: dihedral(x, quads) for name, quads in torsion_atoms(system).items()})


def heavy_pairs(system: HasAtoms) -> Tensor:
    """Pairs `(2, k)` of the C, N and S atoms."""
    chosen = torch.tensor([k for k, atom in enumerate(system.atoms) if atom.element in ("C", "N", "S")])
    return chosen[torch.triu_indices(len(chosen), len(chosen), 1)]


def n_tica_features(system: HasAtoms) -> int:
    """How many features a TICA model of the system has."""
    return heavy_pairs(system).shape[1] + 2 * sum(map(len, torsion_atoms(system).values()))


def tica_features(system: HasAtoms, x: Tensor) -> Tensor:
    """`(n, features)`: distances between C, N, S atoms (nm), then sin and cos of φ, of ψ, of ω."""
    i, j = heavy_pairs(system)
    angles = torsions(system, x)
    blocks = [(x[:, i] - x[:, j]).norm(dim=-1)]
    for kind in (angles.phi, angles.psi, angles.omega):
        blocks += [torch.sin(kind), torch.cos(kind)]
    return torch.cat(blocks, dim=1)
