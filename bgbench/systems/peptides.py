"""Start structures without a network: PeptideBuilder for heavy atoms, OpenMM's Modeller for hydrogens."""

import io
import random
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bgbench.core.errors import BgbenchError
from bgbench.core.types import Atom, ForceFieldSpec, System, check_temperature
from bgbench.systems.residues import parse_sequence


@dataclass(frozen=True)
class Built:
    """A built peptide: `positions (atoms, 3)` nm; bonds as index pairs."""

    sequence: str
    atoms: tuple[Atom, ...]
    bonds: tuple[tuple[int, int], ...]
    positions: np.ndarray


@lru_cache(maxsize=4)
def force_field(files: tuple[str, ...]) -> Any:
    """OpenMM's force field of parameter files, whose reading takes longer than all else of a peptide.

    Raises:
        BgbenchError: for a file that does not exist or is no force field.
    """
    import openmm.app as app

    try:
        return app.ForceField(*files)
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise BgbenchError(
            f"the force field of {', '.join(files)} cannot be read ({reason}); name files that OpenMM has, "
            "such as amber14-all.xml, or give paths of your own"
        ) from error


@lru_cache(maxsize=256)
def build_peptide(sequence: str, forcefield_files: tuple[str, ...]) -> Built:
    """Build the zwitterionic peptide with neutral HIE histidines, in an extended conformation.

    Raises:
        BgbenchError: for a sequence that is not at least two standard residues, or a force field that cannot
            be read or does not know them.
    """
    import openmm.app as app
    import openmm.unit as unit

    letters = parse_sequence(sequence)
    heavy = app.PDBFile(io.StringIO(_heavy_atoms(letters)))
    modeller = app.Modeller(heavy.topology, heavy.positions)
    variants = ["HIE" if residue.name == "HIS" else None for residue in modeller.topology.residues()]
    parameters = force_field(forcefield_files)
    try:
        with _fixed_python_random():
            modeller.addHydrogens(parameters, variants=variants, platform=_reference_platform())
    except ValueError as error:
        raise BgbenchError(
            f"the force field of {', '.join(forcefield_files)} does not know {letters}: "
            f"{str(error).partition('  ')[0]}; name one of proteins, such as amber14-all.xml"
        ) from error
    positions = np.array(modeller.positions.value_in_unit(unit.nanometer), dtype=np.float64)
    atoms = tuple(
        Atom(atom.residue.index, atom.residue.name, atom.name, atom.element.symbol)
        for atom in modeller.topology.atoms()
    )
    bonds = tuple(sorted(tuple(sorted((a.index, b.index))) for a, b in modeller.topology.bonds()))
    return Built(letters, atoms, bonds, positions)


@contextmanager
def _fixed_python_random() -> Iterator[None]:
    """OpenMM draws first hydrogen positions from Python's global generator; leave it as it was."""
    state = random.getstate()
    random.seed(0)
    try:
        yield
    finally:
        random.setstate(state)


def _reference_platform() -> Any:
    import openmm

    return openmm.Platform.getPlatformByName("Reference")


def _heavy_atoms(letters: str) -> str:
    """PDB text of the heavy atoms, C-terminal OXT included."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import Bio.PDB
        import PeptideBuilder

        structure = PeptideBuilder.make_extended_structure(letters)
        PeptideBuilder.add_terminal_OXT(structure)
    writer = Bio.PDB.PDBIO()
    writer.set_structure(structure)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "heavy.pdb"
        writer.save(str(path))
        return path.read_text()


def peptide(sequence: str, temperature: float = 310.0, forcefield: ForceFieldSpec | None = None) -> System:
    """The zwitterionic peptide of a one-letter sequence, built offline with a start structure.

    Args:
        sequence: at least two of the 20 standard residues, from the N to the C terminus; any case.
        temperature: in K.
        forcefield: by default the published target, Amber14 with OBC1.

    Returns:
        A system with positions `(atoms, 3)` in nm, its atoms and bonds in the force field's order.

    Raises:
        BgbenchError: for a letter that is not one of the 20 standard residues, naming it; for what is no
            text, no temperature or no force field.

    >>> peptide("AG").n_atoms
    20
    """
    if not isinstance(sequence, str):
        raise BgbenchError(f"sequence must be text such as 'AA', got {sequence!r}")
    check_temperature(temperature)
    if not isinstance(forcefield, (ForceFieldSpec, type(None))):
        raise BgbenchError(f"forcefield must be a bgbench.ForceFieldSpec, got {forcefield!r}")
    spec = forcefield or ForceFieldSpec()
    built = build_peptide(sequence, spec.files)
    return System(
        name=built.sequence,
        positions=torch.as_tensor(built.positions, dtype=torch.float64),
        atoms=built.atoms,
        bonds=built.bonds,
        sequence=built.sequence,
        temperature=temperature,
        forcefield=spec,
    )
