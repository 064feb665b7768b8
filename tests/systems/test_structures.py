"""PDB files as systems: variants that are sampled as they are, and what is refused by name."""

import random
import re
from dataclasses import replace
from pathlib import Path

import mdtraj
import numpy as np
import openmm
import pytest
import torch
from openmm import app, unit

from bgbench import BgbenchError, ForceFieldSpec, peptide
from bgbench.core.types import Structure
from bgbench.dynamics.solute_scaling import TorsionMoves
from bgbench.energies.batched import BatchedEnergy
from bgbench.energies.openmm import OpenMMEnergy, openmm_system
from bgbench.energies.parameters import read_parameters
from bgbench.evaluation.suites import read_suite
from bgbench.systems.chirality import is_wrong
from bgbench.systems.named import find_member
from bgbench.systems.peptides import force_field
from bgbench.systems.structures import build_structure
from bgbench.systems.trajectories import mdtraj_topology


def lines_of(system):
    """The lines of a system's atoms, as mdtraj writes a PDB file."""
    topology, x = mdtraj_topology(system), 10 * system.positions
    return [
        f"ATOM  {k + 1:5d}  {atom.name:<3s} {atom.residue.name} A{atom.residue.resSeq:4d}    "
        f"{x[k, 0]:8.3f}{x[k, 1]:8.3f}{x[k, 2]:8.3f}  1.00  0.00          {atom.element.symbol:>2s}"
        for k, atom in enumerate(topology.atoms)
    ]


def build(lines, forcefield=None):
    return build_structure(Structure("pdb:mine.pdb", "\n".join([*lines, "END", ""])), 310.0, forcefield)


def variant(sequence, variants):
    """The lines of a peptide in other protonation states, built by OpenMM."""
    system = peptide(sequence)
    heavy = [k for k, atom in enumerate(system.atoms) if atom.element != "H"]
    trajectory = mdtraj.Trajectory(system.positions[None].numpy(), mdtraj_topology(system)).atom_slice(heavy)
    modeller = app.Modeller(trajectory.topology.to_openmm(), trajectory.openmm_positions(0))
    state = random.getstate()
    random.seed(0)
    modeller.addHydrogens(
        force_field(ForceFieldSpec().files),
        variants=variants,
        platform=openmm.Platform.getPlatformByName("Reference"),
    )
    random.setstate(state)
    x = np.array(modeller.positions.value_in_unit(unit.angstrom))
    return [
        f"ATOM  {k + 1:5d}  {atom.name:<3s} {atom.residue.name} A{atom.residue.index + 1:4d}    "
        f"{x[k, 0]:8.3f}{x[k, 1]:8.3f}{x[k, 2]:8.3f}  1.00  0.00          {atom.element.symbol:>2s}"
        for k, atom in enumerate(modeller.topology.atoms())
    ]


def energies_agree(system):
    u = OpenMMEnergy(system, "Reference").energy(system.positions[None])
    assert (BatchedEnergy(system, "eager").energy(system.positions[None]) - u).abs() < 1e-3
    return float(u)


@pytest.mark.parametrize("name", ["AWH", "ACE-AS-NME"])
def test_a_file_in_any_order_is_the_built_peptide(name, generator):
    built = peptide(name)
    lines = lines_of(built)
    order = torch.randperm(len(lines), generator=generator).tolist()
    # Atoms of a residue stand together in a PDB file, in any order among themselves.
    shuffled = sorted((lines[k] for k in order), key=lambda line: int(line[22:26]))
    system = build(shuffled)
    assert system.sequence == built.sequence
    assert {(a.residue, a.name) for a in system.atoms} == {(a.residue, a.name) for a in built.atoms}
    assert len(system.bonds) == len(built.bonds)
    assert energies_agree(system) == pytest.approx(
        float(OpenMMEnergy(built, "Reference").energy(built.positions[None])), abs=1.0
    )
    assert not is_wrong(system, system.positions[None])


@pytest.mark.parametrize(
    ("sequence", "variants", "called"),
    [
        ("AHA", [None, "HID", None], "HID"),
        ("AHA", [None, "HIP", None], "HIP"),
        ("AHA", [None, "HIE", None], "HIE"),
        ("ADA", [None, "ASH", None], "ASH"),
        ("AEA", [None, "GLH", None], "GLH"),
        ("AKA", [None, "LYN", None], "LYN"),
    ],
)
def test_protonation_states_are_those_of_the_file(sequence, variants, called):
    lines = variant(sequence, variants)
    by_letters = build(lines)
    named = [line[:17] + called + line[20:] if line[22:26].strip() == "2" else line for line in lines]
    by_name = build(named)
    assert by_name.atoms == by_letters.atoms
    assert by_letters.sequence == (sequence if called == "HIE" else "")
    energies_agree(by_letters)


def test_a_disulfide_is_a_bond():
    """ACE-CGGC-NME, relaxed with a bond between its sulfurs."""
    lines = (Path(__file__).parents[1] / "data" / "disulfide.pdb").read_text().splitlines()
    system = build(lines)
    pair = {k for k, atom in enumerate(system.atoms) if atom.name == "SG"}
    assert pair in [set(bond) for bond in system.bonds]
    assert system.sequence == ""
    energies_agree(system)
    moves = TorsionMoves.of_system(system, read_parameters(openmm_system(system)).torsions)
    turning = [{system.atoms[k].name for k in axis} for axis in moves.axes.tolist()]
    assert turning
    assert {"CB", "SG"} not in turning


def test_a_cysteine_without_its_hydrogen_and_without_a_partner_is_refused():
    lines = [line for line in lines_of(peptide("ACE-CGGC-NME")) if line[12:16].strip() != "HG"]
    with pytest.raises(
        BgbenchError, match=r"residue 2 \(CYS\) lacks HG: a thiolate \(CYM\), or the other half"
    ):
        build(lines)


ALANINES = lines_of(peptide("AAA"))


def without(*atoms):
    return [line for line in ALANINES if (int(line[22:26]), line[12:16].strip()) not in atoms]


def renamed(old, new):
    return [line.replace(old, new) for line in ALANINES]


def changed(number, place, text):
    return [
        line[:place] + text + line[place + len(text) :] if k == number else line
        for k, line in enumerate(ALANINES)
    ]


@pytest.mark.parametrize(
    ("lines", "complaint"),
    [
        ([], "has no line of an atom"),
        ([line for line in ALANINES if line[77] != "H"], "holds no hydrogens; energies need all atoms"),
        (without((2, "HB1")), "residue 2 (ALA) lacks HB1: a missing hydrogen or a protonation state"),
        (without((2, "CB"), (2, "HB1"), (2, "HB2"), (2, "HB3")), "a missing or unknown atom; complete"),
        (without((1, "H3")), "residue 1 (ALA) lacks H3: another end than a charged one"),
        (without((3, "OXT")), "residue 3 (ALA) lacks OXT: another end than a charged one"),
        (renamed("ALA A   2", "MSE A   2"), "holds MSE, not one of the 20 standard residues"),
        ([*ALANINES, ALANINES[0].replace("ALA A   1", "HOH A   9")], "holds HOH besides a peptide"),
        (renamed("ALA A   3", "ALA B   3"), "holds several chains (A, B)"),
        ([*ALANINES[:20], "TER", *ALANINES[20:]], "goes on behind the end of a chain (TER)"),
        (["MODEL 1", *ALANINES, "ENDMDL", "MODEL 2", *ALANINES, "ENDMDL"], "holds 2 models; keep one"),
        (changed(5, 16, "A"), "has alternate locations (A); keep one of each"),
        (changed(5, 26, "B"), "has an insertion code"),
        (changed(5, 30, "   1.0.0"), "cannot be read as a PDB file"),
        (renamed("ALA A   2", "ALA A   1"), "names atom N of residue 1 twice"),
        (without(*((2, line[12:16].strip()) for line in ALANINES)), "a residue is missing between them"),
        (lines_of(replace(peptide("AAA"), positions=-peptide("AAA").positions)), "is a mirror image"),
        (lines_of(replace(peptide("AAA"), positions=0.1 * peptide("AAA").positions)), "not in Å"),
    ],
)  # fmt: skip
def test_other_files_are_refused_in_one_sentence(lines, complaint):
    with pytest.raises(BgbenchError, match=re.escape(complaint)) as error:
        build(lines)
    assert str(error.value).startswith("mine.pdb")
    assert "\n" not in str(error.value)


@pytest.fixture
def suite(tmp_path):
    (tmp_path / "mine.pdb").write_text("\n".join([*ALANINES, "END", ""]))
    path = tmp_path / "own@1.yaml"
    path.write_text('systems: [AA, "pdb:mine.pdb"]\n')
    return path


def test_a_suite_lists_files_beside_it_and_its_hash_is_of_them_too(suite):
    before = read_suite(suite)
    assert find_member(before, "pdb:mine.pdb").sequence == "AAA"
    file = suite.parent / "mine.pdb"
    file.write_text(file.read_text() + "REMARK\n")
    assert read_suite(suite).sha256 != before.sha256
    file.unlink()
    with pytest.raises(BgbenchError, match=r"lists pdb:mine\.pdb, and .*mine\.pdb cannot be read"):
        read_suite(suite)


@pytest.mark.parametrize("name", ["pdb:../mine.pdb", "pdb:/tmp/mine.pdb", "pdb:mine.cif", "pdb:"])
def test_files_elsewhere_are_refused(suite, name):
    suite.write_text(f'systems: ["{name}"]\n')
    with pytest.raises(BgbenchError, match=r"write pdb:NAME\.pdb, the name of a PDB file that lies beside"):
        read_suite(suite)


def test_a_run_of_a_pdb_file_takes_it_along(suite, own_references, make_reference, cli, tmp_path):
    make_reference(own_references, system=find_member(read_suite(suite), "pdb:mine.pdb"))
    out = tmp_path / "run"
    code, _, err = cli(
        "run", "prior", "--suite", suite, "--only", "pdb:mine.pdb", "--budget", 30, "--seeds", 1,
        "--workers", 0, "--tracking-uri", "none", "--out", out,
    )  # fmt: skip
    assert code == 0, err
    (suite.parent / "mine.pdb").unlink()
    assert (out / "mine.pdb").is_file()
    code, _, err = cli("replay", out)
    assert code == 0, err
