"""Start structures without a network: PeptideBuilder for heavy atoms, OpenMM's Modeller for hydrogens."""

import io
import random
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bgbench.core.errors import BgbenchError
from bgbench.core.types import Atom, ForceFieldSpec, System, check_temperature
from bgbench.systems.residues import END_CAP, START_CAP, Chain, parse_chain


@dataclass(frozen=True)
class Built:
    """A built peptide: `positions (atoms, 3)` nm; bonds as index pairs."""

    chain: Chain
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
def build_peptide(name: str, forcefield_files: tuple[str, ...]) -> Built:
    """Build a peptide with charged ends or caps and neutral HIE histidines, in an extended conformation.

    Raises:
        BgbenchError: for a name that is no peptide's, or a force field that cannot be read or does not know
            its residues.
    """
    import openmm.app as app
    import openmm.unit as unit

    chain = parse_chain(name)
    heavy = app.PDBFile(io.StringIO(_heavy_atoms(chain)))
    modeller = app.Modeller(heavy.topology, heavy.positions)
    variants = ["HIE" if residue.name == "HIS" else None for residue in modeller.topology.residues()]
    parameters = force_field(forcefield_files)
    try:
        with _fixed_python_random():
            modeller.addHydrogens(parameters, variants=variants, platform=_reference_platform())
    except ValueError as error:
        raise BgbenchError(
            f"the force field of {', '.join(forcefield_files)} does not know {chain.name}: "
            f"{str(error).partition('  ')[0]}; name one of proteins, such as amber14-all.xml"
        ) from error
    positions = np.array(modeller.positions.value_in_unit(unit.nanometer), dtype=np.float64)
    atoms = tuple(
        Atom(atom.residue.index, atom.residue.name, atom.name, atom.element.symbol)
        for atom in modeller.topology.atoms()
    )
    bonds = tuple(sorted(tuple(sorted((a.index, b.index))) for a, b in modeller.topology.bonds()))
    return Built(chain, atoms, bonds, positions)


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


def _heavy_atoms(chain: Chain) -> str:
    """PDB text of the heavy atoms, those of caps or the C-terminal OXT included.

    A cap is built as a glycine, of which the atoms that a cap lacks are left out.
    """
    letters = "G" * chain.start_cap + chain.sequence + "G" * chain.end_cap
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import Bio.PDB
        import PeptideBuilder

        structure = PeptideBuilder.make_extended_structure(letters)
        if not chain.end_cap:
            PeptideBuilder.add_terminal_OXT(structure)
    residues = list(structure.get_residues())
    writer = Bio.PDB.PDBIO()
    writer.set_structure(structure)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "heavy.pdb"
        writer.save(str(path))
        lines = path.read_text().splitlines(keepends=True)
    caps = {}
    if chain.start_cap:
        caps[residues[0].id[1]] = (START_CAP, {"CA": "CH3", "C": "C", "O": "O"})
    if chain.end_cap:
        caps[residues[-1].id[1]] = (END_CAP, {"N": "N", "CA": "C"})
    return "".join(filter(None, (_as_cap(line, caps) for line in lines)))


def _as_cap(line: str, caps: Mapping[int, tuple[str, Mapping[str, str]]]) -> str:
    """A line of a PDB file, with the names of a cap where its residue becomes one; empty where the cap has no
    such atom."""
    if not line.startswith("ATOM") or int(line[22:26]) not in caps:
        return line
    cap, names = caps[int(line[22:26])]
    name = line[12:16].strip()
    return f"{line[:12]} {names[name]:<3}{line[16]}{cap}{line[20:]}" if name in names else ""


def peptide(sequence: str, temperature: float = 310.0, forcefield: ForceFieldSpec | None = None) -> System:
    """The peptide of a one-letter sequence, with charged ends or caps, built offline with a start structure.

    Args:
        sequence: at least two of the 20 standard residues, from the N to the C terminus, or one and more with
            the caps ACE (acetyl) before them and NME (N-methylamide) behind them, as `ACE-A-NME`; any case.
        temperature: in K.
        forcefield: by default the published target, Amber14 with OBC1.

    Returns:
        A system with positions `(atoms, 3)` in nm, its atoms and bonds in the force field's order. Its
        `sequence` is empty where it has a cap.

    Raises:
        BgbenchError: for a letter that is not one of the 20 standard residues, naming it; for what is no
            text, no temperature or no force field.

    >>> peptide("AG").n_atoms, peptide("ACE-A-NME").n_atoms
    (20, 22)
    """
    if not isinstance(sequence, str):
        raise BgbenchError(f"sequence must be text such as 'AA', got {sequence!r}")
    check_temperature(temperature)
    if not isinstance(forcefield, (ForceFieldSpec, type(None))):
        raise BgbenchError(f"forcefield must be a bgbench.ForceFieldSpec, got {forcefield!r}")
    spec = forcefield or ForceFieldSpec()
    built = build_peptide(sequence, spec.files)
    return System(
        name=built.chain.name,
        positions=torch.as_tensor(built.positions, dtype=torch.float64),
        atoms=built.atoms,
        bonds=built.bonds,
        sequence="" if built.chain.start_cap or built.chain.end_cap else built.chain.sequence,
        temperature=temperature,
        forcefield=spec,
    )
