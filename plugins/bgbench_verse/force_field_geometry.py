"""The reference geometry from the force field and the molecular graph, without any training frames.

Every atom of every peptide has a row, whatever residues the training data held. From the harmonic terms at
the system's temperature (`bonded_terms`):

- r₀ and σ_r: the bond to the parent;
- θ₀ and σ_θ: the angle (atom, parent, angle reference), relaxed where planar groups constrain it. Where the
  atom closes a ring, θ₀ follows from the bond that closes it (`reference_geometry.expected_angle`), and σ_θ
  from the widths of r and of the closing bond l at the distance d that the ring's own angle γ gives,

      d² = r₀² + l₀² − 2 r₀ l₀ cos γ₀,   σ_θ² = (∂θ/∂l σ_l)² + (∂θ/∂r σ_r)²;

- φ₀ of an atom beside a sibling: with θ₀ = α of the atom, β of the sibling and γ between them, the law of
  cosines on the sphere,

      cos φ₀ = (cos γ − cos α cos β) / (sin α sin β),

  π at a planar parent, and 1/σ_φ² = Σ k n² over impropers of these atoms + k_γ (∂γ/∂φ)²;
- φ₀ about a bond that the force field keeps planar (peptide bond, aromatic ring, guanidinium): 0 or π, with
  1/σ_φ² = Σ k n² over the torsions about it. About every other bond φ turns.

Two things no harmonic constant says: the sign of φ₀ at a tetrahedral centre, and whether a planar bond is cis
or trans. Both are read off the system's start structure, hydrogens under canonical names (`prochiral`).

Not used by the packaged weights, which were trained with a table of measured values. Lengths in nm, angles
in rad, energies in kT.
"""

import math
from collections.abc import Sequence

import torch

import bgbench
from bgbench_verse.automorphisms import SymmetryFactor, find_feasible_permutations
from bgbench_verse.bonded_terms import BondedTerms, Harmonic, read_bonded_terms, relax_angles
from bgbench_verse.internal_coordinates import to_internal
from bgbench_verse.prochiral import to_canonical_names
from bgbench_verse.reference_geometry import ReferenceGeometry
from bgbench_verse.zmatrix import Placement, ZMatrix, build_zmatrix, pad_zmatrices

TURNING_WIDTH = math.pi
"""rad. σ_φ of a dihedral that turns about its bond: more than `reference_geometry.FIXED_DIHEDRAL`."""

WIDEST_FIXED, NARROWEST_FIXED = 0.4, 0.03
"""rad. Bounds of σ_φ where the dihedral is fixed."""

PLANAR_RING_WIDTH, PUCKER_WIDTH = 0.1, 0.4
"""rad. σ_φ of the atom that closes a ring: an aromatic one, and one that puckers, such as proline's."""

UNUSED_ANGLE, UNUSED_WIDTH = math.pi / 2, 1.0
"""rad. θ₀ and σ of coordinates that the first atoms do not have."""


def force_field_geometry(system: bgbench.System) -> ReferenceGeometry:
    """The reference geometry of all atoms of a peptide.

    Args:
        system: With a force field, and a start structure of the right stereochemistry.

    Returns:
        Rows `(N, 7)` in placing order, as `molecule.Molecule` has them.

    Raises:
        BgbenchError: for a system without a force field, or one without a term for a bond or an angle.
    """
    terms = read_bonded_terms(system)
    return ReferenceGeometry(torch.tensor(_GeometryBuilder(system, terms).rows()))


class _GeometryBuilder:
    """Rows of one system; atoms are given by their numbers in the system, not by steps."""

    def __init__(self, system: bgbench.System, terms: BondedTerms) -> None:
        self._system, self._terms = system, terms
        zmatrix = build_zmatrix([atom.element for atom in system.atoms], system.bonds)
        self._zmatrix = zmatrix
        self._factors = find_feasible_permutations(system)
        self._angles = relax_angles(terms, find_rings(terms.neighbours, zmatrix))
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
            planar = all(self._terms.is_planar(a) for a in (atom, parent, reference))
            return [nearest_planar(self._start_phi[k]), PLANAR_RING_WIDTH if planar else PUCKER_WIDTH]
        is_rigid = self._terms.is_rigid(parent, reference)
        is_rigid &= self._terms.is_planar(parent) and self._terms.is_planar(reference)
        if not is_rigid or moves_alone(self._factors, atom, (parent, reference, dihedral_reference)):
            return [0.0, TURNING_WIDTH]
        stiffness = self._terms.stiffness[frozenset((parent, reference))]
        return [nearest_planar(self._start_phi[k]), fixed_width(stiffness)]

    def _beside_sibling(self, k: int, atom: int, parent: int, reference: int, sibling: int) -> list[float]:
        """φ₀ and σ_φ of an atom whose dihedral is measured from a sibling, see the module."""
        of_atom = self._angle(atom, parent, reference).equilibrium
        of_sibling = self._angle(sibling, parent, reference).equilibrium
        between = self._angle(atom, parent, sibling)
        sines = math.sin(of_atom) * math.sin(of_sibling)
        cosine = (math.cos(between.equilibrium) - math.cos(of_atom) * math.cos(of_sibling)) / sines
        phi = math.pi if self._terms.is_planar(parent) else math.acos(max(-1.0, min(1.0, cosine)))
        slope = sines * math.sin(phi) / math.sin(between.equilibrium)
        stiffness = between.constant * slope**2
        stiffness += self._terms.impropers.get(frozenset((atom, parent, reference, sibling)), 0.0)
        return [phi if phi == math.pi else math.copysign(phi, self._start_phi[k]), fixed_width(stiffness)]

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

    def _bond(self, a: int, b: int) -> Harmonic:
        return self._require(self._terms.bonds.get(frozenset((a, b))), "bond", (a, b))

    def _angle(self, a: int, b: int, c: int) -> Harmonic:
        return self._require(self._angles.get((a, b, c)), "angle", (a, b, c))

    def _require(self, term: Harmonic | None, kind: str, atoms: Sequence[int]) -> Harmonic:
        if term is None or term.constant <= 0:
            known = (self._system.atoms[a] for a in atoms)
            names = "–".join(f"{atom.residue_name}:{atom.name}" for atom in known)
            raise bgbench.BgbenchError(
                f"the force field of {self._system.name} has no harmonic term for the {kind} {names}; "
                "use a force field without constraints that has one"
            )
        return term


def find_rings(neighbours: Sequence[frozenset[int]], zmatrix: ZMatrix) -> list[list[int]]:
    """The shortest ring through each bond that closes one, as its atoms in order."""
    order, rings = zmatrix.order.tolist(), []
    for k in range(zmatrix.n_atoms):
        if int(zmatrix.placement[k]) == Placement.RING_CLOSURE:
            rings.append(_shortest_path(neighbours, order[k], order[int(zmatrix.angle_reference[k])]))
    return rings


def _shortest_path(neighbours: Sequence[frozenset[int]], start: int, end: int) -> list[int]:
    """The shortest path between two bonded atoms that does not use their bond."""
    paths, visited = [[start]], {start}
    while paths:
        path = paths.pop(0)
        for atom in sorted(neighbours[path[-1]] - visited):
            if atom == end and len(path) > 1:
                return [*path, end]
            if atom != end:
                visited.add(atom)
                paths.append([*path, atom])
    raise ValueError(f"no ring goes through the bond of atoms {start} and {end}")


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
