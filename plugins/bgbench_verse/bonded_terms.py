"""The bonded terms of a force field, and what they say of a molecule's equilibrium shape.

Harmonic terms E = ½ k (y − y₀)² give each bond and angle an equilibrium value and, with the others left out,
a width √(kT/k). Angles are not independent where atoms lie in a plane:

    the three angles about a planar atom add up to 2π,
    the m inner angles of a planar ring to (m − 2) π.

Force fields do not heed this (an imidazole's angles are all 120° in Amber, of which 108° are possible), so
that `relax_angles` minimises the angles' energy under these constraints A θ = b: with K = diag(k)

    θ = θ₀ + K⁻¹ Aᵀ (A K⁻¹ Aᵀ)⁺ (b − A θ₀),    cov θ = K⁻¹ − K⁻¹ Aᵀ (A K⁻¹ Aᵀ)⁺ A K⁻¹.

Lengths in nm, angles in rad, energies in kT.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

import bgbench

RIGID_BARRIER = 10.0
"""kT. A torsional barrier above this keeps a bond between two planar atoms planar."""


@dataclass(frozen=True)
class Harmonic:
    """A harmonic term: equilibrium value (nm or rad), and force constant in kT per nm² or rad²."""

    equilibrium: float
    constant: float

    @property
    def width(self) -> float:
        """Standard deviation √(kT/k) of the coordinate."""
        return 1 / math.sqrt(self.constant)


@dataclass(frozen=True)
class BondedTerms:
    """The bonded terms of a force field for one system; atoms by their numbers in the system.

    Attributes:
        neighbours: The atoms bonded to each atom.
        bonds: By the set of two atoms.
        angles: By (end, centre, end), in both directions.
        stiffness: Σ k n² over the proper torsions about a bond, by the set of its two atoms.
        barriers: Σ 2 k over those of even periodicity n, likewise.
        impropers: Σ k n² over the impropers on a set of four atoms.
    """

    neighbours: tuple[frozenset[int], ...]
    bonds: Mapping[frozenset[int], Harmonic]
    angles: Mapping[tuple[int, int, int], Harmonic]
    stiffness: Mapping[frozenset[int], float]
    barriers: Mapping[frozenset[int], float]
    impropers: Mapping[frozenset[int], float]

    def is_planar(self, atom: int) -> bool:
        """Whether an improper or the torsions about a bond hold an atom and its neighbours in a plane."""
        bonded = self.neighbours[atom]
        has_improper = frozenset((atom, *bonded)) in self.impropers
        return len(bonded) <= 3 and (has_improper or any(self.is_rigid(atom, b) for b in bonded))

    def is_rigid(self, a: int, b: int) -> bool:
        """Whether the torsional barrier about a bond is above `RIGID_BARRIER`."""
        return self.barriers.get(frozenset((a, b)), 0.0) > RIGID_BARRIER


def read_bonded_terms(system: bgbench.System) -> BondedTerms:
    """The bonded terms of a system's force field, in kT at its temperature.

    Raises:
        BgbenchError: for a system without a force field.
    """
    import openmm

    target = bgbench.openmm_system(system)  # OpenMM frees a system's forces with the system
    kt = bgbench.kt(system.temperature)
    neighbours: list[set[int]] = [set() for _ in system.atoms]
    for a, b in system.bonds:
        neighbours[a].add(b)
        neighbours[b].add(a)
    terms = BondedTerms(tuple(map(frozenset, neighbours)), {}, {}, {}, {}, {})
    for force in target.getForces():
        if isinstance(force, openmm.HarmonicBondForce):
            terms = replace(terms, bonds=_bonds(force, kt))
        elif isinstance(force, openmm.HarmonicAngleForce):
            terms = replace(terms, angles=_angles(force, kt))
        elif isinstance(force, openmm.PeriodicTorsionForce):
            terms = _with_torsions(terms, force, kt)
    return terms


def _bonds(force: Any, kt: float) -> dict[frozenset[int], Harmonic]:
    bonds = {}
    for term in range(force.getNumBonds()):
        a, b, length, k = force.getBondParameters(term)
        bonds[frozenset((a, b))] = Harmonic(_number(length), _number(k) / kt)
    return bonds


def _angles(force: Any, kt: float) -> dict[tuple[int, int, int], Harmonic]:
    angles = {}
    for term in range(force.getNumAngles()):
        a, b, c, angle, k = force.getAngleParameters(term)
        angles[a, b, c] = angles[c, b, a] = Harmonic(_number(angle), _number(k) / kt)
    return angles


def _with_torsions(terms: BondedTerms, force: Any, kt: float) -> BondedTerms:
    """The terms with the sums over torsions; one whose atoms are not bonded in a row is an improper."""
    stiffness: dict[frozenset[int], float] = {}
    barriers: dict[frozenset[int], float] = {}
    impropers: dict[frozenset[int], float] = {}
    for term in range(force.getNumTorsions()):
        a, b, c, d, n, _, strength = force.getTorsionParameters(term)
        k = _number(strength) / kt
        if b in terms.neighbours[a] and c in terms.neighbours[b] and d in terms.neighbours[c]:
            axis = frozenset((b, c))
            stiffness[axis] = stiffness.get(axis, 0.0) + k * n**2
            barriers[axis] = barriers.get(axis, 0.0) + (2 * k if n % 2 == 0 else 0.0)
        else:
            atoms = frozenset((a, b, c, d))
            impropers[atoms] = impropers.get(atoms, 0.0) + k * n**2
    return replace(terms, stiffness=stiffness, barriers=barriers, impropers=impropers)


def _number(quantity: Any) -> float:
    """An OpenMM quantity in OpenMM's own units."""
    return float(getattr(quantity, "_value", quantity))


def relax_angles(terms: BondedTerms, rings: Sequence[Sequence[int]]) -> dict[tuple[int, int, int], Harmonic]:
    """The angles at their constrained minimum, see the module; keys as in `BondedTerms.angles`.

    Args:
        terms: Of the force field.
        rings: Each ring's atoms in order; those that are not planar constrain nothing.
    """
    keys = [key for key in terms.angles if key[0] < key[2]]
    column = {key: k for k, key in enumerate(keys)} | {key[::-1]: k for k, key in enumerate(keys)}
    constraints: list[tuple[list[tuple[int, int, int]], float]] = []
    for atom, bonded in enumerate(terms.neighbours):
        if len(bonded) == 3 and terms.is_planar(atom):
            a, b, c = sorted(bonded)
            constraints.append(([(a, atom, b), (b, atom, c), (a, atom, c)], 2 * math.pi))
    for ring in rings:
        if all(terms.is_planar(atom) for atom in ring):
            inner = [(ring[k - 1], ring[k], ring[(k + 1) % len(ring)]) for k in range(len(ring))]
            constraints.append((inner, (len(ring) - 2) * math.pi))
    constraints = [(around, total) for around, total in constraints if all(key in column for key in around)]
    theta = np.array([terms.angles[key].equilibrium for key in keys])
    variance = np.array([1 / terms.angles[key].constant for key in keys])
    a_matrix = np.zeros((len(constraints), len(keys)))
    for row, (around, _) in enumerate(constraints):
        a_matrix[row, [column[key] for key in around]] = 1.0
    excess = np.array([total for _, total in constraints]) - a_matrix @ theta
    gain = (variance[:, None] * a_matrix.T) @ np.linalg.pinv((a_matrix * variance) @ a_matrix.T)
    theta = theta + gain @ excess
    variance = variance * (1 - (gain * a_matrix.T).sum(1))
    return {key: Harmonic(float(theta[k]), 1 / float(variance[k])) for key, k in column.items()}
