"""The truth: OpenMM's own energy, one conformer at a time behind a batched interface."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any
from xml.etree import ElementTree

import numpy as np
import torch
from torch import Tensor

from bgbench.core.abstract import AbstractEnergy
from bgbench.core.errors import BgbenchError
from bgbench.core.types import Atom, ForceFieldSpec, System
from bgbench.core.units import kt
from bgbench.systems.peptides import force_field

PARTICLES = {"p1", "p2", "p3", "p4"}
"""Attributes in which OpenMM's XML names particles."""

GREEK = "ABGDEZH"
"""The letters of α, β, γ, δ, ε, ζ and η in names of atoms."""

REORDERED = {
    "HarmonicBondForce",
    "HarmonicAngleForce",
    "PeriodicTorsionForce",
    "NonbondedForce",
    "CustomGBForce",
    "GBSAOBCForce",
    "CMMotionRemover",
}
"""Forces whose XML names particles in PARTICLES, or lists them all."""


def openmm_system(system: System) -> Any:
    """The `openmm.System` of a molecule under its force field, particles in the order of `system.atoms`.

    It is made from the system's own atoms and bonds: residues are recognised by their bonds and elements, as
    OpenMM's force fields do, whatever the order of atoms and whatever the name of the system.

    Args:
        system: a molecule with atoms, bonds and a force field.

    Returns:
        An `openmm.System`, masses in Da, lengths in nm, energies in kJ/mol.

    Raises:
        BgbenchError: for a system without atoms or force field, an atom that is named twice, an unknown
            element, a force-field file that cannot be read, or a residue that the force field has no template
            for.

    >>> from bgbench import peptide
    >>> openmm_system(peptide("AG")).getNumParticles()
    20
    """
    import openmm.app as app
    import openmm.unit as unit

    spec = _spec(system)
    order = force_field_order(system)
    try:
        made = force_field(spec.files).createSystem(
            openmm_topology(system, order),
            nonbondedMethod=getattr(app, spec.nonbonded_method),
            nonbondedCutoff=spec.cutoff * unit.nanometer,
            constraints=getattr(app, spec.constraints) if spec.constraints else None,
        )
    except ValueError as error:
        raise BgbenchError(
            f"{system.name} has no energy under {spec.name}: {error}; a residue needs the atoms and bonds "
            "of one of its templates"
        ) from error
    return made if order == list(range(system.n_atoms)) else reorder(made, np.argsort(order).tolist())


def openmm_topology(system: System, order: Sequence[int] | None = None) -> Any:
    """The OpenMM topology of a molecule, its atoms in their own order or in `order (atoms,)`.

    OpenMM numbers atoms residue by residue: `order` must keep those of a residue together.

    Raises:
        BgbenchError: for an element that does not exist.
    """
    import openmm.app as app

    topology = app.Topology()
    chain, residues = topology.addChain(), dict[int, Any]()
    atoms = dict[int, Any]()
    for k in range(system.n_atoms) if order is None else order:
        atom = system.atoms[k]
        if atom.residue not in residues:
            residues[atom.residue] = topology.addResidue(atom.residue_name, chain)
        try:
            element = app.element.get_by_symbol(atom.element)
        except KeyError as error:
            raise BgbenchError(
                f"{system.name}: '{atom.element}' of atom {atom.name} is no element"
            ) from error
        atoms[k] = topology.addAtom(atom.name, element, residues[atom.residue])
    for i, j in system.bonds:
        topology.addBond(atoms[i], atoms[j])
    return topology


def force_field_order(system: System) -> list[int]:
    """An order of the atoms `(atoms,)` in which the force field gives this molecule one energy.

    Residues stand together, as OpenMM needs them. Within a residue atoms stay as they are, unless two
    siblings (of one element, on one neighbour) are not in the order of their remoteness. Then the whole
    residue is put in that order, which is that of PDB files. Amber names the atoms of an improper torsion by
    their place where their types are equal, so that exchanged siblings would move the energy by up to 1 kT.

    Raises:
        BgbenchError: for a system without atoms, or with two atoms of one name in a residue.
    """
    if not system.atoms:
        raise BgbenchError(f"{system.name} has no atoms: use the 'analytic' energy for it")
    twice = [key for key, n in Counter((a.residue, a.name) for a in system.atoms).items() if n > 1]
    if twice:
        residue, name = twice[0]
        raise BgbenchError(f"{system.name}: residue {residue + 1} has two atoms named {name}")
    unsorted = set[int]()
    for siblings in _siblings(system):
        ranks = [remoteness(system.atoms[k]) for k in siblings]
        if ranks != sorted(ranks):
            unsorted.add(system.atoms[siblings[0]].residue)

    def place(k: int) -> tuple[int, tuple[int, str]]:
        atom = system.atoms[k]
        return atom.residue, remoteness(atom) if atom.residue in unsorted else (0, "")

    return sorted(range(system.n_atoms), key=place)


def remoteness(atom: Atom) -> tuple[int, str]:
    """How far from the backbone an atom is named (C, CA, CB, CG1 …, OXT), then its number."""
    rest = atom.name.upper().removeprefix(atom.element.upper())
    if not rest[:1].isalpha():
        return 0, rest
    return (GREEK.index(rest[0]) if rest[0] in GREEK else len(GREEK)) + 1, rest[1:]


def _siblings(system: System) -> list[list[int]]:
    """Atoms of one element and residue on one neighbour, in the system's order."""
    neighbours = defaultdict[int, set[int]](set)
    for i, j in system.bonds:
        neighbours[i].add(j)
        neighbours[j].add(i)
    groups = defaultdict[tuple[int, int, str], list[int]](list)
    for centre, around in neighbours.items():
        for k in sorted(around):
            groups[centre, system.atoms[k].residue, system.atoms[k].element].append(k)
    return [group for group in groups.values() if len(group) > 1]


def reorder(system: Any, places: Sequence[int]) -> Any:
    """Copy an `openmm.System` so that particle k is the old one at `places[k]`.

    Raises:
        BgbenchError: for virtual sites, or a force whose XML names particles in another way.
    """
    import openmm

    root = ElementTree.fromstring(openmm.XmlSerializer.serialize(system))
    new = {str(old): str(k) for k, old in enumerate(places)}
    for node in root.iter():
        kind = node.attrib.get("type", "")
        if node.tag == "Force" and kind not in REORDERED:
            raise BgbenchError(
                f"atoms of a system with {kind} cannot be reordered; take the order of a PDB file"
            )
        if node.tag == "Particles":
            if any(len(child) for child in node):
                raise BgbenchError("a system with virtual sites cannot be reordered")
            children = list(node)
            node[:] = [children[old] for old in places]
        for name in PARTICLES & node.attrib.keys():
            node.set(name, new[node.attrib[name]])
    return openmm.XmlSerializer.deserialize(ElementTree.tostring(root, encoding="unicode"))


def _spec(system: System) -> ForceFieldSpec:
    if system.forcefield is None:
        raise BgbenchError(f"{system.name} has no force field: use the 'analytic' energy for it")
    return system.forcefield


class OpenMMEnergy(AbstractEnergy):
    """u(x) from OpenMM on `platform` (`CPU` or `Reference`) with `threads` threads (0: its default)."""

    is_truth = True

    def __init__(self, system: System, platform: str = "CPU", threads: int = 0) -> None:
        import openmm

        super().__init__(system)
        self._platform = platform
        named = openmm.Platform.getPlatformByName(platform)
        properties = {"Threads": str(threads)} if threads and platform == "CPU" else {}
        self._context = openmm.Context(
            openmm_system(system), openmm.VerletIntegrator(0.001), named, properties
        )
        self._kt = kt(system.temperature)

    def describe(self) -> Mapping[str, Any]:
        import openmm

        return {"backend": "openmm", "platform": self._platform, "version": openmm.__version__}

    def _energy(self, x: Tensor) -> Tensor:
        values = [self._state(frame, forces=False)[0] for frame in _frames(x)]
        return torch.tensor(values, dtype=torch.float64)

    def _energy_and_force(self, x: Tensor) -> tuple[Tensor, Tensor]:
        states = [self._state(frame, forces=True) for frame in _frames(x)]
        u = torch.tensor([u for u, _ in states], dtype=torch.float64)
        force = np.array([force for _, force in states]).reshape(len(states), self.system.n_atoms, 3)
        return u, torch.as_tensor(force)

    def _state(self, frame: np.ndarray, *, forces: bool) -> tuple[float, np.ndarray | None]:
        import openmm
        import openmm.unit as unit

        if not np.isfinite(frame).all():
            return np.nan, np.full_like(frame, np.nan)
        self._context.setPositions(frame)
        try:
            state = self._context.getState(getEnergy=True, getForces=forces)
        except openmm.OpenMMException:
            return np.nan, np.full_like(frame, np.nan)
        u = state.getPotentialEnergy().value_in_unit(unit.kilojoule_per_mole) / self._kt
        return u, state.getForces(asNumpy=True)._value / self._kt if forces else None


def _frames(x: Tensor) -> np.ndarray:
    return x.detach().to("cpu", torch.float64).numpy()
