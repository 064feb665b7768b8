"""The Z-matrix of a peptide: the order in which its atoms are placed, and what each is placed against.

Every atom after the third has three reference atoms that are placed before it:

- the *parent*, to which it is bonded: r is the distance to the parent;
- the *angle reference*, θ being the angle (atom, parent, angle reference);
- the *dihedral reference*, from which φ is measured about the line parent → angle reference.

Heavy atoms come first, breadth first along the bonds from atom 0; hydrogens follow in the order of the heavy
atoms that carry them. Three placements occur (`Placement`), and they differ in how freely φ turns:

    PROPER        the angle reference is the grandparent, the dihedral reference its neighbour: a torsion
    IMPROPER      the dihedral reference is a sibling on the same parent: φ is nearly fixed
    RING_CLOSURE  the angle reference is bonded to the atom as well: θ follows from the bond that closes

The Z-matrix is the usual input of quantum chemistry programs; see `internal_coordinates` for the formulas.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


class Placement(IntEnum):
    """What an atom's dihedral is measured from; the numbers are part of the keys in weights files."""

    PROPER = 0
    IMPROPER = 1
    RING_CLOSURE = 2


@dataclass(frozen=True)
class ZMatrix:
    """The Z-matrix of N atoms. Its numbers are steps of the placing order, not atoms, but for `order`.

    Attributes:
        order: `(N,)`, the atom that is placed at each step.
        parent: `(N,)`, the step of the atom that each is bonded to; 0 for the first atom.
        angle_reference: `(N,)`; 0 where there is none.
        dihedral_reference: `(N,)`; 0 where there is none.
        placement: `(N,)`, a `Placement` each.
        sibling_rank: `(N,)`, how many neighbours of the parent are placed before.
        prochiral_partner: `(N,)`; at the second of two hydrogens that only their names tell apart, the step
            of the first; elsewhere the atom's own step.
    """

    order: Tensor
    parent: Tensor
    angle_reference: Tensor
    dihedral_reference: Tensor
    placement: Tensor
    sibling_rank: Tensor
    prochiral_partner: Tensor

    @cached_property
    def step_of_atom(self) -> Tensor:
        """The step at which each atom is placed, `(N,)`: the inverse of `order`."""
        return torch.argsort(self.order)

    @property
    def n_atoms(self) -> int:
        """N."""
        return len(self.order)


@dataclass(frozen=True)
class ZMatrixBatch:
    """Z-matrices of b peptides padded to N atoms; the columns of `ZMatrix` that are used, `(b, N)` each."""

    parent: Tensor
    angle_reference: Tensor
    dihedral_reference: Tensor
    placement: Tensor
    prochiral_partner: Tensor


def pad_zmatrices(zmatrices: Sequence[ZMatrix]) -> ZMatrixBatch:
    """Several Z-matrices in one batch; padding atoms are placed against the first atom."""
    width = max(zmatrix.n_atoms for zmatrix in zmatrices)

    def column(name: str) -> Tensor:
        return torch.stack([F.pad(getattr(z, name), (0, width - z.n_atoms)) for z in zmatrices])

    steps = torch.arange(width)
    partner = torch.stack([torch.cat([z.prochiral_partner, steps[z.n_atoms :]]) for z in zmatrices])
    return ZMatrixBatch(
        column("parent"),
        column("angle_reference"),
        column("dihedral_reference"),
        column("placement"),
        partner,
    )


def build_zmatrix(elements: Sequence[str], bonds: Sequence[tuple[int, int]]) -> ZMatrix:
    """The Z-matrix of atoms with these elements and bonds.

    Args:
        elements: Element symbols, one an atom.
        bonds: Pairs of atom numbers.

    Raises:
        ValueError: if some atoms are not connected to atom 0.

    >>> water = build_zmatrix(["O", "H", "H"], [(0, 1), (0, 2)])
    >>> water.parent.tolist(), water.angle_reference.tolist()
    ([0, 0, 0], [0, 0, 1])
    """
    neighbours: dict[int, list[int]] = {k: [] for k in range(len(elements))}
    for a, b in bonds:
        neighbours[a].append(b)
        neighbours[b].append(a)
    order = _placing_order(elements, neighbours)
    step = {atom: k for k, atom in enumerate(order)}
    earlier = [sorted(step[b] for b in neighbours[atom] if step[b] < k) for k, atom in enumerate(order)]
    bonded = [sorted(step[b] for b in neighbours[atom]) for atom in order]
    rows = [_place(k, earlier, bonded) for k in range(len(order))]
    parent, angle, dihedral, placement, rank = (torch.tensor(column) for column in zip(*rows, strict=True))
    partner = _prochiral_partners(order, elements, parent)
    return ZMatrix(torch.tensor(order), parent, angle, dihedral, placement, rank, partner)


def _prochiral_partners(order: Sequence[int], elements: Sequence[str], parent: Tensor) -> Tensor:
    """Of two or three hydrogens on one atom, the last has the one before it for its partner.

    Of three the first has none: a third of a turn takes it to the places of the others.
    """
    partner = torch.arange(len(order))
    for k in range(1, len(order)):
        before = [j for j in range(1, k) if parent[j] == parent[k] and elements[order[j]] == "H"]
        after = [j for j in range(k + 1, len(order)) if parent[j] == parent[k]]
        if elements[order[k]] == "H" and before and not after:
            partner[k] = before[-1]
    return partner


def _placing_order(elements: Sequence[str], neighbours: dict[int, list[int]]) -> list[int]:
    """Heavy atoms breadth first from atom 0, then the hydrogens."""
    heavy, queue = [0], [0]
    while queue:
        atom = queue.pop(0)
        unvisited = [b for b in sorted(neighbours[atom]) if elements[b] != "H" and b not in heavy]
        heavy += unvisited
        queue += unvisited
    hydrogens = [b for atom in heavy for b in sorted(neighbours[atom]) if elements[b] == "H"]
    order = [*heavy, *hydrogens]
    if len(order) != len(elements):
        raise ValueError(f"{len(elements) - len(order)} of {len(elements)} atoms are not bonded to the rest")
    return order


class _Row(NamedTuple):
    """One row of a Z-matrix: the columns of `ZMatrix` that it is made of."""

    parent: int
    angle_reference: int = 0
    dihedral_reference: int = 0
    placement: int = Placement.PROPER
    sibling_rank: int = 0


def _place(k: int, earlier: list[list[int]], bonded: list[list[int]]) -> _Row:
    """The row of the atom of step k."""
    if k == 0:
        return _Row(0)
    parent, *ring_neighbours = earlier[k]
    siblings = [b for b in bonded[parent] if b < k]
    if ring_neighbours:
        dihedral = next((b for b in siblings if b != ring_neighbours[0]), 0)
        return _Row(parent, ring_neighbours[0], dihedral, Placement.RING_CLOSURE, len(siblings))
    if not siblings:
        return _Row(parent)
    angle = siblings[0]
    if len(siblings) > 1:
        return _Row(parent, angle, siblings[1], Placement.IMPROPER, len(siblings))
    dihedral = next((b for b in bonded[angle] if b < k and b != parent), 0)
    return _Row(parent, angle, dihedral, Placement.PROPER, len(siblings))
