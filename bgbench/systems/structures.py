"""Molecules of PDB files as systems: a chain of standard residues with its hydrogens, in any order of atoms.

The file's own protonation states and disulfide bonds are what is sampled: histidine as HID, HIE or HIP, ASH,
GLH, LYN, and CYX are known by their hydrogens and bonds, whatever the file calls them.
"""

import io
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import PurePath

import numpy as np
import torch

from bgbench.core.errors import BgbenchError, text_of
from bgbench.core.types import Atom, ForceFieldSpec, Structure, System
from bgbench.systems.chirality import is_mirrored, is_wrong
from bgbench.systems.matching import SOLVENT, TERMINAL
from bgbench.systems.peptides import peptide
from bgbench.systems.residues import END_CAP, ONE_TO_THREE, START_CAP
from bgbench.systems.topology import THREE_TO_ONE, chain_of

PREFIX = "pdb:"
"""What the name of a system of a PDB file begins with."""

STATES = {
    "HIS": [({"HD1"}, {"HE2"}), ({"HD1"}, set[str]())],
    "ASP": [({"HD2"}, set[str]())],
    "GLU": [({"HE2"}, set[str]())],
    "LYS": [(set[str](), {name}) for name in ("HZ1", "HZ2", "HZ3")],
}
"""Protonation states besides the usual one (HIE, charged otherwise): HID and HIP, ASH, GLH, LYN, each by the
atoms that it has more and less."""

BRIDGED = (set[str](), {"HG"})
"""What a cysteine of a disulfide (CYX) has more and less than another."""

SHORTEST, LONGEST = 0.06, 0.25
"""Lengths between which bonds are, nm."""


def is_structure(name: str) -> bool:
    """Whether a system is that of a PDB file, by its name.

    >>> is_structure("pdb:mine.pdb"), is_structure("AA")
    (True, False)
    """
    return name.startswith(PREFIX)


def structure_file(name: str) -> str:
    """The file that the name of a system names, a plain file name.

    Raises:
        BgbenchError: for a name with a folder, or of another kind of file.

    >>> structure_file("pdb:mine.pdb")
    'mine.pdb'
    """
    file = name.removeprefix(PREFIX)
    if PurePath(file).name != file or "\\" in file or PurePath(file).suffix != ".pdb":
        raise BgbenchError(
            f"{name}: write pdb:NAME.pdb, the name of a PDB file that lies beside the suite's file, without "
            "a folder"
        )
    return file


@lru_cache(maxsize=64)
def build_structure(
    structure: Structure, temperature: float, forcefield: ForceFieldSpec | None = None
) -> System:
    """The molecule of a PDB file, with its atoms in the file's order and its positions as the start.

    Args:
        structure: the name of the system, and the text of the file.
        temperature: in K.
        forcefield: None: the default.

    Returns:
        A system; its `sequence` is set where its atoms are those of `peptide(sequence)`.

    Raises:
        BgbenchError: in one sentence, for a file that is not one whole chain of standard residues with all
            atoms.

    >>> line = "ATOM      1  N   ALA A   1       0.000   0.000   0.000  1.00  0.00           N"
    >>> build_structure(Structure("pdb:mine.pdb", line), 300.0)
    Traceback (most recent call last):
    bgbench.core.errors.BgbenchError: mine.pdb holds no hydrogens; energies need all atoms: write them too
    """
    file = structure_file(structure.name)
    lines = [line for line in structure.text.splitlines() if line.startswith(("ATOM", "HETATM"))]
    refuse_lines(structure.text, lines, file)
    system = _read(structure, lines, temperature, forcefield or ForceFieldSpec())
    refuse_residues(system, file)
    refuse_shape(system, file)
    usual = _usual(system)
    return replace(system, sequence=usual.sequence) if _graph(system) == _graph(usual) else system


def refuse_lines(text: str, lines: Sequence[str], file: str) -> None:
    """Raise BgbenchError for what can be seen in the lines of atoms: several models, chains or locations,
    residues that are none of a peptide, no hydrogens."""
    if not lines:
        raise BgbenchError(f"{file} has no line of an atom (ATOM); write a PDB file")
    names = {_residue_name(line) for line in lines}
    if solvent := sorted(names & SOLVENT):
        raise BgbenchError(f"{file} holds {', '.join(solvent)} besides a peptide; write the peptide alone")
    if strange := sorted(names - THREE_TO_ONE.keys() - {START_CAP, END_CAP}):
        raise BgbenchError(
            f"{file} holds {', '.join(strange)}, not one of the 20 standard residues, their protonation "
            f"states, or the caps {START_CAP} and {END_CAP}; write those alone"
        )
    if (models := len(re.findall(r"^MODEL\b", text, re.MULTILINE))) > 1:
        raise BgbenchError(f"{file} holds {models} models; keep one as the start structure")
    if chains := {line[21] for line in lines} - {lines[0][21]}:
        found = ", ".join(sorted({lines[0][21], *chains}))
        raise BgbenchError(f"{file} holds several chains ({found}); a system is one: write one chain alone")
    if re.search(r"^TER\b.*\n(.*\n)*(ATOM|HETATM)", text, re.MULTILINE):
        raise BgbenchError(f"{file} goes on behind the end of a chain (TER); write one chain alone")
    for line in lines:
        where = f"atom {line[12:16].strip()} of residue {line[22:26].strip()} ({_residue_name(line)})"
        if line[16] != " ":
            raise BgbenchError(
                f"{file}: {where} has alternate locations ({line[16]}); keep one of each "
                "and leave the letter out"
            )
        if line[26:27].strip():
            raise BgbenchError(f"{file}: {where} has an insertion code; number the residues one by one")
    twice = [key for key, n in Counter((line[22:26], line[12:16]) for line in lines).items() if n > 1]
    if twice:
        number, name = (text.strip() for text in twice[0])
        raise BgbenchError(
            f"{file} names atom {name} of residue {number} twice; name each once, and number the residues"
        )
    if not any(_element(line) == "H" for line in lines):
        raise BgbenchError(f"{file} holds no hydrogens; energies need all atoms: write them too")


def _residue_name(line: str) -> str:
    """A residue's name without the N or C that Amber puts before those of terminal residues."""
    name = line[17:21].strip()
    return name[1:] if len(name) == 4 and name[0] in "NC" and name[1:] in THREE_TO_ONE else name


def _element(line: str) -> str:
    return line[76:78].strip() or line[12:16].strip().lstrip("0123456789")[:1]


def _read(
    structure: Structure, lines: Sequence[str], temperature: float, forcefield: ForceFieldSpec
) -> System:
    """The atoms, bonds and positions of a file, with the names of residues and atoms that OpenMM knows.

    Raises:
        BgbenchError: for a file that OpenMM cannot read.
    """
    import openmm.app as app
    import openmm.unit as unit

    file = structure_file(structure.name)
    usual = {name: ONE_TO_THREE[letter] for name, letter in THREE_TO_ONE.items()}
    text = "\n".join(
        [f"{line[:17]}{usual.get(_residue_name(line), _residue_name(line)):<4}{line[21:]}" for line in lines]
        + [line for line in structure.text.splitlines() if line.startswith("CONECT")]
    )
    try:
        pdb = app.PDBFile(io.StringIO(text))
    except Exception as error:
        reason = " ".join(text_of(error).split())[:120]
        raise BgbenchError(f"{file} cannot be read as a PDB file ({reason}); make it again") from error
    atoms = tuple(
        Atom(atom.residue.index, atom.residue.name, atom.name, atom.element.symbol if atom.element else "?")
        for atom in pdb.topology.atoms()
    )
    return System(
        name=structure.name,
        positions=torch.as_tensor(np.array(pdb.positions.value_in_unit(unit.nanometer)), dtype=torch.float64),
        atoms=atoms,
        bonds=tuple({tuple(sorted((a.index, b.index))): None for a, b in pdb.topology.bonds()}),
        temperature=temperature,
        forcefield=forcefield,
    )


def refuse_residues(system: System, file: str) -> None:
    """Raise BgbenchError for a residue whose atoms are those of no state that is known, naming it."""
    try:
        usual = _usual(system)
    except BgbenchError as error:
        raise BgbenchError(f"{file} is not one peptide: {error}") from error
    sulfurs = {k for k, atom in enumerate(system.atoms) if atom.name == "SG"}
    bridged = {system.atoms[k].residue for bond in system.bonds if set(bond) <= sulfurs for k in bond}
    for number, name in sorted({(atom.residue, atom.residue_name) for atom in system.atoms}):
        ours, theirs = ({atom.name for atom in s.atoms if atom.residue == number} for s in (usual, system))
        extra, lacking = theirs - ours, ours - theirs
        known = STATES.get(name, ())
        if (extra, lacking) in [(set(), set()), *known] or (
            number in bridged and (extra, lacking) == BRIDGED
        ):
            continue
        parts = [f"has {', '.join(sorted(extra))}"] * bool(extra)
        parts += [f"lacks {', '.join(sorted(lacking))}"] * bool(lacking)
        raise BgbenchError(
            f"{file}: residue {number + 1} ({name}) {' and '.join(parts)}: {_cause(extra, lacking, name)}"
        )


def _cause(extra: set[str], lacking: set[str], name: str) -> str:
    """What atoms that differ are a sign of, and what to do."""
    if (extra, lacking) == BRIDGED:
        return "a thiolate (CYM), or the other half of a disulfide is not within 0.3 nm; mend either"
    if extra | lacking <= TERMINAL:
        return f"another end than a charged one; use charged ends, or the caps {START_CAP} and {END_CAP}"
    if name == "HIS" and not extra and lacking == {"HE2"}:
        return "no hydrogen on the ring; write it as HID, HIE or HIP"
    if all(atom.lstrip("0123456789").startswith("H") for atom in extra | lacking):
        return "a missing hydrogen or a protonation state that is not known; write all hydrogens"
    return "a missing or unknown atom; complete the residue"


def _usual(system: System) -> System:
    """The built peptide of the same residues and caps."""
    return peptide(chain_of(system.atoms).name, system.temperature, system.forcefield)


def _graph(system: System) -> tuple[set[tuple[int, str]], set[frozenset[tuple[int, str]]]]:
    """Atoms and bonds by residues and names, whatever their order."""
    names = [(atom.residue, atom.name) for atom in system.atoms]
    return set(names), {frozenset(names[k] for k in bond) for bond in system.bonds}


def refuse_shape(system: System, file: str) -> None:
    """Raise BgbenchError for positions that are no start structure: a gap in the chain, or D-residues."""
    for i, j in system.bonds:
        length = float((system.positions[i] - system.positions[j]).norm())
        if not SHORTEST < length < LONGEST:
            one, other = (f"{system.atoms[k].name} of residue {system.atoms[k].residue + 1}" for k in (i, j))
            raise BgbenchError(
                f"{file}: {one} and {other} are bonded and {length:.3g} nm apart: a residue is missing "
                "between them, or positions are not in Å"
            )
    x = system.positions[None]
    if bool(is_wrong(system, x)):
        what = (
            "is a mirror image"
            if bool(is_mirrored(system, x))
            else "holds D-residues or mirrored side chains"
        )
        raise BgbenchError(f"{file} {what}; systems are of L-residues")
