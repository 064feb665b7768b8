"""The order in which atoms are placed, and the three placed atoms that each is placed against."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor

PROPER, SIBLING, CLOSURE = 0, 1, 2
"""How the third atom lies: across the grandparent's bond, on the parent, or the atom closes a ring."""


@dataclass(frozen=True)
class Tree:
    """A plan for N atoms. Numbers are places in the order, not atoms, except in `order` itself.

    `order (N,)`: the atom placed at each step. `parent`, `axis`, `third (N,)`: what atom i is placed against:
    r to the parent, θ from the axis at the parent, φ about that line from the third; 0 where there are fewer.
    `kind (N,)`; `rank (N,)`, how many siblings were placed before; `rival (N,)`, of two hydrogens that only
    their names tell apart, the first, at the place of the second (elsewhere the atom itself).
    """

    order: Tensor
    parent: Tensor
    axis: Tensor
    third: Tensor
    kind: Tensor
    rank: Tensor
    rival: Tensor

    @cached_property
    def place(self) -> Tensor:
        """The step at which each atom is placed, `(N,)`."""
        return torch.argsort(self.order)

    @property
    def n_atoms(self) -> int:
        return len(self.order)


@dataclass(frozen=True)
class Trees:
    """Trees of b peptides padded to N atoms, `(b, N)` each."""

    parent: Tensor
    axis: Tensor
    third: Tensor
    kind: Tensor
    rival: Tensor


def padded(trees: Sequence[Tree]) -> Trees:
    """Several trees together; padding is placed against the first atom."""
    width = max(tree.n_atoms for tree in trees)

    def column(name: str) -> Tensor:
        return torch.stack([F.pad(getattr(tree, name), (0, width - tree.n_atoms)) for tree in trees])

    places = torch.arange(width)
    rival = torch.stack([torch.cat([tree.rival, places[tree.n_atoms :]]) for tree in trees])
    return Trees(column("parent"), column("axis"), column("third"), column("kind"), rival)


def plan(elements: Sequence[str], bonds: Sequence[tuple[int, int]]) -> Tree:
    """Heavy atoms breadth first from the first one, then hydrogens.

    Raises:
        ValueError: for atoms that no bond leads to.
    """
    neighbours: dict[int, list[int]] = {k: [] for k in range(len(elements))}
    for a, b in bonds:
        neighbours[a].append(b)
        neighbours[b].append(a)
    order = _breadth_first(elements, neighbours)
    place = {atom: k for k, atom in enumerate(order)}
    placed = [sorted(place[b] for b in neighbours[atom] if place[b] < k) for k, atom in enumerate(order)]
    near = [sorted(place[b] for b in neighbours[atom]) for atom in order]
    rows = [_references(k, placed, near) for k in range(len(order))]
    parent, axis, third, kind, rank = (torch.tensor(column) for column in zip(*rows, strict=True))
    return Tree(torch.tensor(order), parent, axis, third, kind, rank, _rivals(order, elements, parent))


def _rivals(order: Sequence[int], elements: Sequence[str], parent: Tensor) -> Tensor:
    """Of two or three hydrogens on one atom the last has the one before it for a rival.

    Of three, the first may be any: a third of a turn takes it to the others' places.
    """
    rival = torch.arange(len(order))
    for k in range(1, len(order)):
        before = [j for j in range(1, k) if parent[j] == parent[k] and elements[order[j]] == "H"]
        after = [j for j in range(k + 1, len(order)) if parent[j] == parent[k]]
        if elements[order[k]] == "H" and before and not after:
            rival[k] = before[-1]
    return rival


def _breadth_first(elements: Sequence[str], neighbours: dict[int, list[int]]) -> list[int]:
    heavy, waiting = [0], [0]
    while waiting:
        atom = waiting.pop(0)
        fresh = [b for b in sorted(neighbours[atom]) if elements[b] != "H" and b not in heavy]
        heavy += fresh
        waiting += fresh
    hydrogens = [b for atom in heavy for b in sorted(neighbours[atom]) if elements[b] == "H"]
    order = [*heavy, *hydrogens]
    if len(order) != len(elements):
        raise ValueError(f"{len(elements) - len(order)} of {len(elements)} atoms are not bonded to the rest")
    return order


def _references(k: int, placed: list[list[int]], near: list[list[int]]) -> tuple[int, int, int, int, int]:
    """Parent, axis, third, kind and sibling rank of the atom placed at step k."""
    if k == 0:
        return 0, 0, 0, PROPER, 0
    parent, *closures = placed[k]
    siblings = [b for b in near[parent] if b < k]
    if closures:
        third = next((b for b in siblings if b != closures[0]), 0)
        return parent, closures[0], third, CLOSURE, len(siblings)
    if not siblings:
        return parent, 0, 0, PROPER, 0
    axis = siblings[0]
    if len(siblings) > 1:
        return parent, axis, siblings[1], SIBLING, len(siblings)
    third = next((b for b in near[axis] if b < k and b != parent), 0)
    return parent, axis, third, PROPER, len(siblings)
