"""Peptides with caps: names, atoms, torsions, chirality, energies, and who cannot have them."""

import mdtraj
import numpy as np
import pytest
import torch

from bgbench import BgbenchError, Card, ForceFieldSpec, Unsupported, peptide
from bgbench.core.abstract import refuse_unsupported
from bgbench.core.plugins import build_sampler
from bgbench.dynamics.solute_scaling import TorsionMoves, scale_solute
from bgbench.energies.batched import BatchedEnergy
from bgbench.energies.openmm import OpenMMEnergy, openmm_system
from bgbench.energies.parameters import read_parameters
from bgbench.evaluation.leakage import leakage
from bgbench.systems.broken import broken
from bgbench.systems.chirality import is_mirrored, is_wrong
from bgbench.systems.features import n_tica_features, tica_features, torsions
from bgbench.systems.matching import match_atoms
from bgbench.systems.residues import heavy_atoms, parse_chain
from bgbench.systems.trajectories import mdtraj_topology
from bgbench_controls.shuffled import rotate_about, shuffle_torsions

FF99 = ForceFieldSpec("ff99", ("amber99sbildn.xml", "amber99_obc.xml"), "NoCutoff")


@pytest.fixture(scope="module")
def dipeptide():
    return peptide("ACE-A-NME")


def shaken(system, generator, n=6, width=0.01):
    noise = torch.randn(n, system.n_atoms, 3, generator=generator, dtype=torch.float64)
    return system.positions + width * noise


@pytest.mark.parametrize(
    ("written", "name"),
    [("ace-a-nme", "ACE-A-NME"), (" Ace-AAA-Nme", "ACE-AAA-NME"), ("GS-NME", "GS-NME"), ("ACE", "ACE")],
)
def test_a_name_has_one_spelling(written, name):
    assert parse_chain(written).name == name == peptide(written).name


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("A", "at least 2 are needed, or caps: ACE-A-NME"),
        ("ACE--NME", "at least 1 are needed"),
        ("ACE-NME", "is not one sequence with the caps"),
        ("ACE-A-NHE", "write it as AAA, or with caps as ACE-AAA-NME"),
        ("A-A", "write it as AAA, or with caps as ACE-AAA-NME"),
        ("NME-A-ACE", "is not one sequence with the caps"),
        ("ACE-X-NME", "'X', not one of the 20 standard residues"),
    ],
)
def test_other_names_are_refused(name, complaint):
    with pytest.raises(BgbenchError, match=complaint):
        peptide(name)


@pytest.mark.parametrize("name", ["ACE-A-NME", "ACE-AAA-NME", "ACE-WG", "PK-NME"])
def test_heavy_atoms_are_counted_without_building(name):
    assert heavy_atoms(name) == sum(atom.element != "H" for atom in peptide(name).atoms)


def test_alanine_dipeptide_is_the_molecule_of_22_atoms(dipeptide):
    names = [f"{atom.residue_name}:{atom.name}" for atom in dipeptide.atoms]
    assert len(names) == 22
    assert {"ACE:CH3", "ACE:C", "ACE:O", "ALA:CA", "NME:N", "NME:C"} <= set(names)
    assert dipeptide.sequence == ""
    graph = [set(bond) for bond in dipeptide.bonds]
    assert len(graph) == 21
    place = dipeptide.atom_index
    for one, other in (((0, "C"), (1, "N")), ((1, "C"), (2, "N")), ((0, "C"), (0, "CH3"))):
        assert {place[one], place[other]} in graph


@pytest.mark.parametrize("name", ["ACE-A-NME", "ACE-AGA-NME", "ACE-AG", "AG-NME"])
def test_phi_and_psi_are_those_of_mdtraj(name, generator):
    system = peptide(name)
    x = shaken(system, generator, width=0.03)
    trajectory = mdtraj.Trajectory(x.numpy(), mdtraj_topology(system))
    for kind in ("phi", "psi"):
        expected = getattr(mdtraj, f"compute_{kind}")(trajectory, periodic=False)[1]
        angles = getattr(torsions(system, x), kind).numpy()
        assert angles.shape == expected.shape
        assert np.abs(np.angle(np.exp(1j * (angles - expected)))).max() < 1e-4


def test_a_caps_peptide_bond_has_an_omega_and_must_be_trans(dipeptide):
    x, place = dipeptide.positions[None], dipeptide.atom_index
    assert torsions(dipeptide, x).omega.shape == (1, 2)
    assert tica_features(dipeptide, x).shape == (1, n_tica_features(dipeptide))
    assert not any(bool(flag) for flag in broken(dipeptide, x).values())
    for bond in (((0, "C"), (1, "N")), ((1, "C"), (2, "N"))):
        turned = rotate_about(dipeptide, x, (place[bond[0]], place[bond[1]]), torch.tensor([torch.pi]))
        assert {name: bool(flag) for name, flag in broken(dipeptide, turned).items()} == {
            "wrong_hand": False,
            "cis": True,
            "torn": False,
        }


def test_chirality_is_that_of_the_residue_between_the_caps(dipeptide):
    x = dipeptide.positions[None]
    assert not is_wrong(dipeptide, x)
    assert is_wrong(dipeptide, -x)
    assert is_mirrored(dipeptide, -x)


@pytest.mark.parametrize("name", ["ACE-A-NME", "ACE-KPD-NME"])
@pytest.mark.parametrize("forcefield", [ForceFieldSpec(), FF99], ids=["ff14", "ff99"])
def test_energies_are_those_of_openmm(name, forcefield, generator):
    system = peptide(name, 300.0, forcefield)
    x = shaken(system, generator)
    u, force = OpenMMEnergy(system, "Reference").energy_and_force(x)
    ours, push = BatchedEnergy(system, "eager").energy_and_force(x)
    assert (ours - u).abs().max() < 1e-4
    assert (push - force).abs().max() < 1e-4 * force.abs().max()


def test_torsion_moves_leave_the_bonds_of_caps_as_they_are():
    system = peptide("ACE-AK-NME")
    p = read_parameters(openmm_system(system))
    moves = TorsionMoves.of_system(system, p.torsions)
    place = system.atom_index
    bonds = [{place[0, "C"], place[1, "N"]}, {place[2, "C"], place[3, "N"]}]
    assert all(set(axis) not in bonds for axis in moves.axes.tolist())
    assert {(place[1, "N"], place[1, "CA"]), (place[2, "CA"], place[2, "C"])} <= set(
        map(tuple, moves.axes.tolist())
    )
    scaled = scale_solute(p, moves, 0.5).torsion_coefficients / np.where(
        p.torsion_coefficients == 0, 1, p.torsion_coefficients
    )
    stiff = [{j, k} in bonds for _, j, k, _ in p.torsions.tolist()]
    assert sum(stiff) > 4
    assert set(np.unique(scaled[stiff])) <= {0.0, 1.0}


@pytest.mark.parametrize("name", ["ACE-AS-NME", "ACE-AS", "AS-NME"])
def test_the_shuffled_control_turns_each_angle_about_its_own_bond(name, generator):
    system = peptide(name)
    x = system.positions[None].repeat(8, 1, 1)
    angles = torch.linspace(-1.0, 1.0, 8, dtype=torch.float64)
    place = system.atom_index
    first = min(atom.residue for atom in system.atoms if atom.name == "CA")
    x = rotate_about(system, x, (place[first + 1, "N"], place[first + 1, "CA"]), angles)
    x = rotate_about(system, x, (place[first, "CA"], place[first, "C"]), angles)
    before, after = torsions(system, x), torsions(system, shuffle_torsions(system, x, generator))
    for kind in ("phi", "psi"):
        mine, theirs = (torch.cos(getattr(a, kind)).sort(0).values for a in (before, after))
        assert torch.allclose(mine, theirs, atol=1e-9)
    assert not torch.allclose(before.phi, after.phi)


@pytest.mark.parametrize("sampler", ["prose", "tbg", "verse"])
def test_trained_samplers_say_which_systems_they_support(sampler, dipeptide):
    with pytest.raises(
        Unsupported, match=r"residue ACE .* 20 standard residues with charged ends, such as AA"
    ):
        refuse_unsupported(build_sampler(sampler, {}), dipeptide)


def test_atoms_are_matched_by_caps_too(dipeptide):
    order = list(range(22))[::-1]
    assert match_atoms(dipeptide, [dipeptide.atoms[k] for k in order], "mine") == order
    with pytest.raises(BgbenchError, match=r"mine holds ACE-AA-NME, and ACE-A-NME was asked for"):
        match_atoms(dipeptide, peptide("ACE-AA-NME").atoms, "mine")
    with pytest.raises(BgbenchError, match=r"mine holds ACE-A-NME, and AA was asked for"):
        match_atoms(peptide("AA"), dipeptide.atoms, "mine")
    with pytest.raises(BgbenchError, match=r"residue 1 \(ACE\) lacks H1: fewer hydrogens"):
        match_atoms(dipeptide, dipeptide.atoms[:1] + dipeptide.atoms[2:], "mine")


@pytest.mark.parametrize(
    ("trained_on", "stamp"),
    [("ACE-A-NME", "seen"), ("ACE-Ala-NME", "seen"), ("Ace-AAA-Nme", "similar"), ("GG", "unseen")],
)
def test_leakage_looks_past_caps(trained_on, stamp):
    assert leakage(Card("mine", training_sequences=(trained_on,), n_parameters=1), "ACE-A-NME") == stamp
