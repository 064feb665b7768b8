"""The reference geometry from the force field and the molecular graph, without any training frames.

Every atom of every peptide has a row, whatever residues the training data held. With equilibrium values and
force constants of the harmonic terms, E = ½ k (y − y₀)², and kT at the system's temperature:

- r₀ and σ_r = √(kT/k): the bond to the parent;
- θ₀ and σ_θ = √(kT/k): the angle (atom, parent, angle reference). Where the atom closes a ring, θ₀ follows
  from the bond that closes it (`reference_geometry.expected_angle`), and σ_θ from the widths of r and of the
  closing bond l at the distance d that the ring's own angle gives,

      d² = r₀² + l₀² − 2 r₀ l₀ cos γ₀,   σ_θ² = (∂θ/∂l σ_l)² + (∂θ/∂r σ_r)²;

- φ₀ of an atom beside a sibling: with θ₀ = α of the atom, β of the sibling and γ between them, the law of
  cosines on the sphere,

      cos φ₀ = (cos γ − cos α cos β) / (sin α sin β),

  and 1/σ_φ² = (Σ k n² over impropers of these atoms + k_γ (∂γ/∂φ)²)/kT;
- φ₀ about a bond that the force field keeps planar (peptide bond, aromatic ring, guanidinium): 0 or π, with
  1/σ_φ² = Σ k n² / kT over the torsions about it. About every other bond φ turns.

Two things no harmonic constant says: the sign of φ₀ at a tetrahedral centre, and whether a planar bond is cis
or trans. Both are read off the system's start structure, hydrogens under canonical names (`prochiral`).

Not used by the packaged weights, which were trained with a table of measured values. Lengths in nm, angles in
rad, energies in kT.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

import bgbench
from bgbench_verse.automorphisms import SymmetryFactor, find_feasible_permutations
from bgbench_verse.internal_coordinates import to_internal
from bgbench_verse.prochiral import to_canonical_names
from bgbench_verse.reference_geometry import ReferenceGeometry
from bgbench_verse.zmatrix import Placement, ZMatrix, build_zmatrix, pad_zmatrices

TURNING_WIDTH = math.pi
"""rad. σ_φ of a dihedral that turns about its bond: more than `reference_geometry.FIXED_DIHEDRAL`."""

RIGID_BARRIER = 10.0
"""kT. A torsional barrier above this keeps a bond between two planar atoms planar."""

WIDEST_FIXED, NARROWEST_FIXED = 0.4, 0.03
"""rad. Bounds of σ_φ where the dihedral is fixed."""

PLANAR_RING_WIDTH, PUCKER_WIDTH = 0.1, 0.4
"""rad. σ_φ of the atom that closes a ring: an aromatic one, and one that puckers, such as proline's."""

UNUSED_ANGLE, UNUSED_WIDTH = math.pi / 2, 1.0
"""rad. θ₀ and σ of coordinates that the first atoms do not have."""


@dataclass(frozen=True)
class Harmonic:
    """A harmonic term: equilibrium value (nm or rad), and force constant in kT per nm² or rad²."""

    equilibrium: float
    constant: float

    @property
    def width(self) -> float:
        """Standard deviation of the coordinate in the term's own Boltzmann density, √(kT/k)."""
        return 1 / math.sqrt(self.constant)


@dataclass(frozen=True)
class BondedTerms:
    """The bonded terms of a force field for one system, energies in kT.

    Attributes:
        bonds: By the set of two atoms.
        angles: By (end, centre, end), in both directions.
        torsions: Sum of k n² over the proper torsions about a bond, by the set of its two atoms.
        barriers: Σ 2 k over the proper torsions about a bond with even periodicity, likewise.
        impropers: Sum of k n² over the impropers on the set of four atoms.
    """

    bonds: Mapping[frozenset[int], Harmonic]
    angles: Mapping[tuple[int, int, int], Harmonic]
    torsions: Mapping[frozenset[int], float]
    barriers: Mapping[frozenset[int], float]
    impropers: Mapping[frozenset[int], float]


def read_bonded_terms(system: bgbench.System) -> BondedTerms:
    """The bonded terms of a system's force field, at its temperature.

    Raises:
        BgbenchError: for a system without a force field.
    """
    import openmm

    kt = bgbench.kt(system.temperature)
    bonded = {frozenset(bond) for bond in system.bonds}
    bonds: dict[frozenset[int], Harmonic] = {}
    angles: dict[tuple[int, int, int], Harmonic] = {}
    torsions: dict[frozenset[int], float] = {}
    barriers: dict[frozenset[int], float] = {}
    impropers: dict[frozenset[int], float] = {}
    for force in bgbench.openmm_system(system).getForces():
        if isinstance(force, openmm.HarmonicBondForce):
            for term in range(force.getNumBonds()):
                a, b, length, k = force.getBondParameters(term)
                bonds[frozenset((a, b))] = Harmonic(_number(length), _number(k) / kt)
        elif isinstance(force, openmm.HarmonicAngleForce):
            for term in range(force.getNumAngles()):
                a, b, c, angle, k = force.getAngleParameters(term)
                angles[a, b, c] = angles[c, b, a] = Harmonic(_number(angle), _number(k) / kt)
        elif isinstance(force, openmm.PeriodicTorsionForce):
            for term in range(force.getNumTorsions()):
                a, b, c, d, n, _, k = force.getTorsionParameters(term)
                strength = _number(k) / kt
                if {frozenset((a, b)), frozenset((b, c)), frozenset((c, d))} <= bonded:
                    axis = frozenset((b, c))
                    torsions[axis] = torsions.get(axis, 0.0) + strength * n**2
                    if n % 2 == 0:
                        barriers[axis] = barriers.get(axis, 0.0) + 2 * strength
                else:
                    atoms = frozenset((a, b, c, d))
                    impropers[atoms] = impropers.get(atoms, 0.0) + strength * n**2
    return BondedTerms(bonds, angles, torsions, barriers, impropers)


def _number(quantity: Any) -> float:
    """An OpenMM quantity in OpenMM's own units."""
    return float(getattr(quantity, "_value", quantity))


def force_field_geometry(system: bgbench.System) -> ReferenceGeometry:
    """The reference geometry of all atoms of a peptide.

    Args:
        system: With a force field, and a start structure of the right stereochemistry.

    Returns:
        Rows `(N, 7)` in placing order, as `molecule.Molecule` has them.

    Raises:
        BgbenchError: for a system without a force field, or one without a term for a bond or an angle.
    """
    zmatrix = build_zmatrix([atom.element for atom in system.atoms], system.bonds)
    return ReferenceGeometry(torch.tensor(_GeometryBuilder(system, zmatrix).rows()))


class _GeometryBuilder:
    """Rows of one system; atoms are given by their numbers in the system, not by steps."""

    def __init__(self, system: bgbench.System, zmatrix: ZMatrix) -> None:
        self._system, self._zmatrix = system, zmatrix
        self._terms = read_bonded_terms(system)
        self._factors = find_feasible_permutations(system)
        self._neighbours: list[set[int]] = [set() for _ in system.atoms]
        for a, b in system.bonds:
            self._neighbours[a].add(b)
            self._neighbours[b].add(a)
        padded = pad_zmatrices([zmatrix])
        start = to_canonical_names(system.positions[None, zmatrix.order], padded)
        self._start_phi = to_internal(start, padded)[2][0].tolist()

    def rows(self) -> list[list[float]]:
        """One row of seven numbers for each step."""
        return [self._row(k) for k in range(self._zmatrix.n_atoms)]

    def _row(self, k: int) -> list[float]:
        if k == 0:
            return [0.1, UNUSED_WIDTH, UNUSED_ANGLE, UNUSED_WIDTH, 0.0, TURNING_WIDTH, 0.1]
        z, order = self._zmatrix, self._zmatrix.order.tolist()
        atom, parent = order[k], order[int(z.parent[k])]
        bond = self._bond(atom, parent)
        length = [bond.equilibrium, bond.width]
        if k == 1:
            return [*length, UNUSED_ANGLE, UNUSED_WIDTH, 0.0, TURNING_WIDTH, bond.equilibrium]
        reference = order[int(z.angle_reference[k])]
        if int(z.placement[k]) == Placement.RING_CLOSURE:
            closing = self._bond(atom, reference)
            angle = [0.0, self._ring_closing_width(atom, parent, reference)]
            closing_length = closing.equilibrium
        else:
            term = self._angle(atom, parent, reference)
            angle = [term.equilibrium, term.width]
            across = self._bond(parent, reference).equilibrium
            closing_length = third_side(bond.equilibrium, across, term.equilibrium)
        dihedral = self._dihedral(k) if k > 2 else [0.0, TURNING_WIDTH]
        return [*length, *angle, *dihedral, closing_length]

    def _dihedral(self, k: int) -> list[float]:
        """φ₀ and σ_φ of the atom of step k."""
        z, order = self._zmatrix, self._zmatrix.order.tolist()
        atom, parent, reference, dihedral_reference = (
            order[int(step)] for step in (k, z.parent[k], z.angle_reference[k], z.dihedral_reference[k])
        )
        placement = int(z.placement[k])
        if placement == Placement.IMPROPER:
            return self._beside_sibling(k, atom, parent, reference, dihedral_reference)
        if placement == Placement.RING_CLOSURE:
            planar = all(self._is_planar(a) for a in (atom, parent, reference))
            return [nearest_planar(self._start_phi[k]), PLANAR_RING_WIDTH if planar else PUCKER_WIDTH]
        is_rigid = self._barrier(parent, reference) > RIGID_BARRIER
        is_rigid &= self._is_planar(parent) and self._is_planar(reference)
        if not is_rigid or moves_alone(self._factors, atom, (parent, reference, dihedral_reference)):
            return [0.0, TURNING_WIDTH]
        stiffness = self._terms.torsions[frozenset((parent, reference))]
        return [nearest_planar(self._start_phi[k]), fixed_width(stiffness)]

    def _beside_sibling(self, k: int, atom: int, parent: int, reference: int, sibling: int) -> list[float]:
        """φ₀ and σ_φ of an atom whose dihedral is measured from a sibling, see the module."""
        of_atom = self._angle(atom, parent, reference).equilibrium
        of_sibling = self._angle(sibling, parent, reference).equilibrium
        between = self._angle(atom, parent, sibling)
        sines = math.sin(of_atom) * math.sin(of_sibling)
        cosine = (math.cos(between.equilibrium) - math.cos(of_atom) * math.cos(of_sibling)) / sines
        phi = math.pi if self._is_planar(parent) else math.acos(max(-1.0, min(1.0, cosine)))
        slope = sines * math.sin(phi) / math.sin(between.equilibrium)
        stiffness = between.constant * slope**2
        stiffness += self._terms.impropers.get(frozenset((atom, parent, reference, sibling)), 0.0)
        return [math.copysign(phi, self._start_phi[k]), fixed_width(stiffness)]

    def _ring_closing_width(self, atom: int, parent: int, reference: int) -> float:
        """σ_θ of an atom that closes a ring between its parent and its angle reference."""
        bond, closing = self._bond(atom, parent), self._bond(atom, reference)
        r, length = bond.equilibrium, closing.equilibrium
        distance = third_side(r, length, self._angle(parent, atom, reference).equilibrium)
        cosine = (r**2 + distance**2 - length**2) / (2 * r * distance)
        sine = math.sqrt(1 - cosine**2)
        by_length = length / (r * distance * sine)
        by_r = (1 / distance - cosine / r) / sine
        return math.hypot(by_length * closing.width, by_r * bond.width)

    def _is_planar(self, atom: int) -> bool:
        """Whether an improper or the torsions about one of its bonds hold an atom and its neighbours flat."""
        bonded = self._neighbours[atom]
        has_improper = frozenset((atom, *bonded)) in self._terms.impropers
        is_rigid = any(self._barrier(atom, b) > RIGID_BARRIER for b in bonded)
        return len(bonded) <= 3 and (has_improper or is_rigid)

    def _barrier(self, a: int, b: int) -> float:
        return self._terms.barriers.get(frozenset((a, b)), 0.0)

    def _bond(self, a: int, b: int) -> Harmonic:
        return self._require(self._terms.bonds.get(frozenset((a, b))), "bond", (a, b))

    def _angle(self, a: int, b: int, c: int) -> Harmonic:
        return self._require(self._terms.angles.get((a, b, c)), "angle", (a, b, c))

    def _require(self, term: Harmonic | None, kind: str, atoms: Sequence[int]) -> Harmonic:
        if term is None or term.constant <= 0:
            known = (self._system.atoms[a] for a in atoms)
            names = "–".join(f"{atom.residue_name}:{atom.name}" for atom in known)
            raise bgbench.BgbenchError(
                f"the force field of {self._system.name} has no harmonic term for the {kind} {names}; "
                "use a force field without constraints that has one"
            )
        return term


def third_side(a: float, b: float, angle: float) -> float:
    """The side of a triangle opposite to `angle` (rad), from the other two (nm)."""
    return math.sqrt(a**2 + b**2 - 2 * a * b * math.cos(angle))


def fixed_width(stiffness: float) -> float:
    """σ_φ (rad) of a fixed dihedral whose energy has this second derivative (kT/rad²), within bounds."""
    width = 1 / math.sqrt(stiffness) if stiffness > 0 else WIDEST_FIXED
    return min(WIDEST_FIXED, max(NARROWEST_FIXED, width))


def nearest_planar(phi: float) -> float:
    """0 or π, whichever a dihedral (rad) is closer to."""
    return 0.0 if abs(math.remainder(phi, 2 * math.pi)) < math.pi / 2 else math.pi


def moves_alone(factors: Sequence[SymmetryFactor], atom: int, references: Sequence[int]) -> bool:
    """Whether some permutation moves an atom and leaves its reference atoms where they are.

    The dihedrals of the exchanged atoms are the same density then, so that neither may be fixed.
    """
    return any(
        element[atom] != atom and all(element[a] == a for a in references)
        for factor in factors
        for element in factor.elements
    )
