"""What the network knows of a peptide before it sees any coordinates.

Each atom is described by nine integer codes: its name, its parent's and its angle reference's name, its place
in the chain, the residues before and after, its placement, its sibling rank, and the peptide's length. They
index embedding tables (`network.AtomEmbedding`); nothing refers to the atom's number, so that a network
trained on some peptides can read others.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

import bgbench
from bgbench_verse.reference_geometry import (
    ReferenceGeometry,
    Table,
    atom_names,
    batch_geometry,
    chain_places,
    look_up_geometry,
)
from bgbench_verse.zmatrix import ZMatrix, ZMatrixBatch, build_zmatrix, pad_zmatrices

SIBLING_RANKS, LONGEST_PEPTIDE = 4, 15
"""Sibling ranks and peptide lengths that have codes of their own; larger ones share the last."""


@dataclass(frozen=True)
class Molecule:
    """A peptide of N atoms: Z-matrix, codes `(N, 9)` and reference geometry `(N,)`, in placing order."""

    zmatrix: ZMatrix
    atom_codes: Tensor
    geometry: ReferenceGeometry


@dataclass(frozen=True)
class MoleculeBatch:
    """b peptides padded to N atoms: Z-matrices, codes `(b, N, 9)`, geometry `(b, N)`, `mask (b, N)`.

    b divides the number of samples n: peptide k belongs to the k-th of b equal runs of samples.
    """

    zmatrix: ZMatrixBatch
    atom_codes: Tensor
    geometry: ReferenceGeometry
    mask: Tensor


def build_molecule(
    atoms: Sequence[bgbench.Atom],
    bonds: Sequence[tuple[int, int]],
    vocabulary: Mapping[str, int],
    table: Table,
) -> Molecule:
    """The peptide of these atoms and bonds.

    Args:
        atoms: In the order of the system.
        bonds: Pairs of atom numbers.
        vocabulary: Codes of `RES:NAME`, from 1.
        table: Rows of the reference geometry by key.

    Raises:
        BgbenchError: for an atom without a row in the table.
    """
    zmatrix = build_zmatrix([atom.element for atom in atoms], bonds)
    geometry = look_up_geometry(atoms, zmatrix, table)
    return Molecule(zmatrix, encode_peptide(atoms, zmatrix, vocabulary), geometry)


def batch_molecules(molecules: Sequence[Molecule]) -> MoleculeBatch:
    """Peptides in one padded batch."""
    width = max(m.zmatrix.n_atoms for m in molecules)
    codes = [F.pad(m.atom_codes, (0, 0, 0, width - m.zmatrix.n_atoms)) for m in molecules]
    return MoleculeBatch(
        zmatrix=pad_zmatrices([m.zmatrix for m in molecules]),
        atom_codes=torch.stack(codes),
        geometry=batch_geometry([m.geometry for m in molecules], width),
        mask=torch.stack([torch.arange(width) < m.zmatrix.n_atoms for m in molecules]),
    )


def encode_peptide(atoms: Sequence[bgbench.Atom], zmatrix: ZMatrix, vocabulary: Mapping[str, int]) -> Tensor:
    """`(N, 9)` codes in placing order; 0 stands for an unknown name and for a neighbour that is missing."""
    names = [vocabulary.get(name, 0) for name in atom_names(atoms, zmatrix)]
    residues = residue_codes(atoms)
    length = min(len(residues), LONGEST_PEPTIDE)
    rows = []
    for k, place in enumerate(chain_places(atoms, zmatrix)):
        residue = atoms[int(zmatrix.order[k])].residue
        before = residues[residue - 1] if residue > 0 else 0
        after = residues[residue + 1] if residue + 1 < len(residues) else 0
        placement, rank = int(zmatrix.placement[k]), min(int(zmatrix.sibling_rank[k]), SIBLING_RANKS - 1)
        references = (names[int(zmatrix.parent[k])], names[int(zmatrix.angle_reference[k])])
        rows.append([names[k], *references, place, before, after, placement, rank, length])
    return torch.tensor(rows)


def residue_codes(atoms: Sequence[bgbench.Atom]) -> list[int]:
    """The residue type, from 1, of each residue."""
    types = bgbench.encode_atoms(atoms).residue_type.tolist()
    by_residue = dict(zip((atom.residue for atom in atoms), types, strict=True))
    return [residue_type for _, residue_type in sorted(by_residue.items())]
