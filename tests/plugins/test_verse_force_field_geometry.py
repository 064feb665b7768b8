"""Verse: reference geometry from the force field, against relaxed and simulated structures."""

import math

import pytest
import torch

from bgbench import BgbenchError, ForceFieldSpec, System, energy, minimise, peptide
from bgbench_verse import weights
from bgbench_verse.bonded_terms import read_bonded_terms, relax_angles
from bgbench_verse.density import standardize
from bgbench_verse.force_field_geometry import (
    TURNING_WIDTH,
    find_rings,
    force_field_geometry,
    nearest_planar,
    third_side,
)
from bgbench_verse.internal_coordinates import to_internal
from bgbench_verse.molecule import Molecule, batch_molecules, encode_peptide
from bgbench_verse.prochiral import to_canonical_names
from bgbench_verse.reference_geometry import FIXED_DIHEDRAL, atom_names, look_up_geometry
from bgbench_verse.zmatrix import Placement, build_zmatrix, pad_zmatrices

RESIDUES = "ACDEFGHIKLMNPQRSTVWY"
LENGTHS = ("GG", "GGG", "PGRG", "AWGHY", "CDEGFI", "KLMGNPQ", "RSTGVWYH")
"""Two to eight residues, with glycine inside."""


def zmatrix_of(system):
    return build_zmatrix([atom.element for atom in system.atoms], system.bonds)


@pytest.mark.parametrize(
    "sequence",
    [
        *(pytest.param(3 * one, marks=() if one in "GPRW" else pytest.mark.slow) for one in RESIDUES),
        *LENGTHS,
    ],
)
def test_every_atom_at_every_place_has_a_row_that_a_relaxed_structure_satisfies(sequence):
    """First, middle and last place of all residues; r, θ and fixed φ of the minimum of the energy."""
    system = peptide(sequence)
    zmatrix, geometry = zmatrix_of(system), force_field_geometry(system)
    assert geometry.rows.shape == (system.n_atoms, 7)
    assert bool(torch.isfinite(geometry.rows).all())
    assert float(geometry.rows[:, (1, 3, 5)].min()) > 0.0
    codes = encode_peptide(system.atoms, zmatrix, {})
    molecules = batch_molecules([Molecule(zmatrix, codes, geometry)])
    relaxed = minimise(energy(system, "batched"), system.positions, 300)
    x = relaxed[None, zmatrix.order].float()
    coordinates, _ = standardize(to_canonical_names(x, molecules.zmatrix), molecules)
    assert float(coordinates.r.abs().max()) < 3.0
    assert float(coordinates.theta.abs().max()) < 5.0
    fixed = geometry.dihedral_width < FIXED_DIHEDRAL
    deviation = torch.remainder(coordinates.phi[0] - geometry.dihedral + math.pi, 2 * math.pi) - math.pi
    assert float(deviation[fixed].abs().max()) < 0.8
    assert bool(fixed[zmatrix.placement == Placement.IMPROPER].all())


@pytest.mark.parametrize("sequence", ["AA", "DI", "RIP", "FWH", "KENQ"])
def test_rows_agree_with_those_measured_in_simulations(sequence):
    """The packaged table was measured on molecular dynamics of training peptides."""
    system, table = peptide(sequence), weights("verse-mini").table
    zmatrix, geometry = zmatrix_of(system), force_field_geometry(system)
    measured = look_up_geometry(system.atoms, zmatrix, table)
    names, steps = atom_names(system.atoms, zmatrix), torch.arange(system.n_atoms)
    assert float((geometry.length - measured.length)[steps >= 1].abs().max()) < 0.005
    bent = (steps >= 2) & (zmatrix.placement != Placement.RING_CLOSURE)
    assert float((geometry.angle - measured.angle)[bent].abs().max()) < 0.12
    for width, simulated in (
        (geometry.length_width[1:], measured.length_width[1:]),
        (geometry.angle_width[2:], measured.angle_width[2:]),
    ):
        assert float((width / simulated).log().abs().median()) < math.log(1.3)
    closes = zmatrix.placement == Placement.RING_CLOSURE
    assert torch.allclose(geometry.closing_length[closes], measured.closing_length[closes], atol=0.005)
    beside = (steps >= 3) & (zmatrix.placement == Placement.IMPROPER) & (measured.dihedral_width < 0.3)
    gap = torch.remainder(geometry.dihedral - measured.dihedral + math.pi, 2 * math.pi) - math.pi
    assert float(gap[beside].abs().max()) < 0.3, [names[int(k)] for k in steps[beside & (gap.abs() > 0.3)]]


def test_interior_glycine_is_as_narrow_as_any_other_residue():
    """The packaged table has no row for it and falls back on a mean over first and last residues."""
    system = peptide("GGRS")
    zmatrix = zmatrix_of(system)
    step = int(zmatrix.step_of_atom[system.atom_index[1, "N"]])
    packaged = look_up_geometry(system.atoms, zmatrix, weights("verse-mini").table)
    assert float(packaged.angle_width[step]) > 0.5
    geometry = force_field_geometry(system)
    assert float(geometry.angle_width[step]) < 0.08
    assert float(geometry.angle[step]) == pytest.approx(math.radians(116.6), abs=0.005)
    alanine = peptide("AARS")
    step_of_alanine = int(zmatrix_of(alanine).step_of_atom[alanine.atom_index[1, "N"]])
    assert float(force_field_geometry(alanine).angle[step_of_alanine]) == float(geometry.angle[step])


def test_values_are_those_of_the_parameter_files():
    """Amber ff14SB: C–N 0.1335 nm and 490 kcal/(mol Å²), CA–C–N 116.6°, 70 kcal/(mol rad²)."""
    system = peptide("AA")
    terms, index = read_bonded_terms(system), system.atom_index
    kt = 0.0083144626 * 310.0
    bond = terms.bonds[frozenset((index[0, "C"], index[1, "N"]))]
    assert bond.equilibrium == pytest.approx(0.1335)
    assert bond.width == pytest.approx(math.sqrt(kt / (2 * 490.0 * 418.4)), rel=1e-4)
    angle = terms.angles[index[0, "CA"], index[0, "C"], index[1, "N"]]
    assert angle.equilibrium == pytest.approx(math.radians(116.6), rel=1e-4)
    assert angle.width == pytest.approx(math.sqrt(kt / (2 * 70.0 * 4.184)), rel=1e-4)
    colder = read_bonded_terms(system.at(155.0)).bonds[frozenset((index[0, "C"], index[1, "N"]))]
    assert colder.width == pytest.approx(bond.width / math.sqrt(2))


def test_angles_relax_until_planar_groups_close():
    """120° everywhere around tryptophan's indole cannot close a ring of five; the relaxed angles do."""
    system = peptide("WH")
    zmatrix, terms = zmatrix_of(system), read_bonded_terms(system)
    rings = find_rings(terms.neighbours, zmatrix)
    assert sorted(len(ring) for ring in rings) == [5, 5, 6]
    angles = relax_angles(terms, rings)
    for ring in rings:
        inner = [(ring[k - 1], ring[k], ring[(k + 1) % len(ring)]) for k in range(len(ring))]
        assert sum(angles[key].equilibrium for key in inner) == pytest.approx((len(ring) - 2) * math.pi)
    planar = [k for k, bonded in enumerate(terms.neighbours) if len(bonded) == 3 and terms.is_planar(k)]
    assert len(planar) >= 12
    for atom in planar:
        a, b, c = sorted(terms.neighbours[atom])
        total = sum(angles[key].equilibrium for key in ((a, atom, b), (b, atom, c), (a, atom, c)))
        assert total == pytest.approx(2 * math.pi)
    free = system.atom_index[0, "N"], system.atom_index[0, "CA"], system.atom_index[0, "CB"]
    assert angles[free].equilibrium == pytest.approx(terms.angles[free].equilibrium)
    assert angles[free].width == pytest.approx(terms.angles[free].width)
    assert all(angles[key].width <= terms.angles[key].width * (1 + 1e-9) for key in terms.angles)
    assert {frozenset(key) for key in angles} == {frozenset(key) for key in terms.angles}


def test_planar_bonds_are_fixed_and_exchangeable_atoms_turn():
    system = peptide("ARF")
    zmatrix, geometry = zmatrix_of(system), force_field_geometry(system)

    def dihedral(residue, name):
        step = int(zmatrix.step_of_atom[system.atom_index[residue, name]])
        return float(geometry.dihedral[step]), float(geometry.dihedral_width[step])

    for residue, name in ((1, "CA"), (2, "CE1"), (2, "HD1")):
        phi, width = dihedral(residue, name)
        assert abs(math.sin(phi)) < 1e-6
        assert width < FIXED_DIHEDRAL
    assert abs(dihedral(1, "CA")[0]) == pytest.approx(math.pi)
    for residue, name in ((1, "NH1"), (1, "HH11"), (1, "CG"), (2, "CD1"), (0, "HB1")):
        assert dihedral(residue, name)[1] == pytest.approx(TURNING_WIDTH)
    handedness = [dihedral(k, "CB")[0] for k in (0, 1, 2)]
    assert len({math.copysign(1.0, phi) for phi in handedness}) == 1
    assert 1.9 < abs(handedness[0]) < 2.3


def test_the_mirror_image_has_the_opposite_dihedrals():
    system = peptide("AI")
    zmatrix = zmatrix_of(system)
    mirrored = System(**{**vars(system), "positions": -system.positions})
    one, other = force_field_geometry(system), force_field_geometry(mirrored)
    heavy = torch.tensor([system.atoms[k].element != "H" for k in zmatrix.order.tolist()])
    tetrahedral = heavy & (one.dihedral.abs() > 1.5) & (one.dihedral.abs() < 2.5)
    assert int(tetrahedral.sum()) >= 3
    assert torch.allclose(one.dihedral[tetrahedral], -other.dihedral[tetrahedral])
    assert torch.equal(one.rows[:, :4], other.rows[:, :4])


def test_small_formulas():
    assert third_side(3.0, 4.0, math.pi / 2) == pytest.approx(5.0)
    assert [nearest_planar(phi) for phi in (0.3, -1.5, 3.0, -3.1, 6.2)] == [0.0, 0.0, math.pi, math.pi, 0.0]


def test_systems_without_harmonic_terms_are_refused():
    with pytest.raises(BgbenchError, match="has no force field"):
        force_field_geometry(System("x", torch.zeros(2, 3)))
    constrained = peptide("AA", forcefield=ForceFieldSpec(constraints="HBonds"))
    with pytest.raises(BgbenchError, match="no harmonic term for the bond ALA:H"):
        force_field_geometry(constrained)


def test_the_start_structures_own_coordinates_are_used_for_the_sign_alone():
    """Moving the start structure a little leaves every row as it is."""
    system = peptide("AV")
    noise = 0.005 * torch.randn(system.positions.shape, generator=torch.Generator().manual_seed(0)).double()
    moved = System(**{**vars(system), "positions": system.positions + noise})
    assert torch.equal(force_field_geometry(system).rows, force_field_geometry(moved).rows)
    zmatrix = zmatrix_of(system)
    _, theta, _ = to_internal(moved.positions[None, zmatrix.order], pad_zmatrices([zmatrix]))
    assert float((theta[0] - force_field_geometry(system).angle).abs().max()) > 0.02
