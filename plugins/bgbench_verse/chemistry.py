"""What the network is told of an atom, and the table of usual bond lengths, angles and dihedrals."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

import bgbench
from bgbench_verse.tree import CLOSURE, Tree, Trees, padded, plan

COLUMNS = 9
"""Name, parent's name, axis's name, place in the chain, residues before and after, kind, rank, length."""

ROW = 7
"""Of a table row: r and its width, θ and its width, φ and its width, length of the closing bond."""

NARROW = 0.5
"""rad. Dihedrals whose spread is below this have one place; the others turn."""

RANKS, LONGEST = 4, 15


@dataclass(frozen=True)
class Molecule:
    """A peptide as Verse sees it: its tree, codes `(N, 9)` and table rows `(N, 7)`, in placing order."""

    tree: Tree
    codes: Tensor
    usual: Tensor


def names(atoms: Sequence[bgbench.Atom], tree: Tree) -> list[str]:
    """`RES:NAME` of each atom in placing order."""
    return [f"{atoms[k].residue_name}:{atoms[k].name}" for k in tree.order.tolist()]


def places(atoms: Sequence[bgbench.Atom], tree: Tree) -> list[int]:
    """0 in the first residue, 2 in the last, 1 between, in placing order."""
    last = max(atom.residue for atom in atoms)
    return [0 if atoms[k].residue == 0 else 2 if atoms[k].residue == last else 1 for k in tree.order.tolist()]


def table_keys(atoms: Sequence[bgbench.Atom], tree: Tree) -> list[tuple[str, str, str]]:
    """Keys of each atom's table row, from the most particular to the most general."""
    elements = [atoms[k].element for k in tree.order.tolist()]
    kinds = tree.kind.tolist()
    return [
        (f"{name}:{place}", name, f"{elements[k]}-{elements[tree.parent[k]]}:{kinds[k]}")
        for k, (name, place) in enumerate(zip(names(atoms, tree), places(atoms, tree), strict=True))
    ]


def codes(atoms: Sequence[bgbench.Atom], tree: Tree, vocabulary: Mapping[str, int]) -> Tensor:
    """`(N, 9)` codes in placing order; 0 stands for an unknown name or a residue that is not there."""
    known = [vocabulary.get(name, 0) for name in names(atoms, tree)]
    residues = residue_codes(atoms)
    length = min(len(residues), LONGEST)
    rows = []
    for k, place in enumerate(places(atoms, tree)):
        residue = atoms[int(tree.order[k])].residue
        before = residues[residue - 1] if residue > 0 else 0
        after = residues[residue + 1] if residue + 1 < len(residues) else 0
        kind, rank = int(tree.kind[k]), min(int(tree.rank[k]), RANKS - 1)
        near = (known[int(tree.parent[k])], known[int(tree.axis[k])])
        rows.append([known[k], *near, place, before, after, kind, rank, length])
    return torch.tensor(rows)


def residue_codes(atoms: Sequence[bgbench.Atom]) -> list[int]:
    """The residue type, from 1, of each residue."""
    code = bgbench.encode_atoms(atoms).residue_type.tolist()
    return [kind for _, kind in sorted(dict(zip((a.residue for a in atoms), code, strict=True)).items())]


def molecule(
    atoms: Sequence[bgbench.Atom],
    bonds: Sequence[tuple[int, int]],
    vocabulary: Mapping[str, int],
    table: Mapping[str, Sequence[float]],
) -> Molecule:
    """The peptide of these atoms and bonds.

    Raises:
        BgbenchError: for an atom whose like was not in the training data.
    """
    tree = plan([atom.element for atom in atoms], bonds)
    rows = []
    for name, keys in zip(names(atoms, tree), table_keys(atoms, tree), strict=True):
        row = next((table[key] for key in keys if key in table), None)
        if row is None:
            raise bgbench.BgbenchError(f"verse has no bond length for {name}; train it on peptides with one")
        rows.append(list(row))
    return Molecule(tree, codes(atoms, tree, vocabulary), torch.tensor(rows))


@lru_cache(maxsize=512)
def bonds_of(sequence: str) -> tuple[tuple[int, int], ...]:
    """Bonds of a peptide in the order of its own atoms."""
    return bgbench.peptide(sequence).bonds


@dataclass(frozen=True)
class Molecules:
    """b peptides padded to N atoms: `tree`, `codes (b, N, 9)`, `usual (b, N, 7)`, `mask (b, N)`."""

    tree: Trees
    codes: Tensor
    usual: Tensor
    mask: Tensor


def together(molecules: Sequence[Molecule]) -> Molecules:
    """Peptides in one padded batch."""
    width = max(m.tree.n_atoms for m in molecules)
    gaps = [width - m.tree.n_atoms for m in molecules]
    pairs = list(zip(molecules, gaps, strict=True))
    return Molecules(
        tree=padded([m.tree for m in molecules]),
        codes=torch.stack([F.pad(m.codes, (0, 0, 0, gap)) for m, gap in pairs]),
        usual=torch.stack([F.pad(m.usual, (0, 0, 0, gap), value=1.0) for m, gap in pairs]),
        mask=torch.stack([torch.arange(width) < m.tree.n_atoms for m in molecules]),
    )


def closing_angle(distance: Tensor, usual: Tensor) -> Tensor:
    """θ at the parent of an atom that closes a ring, from `distance` between its two bonded neighbours.

    Held off 0 and π, so that rings that were torn open still have a density.
    """
    r, length = usual[..., 0], usual[..., 6].clamp_min(0.05)
    cosine = (r**2 + distance**2 - length**2) / (2 * r * distance)
    return torch.acos(cosine.clamp(-0.95, 0.95))


def expected_angle(parent: Tensor, axis: Tensor, kind: Tensor, usual: Tensor) -> Tensor:
    """θ expected of atoms placed at `parent` with `axis (…, 3)`: the table's, or what closes the ring."""
    distance = (axis - parent).norm(dim=-1).clamp_min(0.02)
    return torch.where(kind == CLOSURE, closing_angle(distance, usual), usual[..., 2])
