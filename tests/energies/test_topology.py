"""A system's energy comes from its own atoms and bonds: in any order, under any name, or not at all."""

import io
from dataclasses import replace

import numpy as np
import openmm
import openmm.app as app
import openmm.unit as unit
import pytest
import torch

from bgbench import BgbenchError, ForceFieldSpec, Proposal, System, peptide
from bgbench.core.types import Atom
from bgbench.energies.batched import BatchedEnergy
from bgbench.energies.openmm import OpenMMEnergy, force_field_order, openmm_system
from bgbench.systems.residues import ONE_TO_THREE


def reordered(system, places):
    """The same molecule with its atoms in another order, without name and sequence."""
    new = np.argsort(places)
    return System(
        name="mine",
        positions=system.positions[places],
        atoms=tuple(system.atoms[k] for k in places),
        bonds=tuple((int(new[i]), int(new[j])) for i, j in system.bonds),
        temperature=system.temperature,
        forcefield=system.forcefield,
    )


def shaken(system, generator):
    noise = torch.randn(4, system.n_atoms, 3, generator=generator, dtype=torch.float64)
    return system.positions[None] + 0.01 * noise


@pytest.mark.parametrize("sequence", ["AA", "DI", "HM", "RND", "FPYW"])
@pytest.mark.parametrize("kind", ["all", "within residues"])
def test_any_order_of_atoms_has_one_energy(sequence, kind, generator, rng):
    system = peptide(sequence)
    x = shaken(system, generator)
    u, force = OpenMMEnergy(system, "Reference").energy_and_force(x)
    places = rng.permutation(system.n_atoms)
    if kind == "within residues":
        places = np.array(sorted(places, key=lambda k: system.atoms[k].residue))
    other = reordered(system, places)
    for energy in (OpenMMEnergy(other, "Reference"), BatchedEnergy(other, "eager")):
        energies, forces = energy.energy_and_force(x[:, places])
        assert torch.allclose(energies, u, atol=1e-8, rtol=0)
        assert torch.allclose(forces, force[:, places], atol=1e-6, rtol=1e-9)


@pytest.mark.parametrize("letter", sorted(ONE_TO_THREE))
def test_a_built_peptide_keeps_its_order(letter):
    """Otherwise its sums would round in another order, and records would not replay to the last digit."""
    for sequence in (f"{letter}A", f"A{letter}", f"A{letter}G"):
        system = peptide(sequence)
        assert force_field_order(system) == list(range(system.n_atoms))


def capped_alanine():
    """ACE–ALA–NME out of the heavy atoms of AAA, and OpenMM's own system of it."""
    heavy = peptide("AAA")
    names = {(0, "CA"): "CH3", (0, "C"): "C", (0, "O"): "O", (2, "N"): "N", (2, "CA"): "C"}
    lines = []
    for k, atom in enumerate(heavy.atoms):
        name = names.get((atom.residue, atom.name), atom.name if atom.residue == 1 else "")
        if atom.element == "H" or not name:
            continue
        residue = ("ACE", "ALA", "NME")[atom.residue]
        x, y, z = (10 * heavy.positions[k]).tolist()
        lines.append(
            f"ATOM  {len(lines) + 1:5d}  {name:<3s} {residue} A{atom.residue + 1:4d}    "
            f"{x:8.3f}{y:8.3f}{z:8.3f}  1.00  0.00          {atom.element:>2s}"
        )
    pdb = app.PDBFile(io.StringIO("\n".join([*lines, "TER", "END"])))
    spec = ForceFieldSpec()
    field = app.ForceField(*spec.files)
    modeller = app.Modeller(pdb.topology, pdb.positions)
    modeller.addHydrogens(field, platform=openmm.Platform.getPlatformByName("Reference"))
    truth = field.createSystem(
        modeller.topology, nonbondedMethod=app.CutoffNonPeriodic, nonbondedCutoff=spec.cutoff * unit.nanometer
    )
    system = System(
        name="alanine dipeptide",
        positions=torch.tensor(modeller.positions._value, dtype=torch.float64),
        atoms=tuple(
            Atom(a.residue.index, a.residue.name, a.name, a.element.symbol) for a in modeller.topology.atoms()
        ),
        bonds=tuple((a.index, b.index) for a, b in modeller.topology.bonds()),
        forcefield=spec,
    )
    return system, truth


def test_a_capped_residue_has_the_energy_that_openmm_gives_it(generator, rng):
    system, truth = capped_alanine()
    assert system.n_atoms == 22
    context = openmm.Context(
        truth, openmm.VerletIntegrator(0.001), openmm.Platform.getPlatformByName("Reference")
    )
    x = shaken(system, generator)
    mine = OpenMMEnergy(system, "Reference")
    expected = []
    for frame in x.numpy():
        context.setPositions(frame)
        expected.append(context.getState(getEnergy=True).getPotentialEnergy()._value / mine._kt)
    places = rng.permutation(system.n_atoms)
    for energy, frames in (
        (mine, x),
        (BatchedEnergy(system, "eager"), x),
        (OpenMMEnergy(reordered(system, places), "Reference"), x[:, places]),
    ):
        assert energy.energy(frames).tolist() == pytest.approx(expected, abs=1e-6)


def test_names_do_not_decide_the_energy(alanine, generator):
    """A sequence that says something else, or nothing, changes no term."""
    x = shaken(alanine, generator)
    u = OpenMMEnergy(alanine, "Reference").energy(x)
    for other in (replace(alanine, sequence=""), replace(alanine, sequence="WW", name="WW")):
        assert torch.equal(OpenMMEnergy(other, "Reference").energy(x), u)


def bonds_but_of(system, atom):
    return tuple(bond for bond in system.bonds if atom not in bond)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda s: replace(s, atoms=()), "has no atoms: use the 'analytic' energy"),
        (lambda s: replace(s, bonds=s.bonds[1:]), "AA has no energy under amber14-obc1: No template found"),
        (
            lambda s: replace(s, atoms=(replace(s.atoms[0], name="CA"), *s.atoms[1:])),
            "AA: .*two atoms.*CA",
        ),
        (
            lambda s: replace(s, atoms=(replace(s.atoms[0], element="Xx"), *s.atoms[1:])),
            "AA: 'Xx' of atom N is no element",
        ),
        (
            lambda s: replace(
                s, atoms=s.atoms[:-1], positions=s.positions[:-1], bonds=bonds_but_of(s, s.n_atoms - 1)
            ),
            "AA has no energy under amber14-obc1: No template found",
        ),
    ],
)
def test_what_is_no_whole_molecule_is_refused_in_a_sentence(alanine, change, complaint):
    with pytest.raises(BgbenchError, match=complaint):
        openmm_system(change(alanine))


def test_forces_that_cannot_be_reordered_are_named(alanine, monkeypatch):
    monkeypatch.setattr("bgbench.energies.openmm.REORDERED", {"HarmonicBondForce"})
    with pytest.raises(BgbenchError, match="Force cannot be reordered; take the order of a PDB"):
        openmm_system(reordered(alanine, np.arange(alanine.n_atoms)[::-1].copy()))


def test_a_bond_of_an_atom_that_is_not_there_is_refused(alanine):
    with pytest.raises(BgbenchError, match=r"AA: bond .* names an atom that does not exist; there are 23"):
        replace(alanine, bonds=(*alanine.bonds, (0, 23)))


def test_systems_are_equal_by_content_and_samples_by_identity(alanine):
    twin = peptide("AA")
    assert alanine == twin
    assert len({alanine, twin}) == 1
    assert alanine != alanine.at(300.0)
    assert alanine != replace(twin, positions=twin.positions + 1e-9)
    samples = [Proposal(twin.positions[None]) for _ in range(2)]
    assert samples[0] == samples[0]
    assert samples[0] != samples[1]
