"""Exchangeable atoms, found as the automorphisms of the typed molecular graph, and what they do to log q.

Vertices are atoms, typed by element and force-field parameters (charge, Lennard-Jones, Born radius); edges
are bonds, typed by length and force constant. A permutation π of the atoms that keeps types and edges leaves
the energy as it is, u(x ∘ π) = u(x), up to the order in which an improper torsion lists its atoms.

Not every automorphism happens: exchanging the two hydrogens of a CH2 turns a tetrahedral centre inside out,
while a rotation about a bond exchanges those of an NH2. Those that keep the handedness of every tetrahedral
centre are *feasible* (Longuet-Higgins 1963, doi 10.1080/00268976300100501).

A flow that knows one naming of exchangeable atoms has log q wrong for all others. Its symmetrised density

    q_sym(x) = 1/|G| Σ_{π ∈ G} q(x ∘ π)

is that of its samples with atoms exchanged by a uniformly chosen π. G is a direct product of small factors on
disjoint sets of atoms (one a methyl, one a ring, one an arginine), which are found one by one:

1. colour refinement gives every atom a colour by its type and, repeatedly, its neighbours' colours;
2. atoms that share their colour with another, joined by bonds or by colour, fall into components;
3. within a component all colour- and bond-preserving permutations are listed by backtracking.

Not used by the packaged weights, which exchange the atoms listed in `peptides`.
"""

import itertools
import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

import bgbench

MAX_ORDER = 10_000
"""Permutations of one component beyond which listing them is refused."""

DECIMALS = 6
"""Force-field parameters that agree to so many decimals are of one type."""

Permutation = tuple[int, ...]
"""π as the tuple (π(0), π(1), …); x ∘ π is `x[:, π]`."""


@dataclass(frozen=True)
class TypedGraph:
    """A molecular graph.

    Attributes:
        vertex_types: The type of each atom.
        edge_types: The type of each bond, by the set of its two atoms.
    """

    vertex_types: tuple[Hashable, ...]
    edge_types: Mapping[frozenset[int], Hashable]

    def neighbours(self) -> list[list[int]]:
        """The atoms bonded to each atom."""
        bonded: list[list[int]] = [[] for _ in self.vertex_types]
        for edge in self.edge_types:
            a, b = sorted(edge)
            bonded[a].append(b)
            bonded[b].append(a)
        return bonded


@dataclass(frozen=True)
class SymmetryFactor:
    """One factor of a group of permutations: all its elements, the identity first.

    Attributes:
        elements: Permutations of all atoms of the molecule.
    """

    elements: tuple[Permutation, ...]

    @property
    def order(self) -> int:
        """Number of elements."""
        return len(self.elements)

    @property
    def support(self) -> frozenset[int]:
        """The atoms that some element moves."""
        return frozenset(a for element in self.elements for a, b in enumerate(element) if a != b)

    @property
    def generators(self) -> tuple[Permutation, ...]:
        """A few elements whose products are all elements."""
        generators: list[Permutation] = []
        generated = {self.elements[0]}
        for element in self.elements:
            if element not in generated:
                generators.append(element)
                generated = _closure(self.elements[0], generators)
        return tuple(generators)


def typed_graph(system: bgbench.System) -> TypedGraph:
    """The graph of a system, typed by element and the parameters of its force field.

    Raises:
        BgbenchError: for a system without a force field.
    """
    import openmm

    target = bgbench.openmm_system(system)  # OpenMM frees a system's forces with the system
    parameters: list[list[float]] = [[] for _ in system.atoms]
    edge_types: dict[frozenset[int], Hashable] = {frozenset(bond): () for bond in system.bonds}
    for force in target.getForces():
        if isinstance(force, openmm.NonbondedForce | openmm.CustomGBForce):
            for k, values in enumerate(parameters):
                values += _plain_numbers(force.getParticleParameters(k))
        elif isinstance(force, openmm.HarmonicBondForce):
            for k in range(force.getNumBonds()):
                a, b, *values = force.getBondParameters(k)
                edge_types[frozenset((a, b))] = tuple(_plain_numbers(values))
    vertex_types = tuple((atom.element, *p) for atom, p in zip(system.atoms, parameters, strict=True))
    return TypedGraph(vertex_types, edge_types)


def _plain_numbers(values: Sequence[Any]) -> list[float]:
    """OpenMM quantities as numbers in its own units, rounded."""
    return [round(float(getattr(value, "_value", value)), DECIMALS) for value in values]


def refine_colours(graph: TypedGraph) -> list[int]:
    """The coarsest colouring in which atoms of one colour have one type and neighbours of the same colours.

    Atoms of different colours are never exchanged; those of one colour may be. (Weisfeiler & Leman 1968.)

    >>> methylene = TypedGraph(("C", "H", "H"), {frozenset((0, 1)): "", frozenset((0, 2)): ""})
    >>> refine_colours(methylene)
    [0, 1, 1]
    """
    neighbours = graph.neighbours()
    colours = _number(graph.vertex_types)
    while True:
        signatures: list[Hashable] = []
        for a, bonded in enumerate(neighbours):
            around = ((repr(graph.edge_types[frozenset((a, b))]), colours[b]) for b in bonded)
            signatures.append((colours[a], tuple(sorted(around))))
        refined = _number(signatures)
        if max(refined) == max(colours):
            return refined
        colours = refined


def _number(labels: Sequence[Hashable]) -> list[int]:
    """A number for each distinct label, in the order of their first appearance."""
    numbers = {label: k for k, label in enumerate(dict.fromkeys(labels))}
    return [numbers[label] for label in labels]


def find_automorphisms(graph: TypedGraph) -> tuple[SymmetryFactor, ...]:
    """The automorphism group of a graph as a direct product of factors with disjoint supports.

    Raises:
        BgbenchError: for a component with more than `MAX_ORDER` automorphisms.
    """
    colours, neighbours = refine_colours(graph), graph.neighbours()
    factors = []
    for component in _components(colours, neighbours):
        identity = tuple(range(len(colours)))
        elements = [identity] + [
            element for element in _list_permutations(component, colours, graph) if element != identity
        ]
        factors += split_factor(SymmetryFactor(tuple(elements)))
    return tuple(factors)


def find_feasible_permutations(system: bgbench.System) -> tuple[SymmetryFactor, ...]:
    """The automorphisms of a system that keep the handedness of every tetrahedral centre.

    Handedness is read off `system.positions`, the start structure, in which it must be as it should.

    Raises:
        BgbenchError: for a system without a force field, or one too symmetric to list.
    """
    graph = typed_graph(system)
    centres = [(a, bonded) for a, bonded in enumerate(graph.neighbours()) if len(bonded) == 4]
    x = system.positions
    handedness = _handedness(x, centres)
    factors = []
    for factor in find_automorphisms(graph):
        feasible = tuple(
            element for element in factor.elements if _handedness(x[list(element)], centres) == handedness
        )
        if len(feasible) > 1:
            factors += split_factor(SymmetryFactor(feasible))
    return tuple(factors)


def _handedness(x: Tensor, centres: Sequence[tuple[int, list[int]]]) -> list[bool]:
    """Whether the first three neighbours of each centre turn left or right, seen from the fourth."""
    corners = torch.tensor([bonded for _, bonded in centres]).reshape(-1, 4)
    edges = x[corners[:, :3]] - x[corners[:, 3:]]
    return (torch.linalg.det(edges) > 0).tolist()


def _components(colours: Sequence[int], neighbours: list[list[int]]) -> list[list[int]]:
    """Atoms that share a colour with others, in sets that no bond and no colour connects."""
    atoms_of = {colour: [a for a, c in enumerate(colours) if c == colour] for colour in colours}
    waiting = {a for atoms in atoms_of.values() if len(atoms) > 1 for a in atoms}
    components = []
    while waiting:
        component, queue = [], [min(waiting)]
        waiting.discard(queue[0])
        while queue:
            atom = queue.pop(0)
            component.append(atom)
            linked = [b for b in (*neighbours[atom], *atoms_of[colours[atom]]) if b in waiting]
            linked = list(dict.fromkeys(linked))
            queue += linked
            waiting -= set(linked)
        components.append(component)
    return components


def _list_permutations(
    component: Sequence[int], colours: Sequence[int], graph: TypedGraph
) -> list[Permutation]:
    """All permutations of a component that keep colours and bonds; atoms outside stay where they are.

    Bonds that leave the component need no check: all atoms of one colour have them alike.
    """
    permutations: list[Permutation] = []
    image: dict[int, int] = {}

    def extend(k: int) -> None:
        if k == len(component):
            if len(permutations) == MAX_ORDER:
                raise bgbench.BgbenchError(
                    f"more than {MAX_ORDER} ways to exchange {len(component)} atoms: too symmetric a molecule"
                )
            permutations.append(tuple(image.get(a, a) for a in range(len(colours))))
            return
        atom = component[k]
        for target in component:
            if colours[target] != colours[atom] or target in image.values():
                continue
            if all(
                graph.edge_types.get(frozenset((atom, a))) == graph.edge_types.get(frozenset((target, b)))
                for a, b in image.items()
            ):
                image[atom] = target
                extend(k + 1)
                del image[atom]

    extend(0)
    return permutations


def split_factor(factor: SymmetryFactor) -> list[SymmetryFactor]:
    """A group as a direct product of groups on disjoint sets of atoms, as many as there are.

    A set of orbits splits off where the orders of both parts multiply to that of the whole.
    """
    orbits = _orbits(factor)
    for size in range(1, len(orbits) // 2 + 1):
        for some in itertools.combinations(orbits, size):
            inside = frozenset[int]().union(*some)
            one, other = _restrict(factor, inside), _restrict(factor, factor.support - inside)
            if one.order * other.order == factor.order:
                return split_factor(one) + split_factor(other)
    return [factor] if factor.order > 1 else []


def _orbits(factor: SymmetryFactor) -> list[frozenset[int]]:
    """The sets of atoms that are exchanged with each other."""
    images = {a: frozenset(element[a] for element in factor.elements) for a in sorted(factor.support)}
    return list(dict.fromkeys(images.values()))


def _restrict(factor: SymmetryFactor, atoms: frozenset[int]) -> SymmetryFactor:
    """The group's action on some atoms, the others staying where they are."""
    elements = (tuple(b if a in atoms else a for a, b in enumerate(element)) for element in factor.elements)
    return SymmetryFactor(tuple(dict.fromkeys(elements)))


def _closure(identity: Permutation, generators: Sequence[Permutation]) -> set[Permutation]:
    """All products of the generators."""
    generated, queue = {identity}, [identity]
    while queue:
        element = queue.pop()
        products = {tuple(generator[a] for a in element) for generator in generators} - generated
        generated |= products
        queue += products
    return generated


def group_order(factors: Sequence[SymmetryFactor]) -> int:
    """|G| of the direct product."""
    return math.prod(factor.order for factor in factors)


def symmetrize_log_q(
    log_q: Callable[[Tensor], Tensor], factors: Sequence[SymmetryFactor]
) -> Callable[[Tensor], Tensor]:
    """log q_sym of a base density, exactly: one evaluation of the base for each element of the group.

    Args:
        log_q: Of conformers `(n, atoms, 3)`, `(n,)`.
        factors: Over which q is averaged, their supports being disjoint. Leave out those under which the
            base is symmetric already: they cost evaluations and change nothing.

    Returns:
        A function as `log_q`. It belongs to samples of q with atoms exchanged by `exchange_uniformly`.
    """

    def symmetrized(x: Tensor) -> Tensor:
        identity, *others = itertools.product(*(factor.elements for factor in factors))
        total = log_q(x[:, list(_combine(identity, x.shape[1]))])
        for elements in others:
            total = torch.logaddexp(total, log_q(x[:, list(_combine(elements, x.shape[1]))]))
        return total - math.log(group_order(factors))

    return symmetrized


def _combine(elements: Sequence[Permutation], n_atoms: int) -> Permutation:
    """The product of permutations with disjoint supports."""
    moved = {a: b for element in elements for a, b in enumerate(element) if a != b}
    return tuple(moved.get(a, a) for a in range(n_atoms))


def exchange_uniformly(x: Tensor, factors: Sequence[SymmetryFactor], generator: torch.Generator) -> Tensor:
    """`x (n, atoms, 3)` with each conformer's atoms exchanged by a uniformly chosen element of the group."""
    order = torch.arange(x.shape[1]).expand(x.shape[:2])
    for factor in factors:
        elements = torch.tensor(factor.elements)
        picks = torch.randint(factor.order, (len(x),), generator=generator)
        order = order.gather(1, elements[picks])
    return x.gather(1, order.to(x.device)[..., None].expand_as(x))
