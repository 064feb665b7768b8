"""Training peptides: frames, energies, and which of their atoms a short rotation exchanges.

A simulation of some nanoseconds does not turn every ring or carboxylate, so that exchangeable atoms keep the
places that the start structure gave them. Their Boltzmann density is the same either way; training frames
therefore have such atoms exchanged at random, which the flow would otherwise have to learn as an asymmetry.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

import bgbench
import bgbench.data
from bgbench_verse.prochiral import to_canonical_names
from bgbench_verse.zmatrix import build_zmatrix, pad_zmatrices

FLIPPED_ATOMS = {
    "PHE": (("CD1", "CD2"), ("CE1", "CE2"), ("HD1", "HD2"), ("HE1", "HE2")),
    "TYR": (("CD1", "CD2"), ("CE1", "CE2"), ("HD1", "HD2"), ("HE1", "HE2")),
    "ASP": (("OD1", "OD2"),),
    "GLU": (("OE1", "OE2"),),
}
"""Atoms that half a turn of a side chain exchanges, by residue; see `automorphisms` for all of them."""


@dataclass(frozen=True)
class TrainingPeptide:
    """A peptide with its frames.

    Attributes:
        name: The sequence.
        x: Frames `(n, atoms, 3)` nm, atoms in the order of `atoms`, which is that of `bgbench.peptide`.
        u: Energies `(n,)` kT.
        atoms: The peptide's atoms.
        bonds: Pairs of atom numbers.
        rotors: Triples of hydrogens that a third of a turn permutes.
        flips: Sets of pairs of atoms, each set exchanged by one half turn.
    """

    name: str
    x: Tensor
    u: Tensor
    atoms: tuple[bgbench.Atom, ...]
    bonds: tuple[tuple[int, int], ...]
    rotors: tuple[tuple[int, int, int], ...]
    flips: tuple[tuple[tuple[int, int], ...], ...]


def read_training_peptide(path: Path) -> TrainingPeptide:
    """Read a training or validation file and give prochiral hydrogens their canonical names.

    Raises:
        BgbenchError: for a damaged file, impossible frames, or atoms that are not those of the peptide.
    """
    frames = bgbench.data.read_training_frames(path)
    system = bgbench.peptide(frames.sequence)
    place = {(atom.residue, atom.name): k for k, atom in enumerate(frames.atoms)}
    if place.keys() != system.atom_index.keys():
        raise bgbench.BgbenchError(f"{path} holds other atoms than {frames.sequence}; make it again")
    atoms, bonds, x = system.atoms, system.bonds, frames.x[:, [place[key] for key in system.atom_index]]
    zmatrix = build_zmatrix([atom.element for atom in atoms], bonds)
    x = to_canonical_names(x[:, zmatrix.order], pad_zmatrices([zmatrix]))[:, zmatrix.step_of_atom]
    u = bgbench.data.read_energies(path).float()
    return TrainingPeptide(
        frames.sequence, x, u, atoms, bonds, rotors=find_rotors(atoms, bonds), flips=find_flips(atoms)
    )


def find_rotors(
    atoms: Sequence[bgbench.Atom], bonds: Sequence[tuple[int, int]]
) -> tuple[tuple[int, int, int], ...]:
    """Triples of hydrogens on one atom (methyl, ammonium): a third of a turn permutes them cyclically."""
    hydrogens: dict[int, list[int]] = {}
    for a, b in bonds:
        for heavy, light in ((a, b), (b, a)):
            if atoms[light].element == "H" and atoms[heavy].element != "H":
                hydrogens.setdefault(heavy, []).append(light)
    return tuple((h[0], h[1], h[2]) for h in map(sorted, hydrogens.values()) if len(h) == 3)


def find_flips(atoms: Sequence[bgbench.Atom]) -> tuple[tuple[tuple[int, int], ...], ...]:
    """Sets of pairs that one half turn exchanges: aromatic rings, carboxylates, the C-terminus."""
    index = {(atom.residue, atom.name): k for k, atom in enumerate(atoms)}
    residue_names = {atom.residue: atom.residue_name for atom in atoms}
    side_chains = [
        tuple((index[residue, a], index[residue, b]) for a, b in FLIPPED_ATOMS[name])
        for residue, name in residue_names.items()
        if name in FLIPPED_ATOMS
    ]
    last = max(residue_names)
    return (*side_chains, ((index[last, "O"], index[last, "OXT"]),))


def sample_equivalent_orders(peptide: TrainingPeptide, n: int, random: np.random.Generator) -> Tensor:
    """For n frames, an order of the atoms that has the same Boltzmann density, `(n, atoms)`.

    Each rotor is turned by 0, 1 or 2 thirds and each flip applied with probability ½, independently.
    """
    order = np.tile(np.arange(len(peptide.atoms)), (n, 1))
    for rotor in peptide.rotors:
        rotated = (np.arange(3) + random.integers(0, 3, (n, 1))) % 3
        order[:, rotor] = np.array(rotor)[rotated]
    for pairs in peptide.flips:
        flipped = random.random(n) < 0.5
        for a, b in pairs:
            order[flipped, a], order[flipped, b] = b, a
    return torch.from_numpy(order)
