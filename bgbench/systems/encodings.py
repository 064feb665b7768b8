"""Integer encodings of atoms that transferable samplers condition on (arXiv 2508.18175, TBG 2406.14426)."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from bgbench.core.errors import BgbenchError
from bgbench.core.types import Atom
from bgbench.systems.residues import ONE_TO_THREE

ATOM_TYPES = (
    "C", "CA", "CB", "CD", "CD1", "CD2", "CE", "CE1", "CE2", "CE3", "CG", "CG1", "CG2", "CH2", "CZ", "CZ2",
    "CZ3", "H", "HA", "HB", "HD", "HD1", "HD2", "HE", "HE1", "HE2", "HE3", "HG", "HG1", "HG2", "HH", "HH1",
    "HH2", "HZ", "HZ2", "HZ3", "N", "ND1", "ND2", "NE", "NE1", "NE2", "NH1", "NH2", "NZ", "O", "OD", "OE",
    "OG", "OG1", "OH", "OXT", "SD", "SG",
)  # fmt: skip
"""The 54 atom-type names; the code of a name is its place, counted from 1."""

RESIDUE_TYPES = tuple(sorted(ONE_TO_THREE.values()))
"""Three-letter residue names; the code of a name is its place, counted from 1."""

_RINGS = ("HIS", "PHE", "TRP", "TYR")
_ATOM_CODES = {name: code for code, name in enumerate(ATOM_TYPES, start=1)}
_RESIDUE_CODES = {name: code for code, name in enumerate(RESIDUE_TYPES, start=1)}


@dataclass(frozen=True)
class Encoding:
    """Integer codes of a peptide's atoms, for embeddings. All count from 1; 0 is left for padding.

    Attributes:
        atom_type: `(atoms,)` int64, of the atom's name; equivalent hydrogens and oxygens share a code.
        residue_type: `(atoms,)` int64, of the amino acid.
        residue_position: `(atoms,)` int64, 1 for the N terminus.
        sequence_length: number of residues.

    >>> from bgbench import encode_atoms, peptide
    >>> codes = encode_atoms(peptide("AG").atoms)
    >>> codes.sequence_length, int(codes.residue_position.max())
    (2, 2)
    """

    atom_type: Tensor
    residue_type: Tensor
    residue_position: Tensor
    sequence_length: int


def atom_type_name(atom: Atom) -> str:
    """The type name of an atom: equivalent hydrogens and carboxyl oxygens share one."""
    name = atom.name
    if name.startswith("H") and name[-1] in "123":
        ring = atom.residue_name in _RINGS and name[:2] in ("HD", "HE", "HH", "HZ")
        return name if ring else name[:-1]
    return name[:-1] if name[:2] in ("OD", "OE") else name


def encode(atoms: Sequence[Atom]) -> Encoding:
    """Encode the atoms of a peptide, in their own order.

    Args:
        atoms: of the 20 standard residues, with PDB names, as `System.atoms` holds them.

    Returns:
        Codes, each `(atoms,)` int64.

    Raises:
        BgbenchError: if there are no atoms, or for an atom or residue without a code, naming it.

    >>> from bgbench import peptide
    >>> encode(peptide("GG").atoms).atom_type.shape
    torch.Size([17])
    """
    if not atoms:
        raise BgbenchError("the system has no atoms to encode; use a sampler that needs no chemistry")
    for atom in atoms:
        if atom.residue_name not in _RESIDUE_CODES:
            raise BgbenchError(
                f"residue {atom.residue_name} has no encoding; supported are peptides of the 20 standard "
                "residues with charged ends, such as AA, without caps"
            )
        if atom_type_name(atom) not in _ATOM_CODES:
            raise BgbenchError(
                f"atom {atom.name} of {atom.residue_name} has no encoding; use the 20 standard residues "
                "with PDB atom names"
            )
    positions = [atom.residue + 1 for atom in atoms]
    return Encoding(
        atom_type=torch.tensor([_ATOM_CODES[atom_type_name(atom)] for atom in atoms]),
        residue_type=torch.tensor([_RESIDUE_CODES[atom.residue_name] for atom in atoms]),
        residue_position=torch.tensor(positions),
        sequence_length=max(positions),
    )
