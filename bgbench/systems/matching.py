"""Frames of other programs as those of a system: atoms matched by their names, lengths brought to nm, and
what is wrong with frames said in a line.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from bgbench.core.errors import BgbenchError
from bgbench.core.types import Atom, System
from bgbench.systems.bonds import has_broken_bonds
from bgbench.systems.chirality import is_mirrored, is_wrong
from bgbench.systems.residues import END_CAP, START_CAP
from bgbench.systems.topology import THREE_TO_ONE, chain_of

TERMINAL = frozenset({"H", "H2", "H3", "OXT", "HXT", "HO"})
"""Atoms by which the ends of a chain differ."""

SOLVENT = frozenset({"HOH", "WAT", "TIP3", "TIP", "SOL", "NA", "CL", "K", "Na+", "Cl-"})
"""Names of residues that are water or ions."""

NEAR = 1.25
"""Bonds this many times longer or shorter, in the middle of all, are of the unit."""

TYPICAL_FRAMES = 256
"""Frames that the unit is read from, evenly spaced."""


@dataclass(frozen=True)
class InNanometres:
    """Positions in nm, and what was done to them.

    Attributes:
        x: frames `(n, atoms, 3)` in nm.
        remark: a sentence; empty where they were in nm.

    >>> InNanometres(torch.zeros(1, 23, 3), "").remark
    ''
    """

    x: Tensor
    remark: str


def match_atoms(system: System, atoms: Sequence[Atom], where: str) -> list[int]:
    """For each atom of a system, its place among `atoms`, by residue and name.

    Args:
        system: whose order is wanted.
        atoms: in any order, with standard names (`read_trajectory`).
        where: what names them, for messages.

    Returns:
        A place in `atoms` for each atom of the system.

    Raises:
        BgbenchError: for another peptide, missing hydrogens, another protonation state or other termini,
            naming the first residue that differs.

    >>> from bgbench import peptide
    >>> system = peptide("AA")
    >>> match_atoms(system, system.atoms[::-1], "mine.pdb")[:3]
    [22, 21, 20]
    """
    _refuse_other_chain(system, atoms, where)
    place = {(atom.residue, atom.name): k for k, atom in enumerate(atoms)}
    ours = system.atom_index
    if len(place) < len(atoms):
        raise BgbenchError(f"{where} names an atom of a residue twice; name each once")
    if not any(atom.element == "H" for atom in atoms) and any(atom.element == "H" for atom in system.atoms):
        raise BgbenchError(f"{where} holds no hydrogens; energies need all atoms: write them too")
    kinds = {atom.residue: atom.residue_name for atom in system.atoms}
    for residue in sorted({key[0] for key in (*ours, *place)}):
        extra = sorted(name for number, name in place if number == residue and (number, name) not in ours)
        lacking = sorted(name for number, name in ours if number == residue and (number, name) not in place)
        if extra or lacking:
            said = " and ".join(
                [f"has {', '.join(extra)}"] * bool(extra) + [f"lacks {', '.join(lacking)}"] * bool(lacking)
            )
            raise BgbenchError(
                f"{where}: residue {residue + 1} ({kinds.get(residue, '?')}) {said}: "
                f"{_cause({*extra, *lacking}, extra)} than {system.name} is judged with"
            )
    return [place[key] for key in ours]


def _refuse_other_chain(system: System, atoms: Sequence[Atom], where: str) -> None:
    """Raise BgbenchError unless atoms are of a peptide's residues and caps; of other systems say nothing."""
    try:
        ours = chain_of(system.atoms)
    except BgbenchError:
        return
    names = {atom.residue_name for atom in atoms}
    if solvent := sorted(names & SOLVENT):
        raise BgbenchError(f"{where} holds {', '.join(solvent)} besides a peptide; write the peptide alone")
    if strange := sorted(names - THREE_TO_ONE.keys() - {START_CAP, END_CAP}):
        raise BgbenchError(
            f"{where} holds {', '.join(strange)}, which {system.name} does not: systems have the 20 standard "
            f"residues, with charged ends or the caps {START_CAP} and {END_CAP}"
        )
    theirs = chain_of(atoms)
    if theirs != ours:
        raise BgbenchError(
            f"{where} holds {theirs.name}, and {system.name} was asked for; run the system that it holds "
            f"alone (--only {theirs.name}), or give a folder with a file for each"
        )


def _cause(names: set[str], extra: Sequence[str]) -> str:
    """What atoms that differ are a sign of."""
    if names <= TERMINAL:
        return "other termini"
    if all(name.lstrip("0123456789").startswith("H") for name in names):
        return "another protonation state" if extra else "fewer hydrogens or another protonation state"
    return "other atoms"


def to_nanometres(system: System, x: Tensor, where: str) -> InNanometres:
    """Positions in nm, from nm or Å, by the lengths of bonds.

    Args:
        system: whose atoms they are, in its order.
        x: frames `(n, atoms, 3)` in one unit.
        where: the file they are of, for messages.

    Returns:
        The frames in nm. A system without bonds tells no unit, and its frames are taken to be in nm.

    Raises:
        BgbenchError: if no frame is finite, or bonds are as long as in neither unit.

    >>> from bgbench import peptide
    >>> system = peptide("AA")
    >>> to_nanometres(system, 10 * system.positions[None], "mine.npz").remark
    'mine.npz: positions are in Å, and were divided by 10'
    """
    finite = torch.isfinite(x).flatten(1).all(1)
    if not bool(finite.any()):
        raise BgbenchError(f"{where}: no frame has finite positions")
    if not system.bonds:
        return InNanometres(x, "")
    sample = x[finite][:: -(-int(finite.sum()) // TYPICAL_FRAMES)]
    i, j = torch.tensor(system.bonds).T
    start = (system.positions[i] - system.positions[j]).norm(dim=-1)
    ratio = float(((sample[:, i] - sample[:, j]).norm(dim=-1) / start.to(x)).median())
    for factor, remark in (
        (1.0, ""),
        (10.0, "positions are in Å, and were divided by 10"),
        (0.1, "positions are a tenth of nm, as where nm were taken for Å, and were multiplied by 10"),
    ):
        if 1 / NEAR < ratio / factor < NEAR:
            return InNanometres(x / factor if remark else x, f"{where}: {remark}" if remark else "")
    raise BgbenchError(
        f"{where}: bonds of {system.name} are {ratio:.2g} times as long as in nm, which is neither nm nor Å; "
        "or its atoms are in another order than they are named in"
    )


def frame_faults(system: System, x: Tensor, where: str) -> list[str]:
    """A sentence for each thing that is wrong with frames, with how many and the first of them.

    Args:
        system: whose atoms they are, in its order.
        x: frames `(n, atoms, 3)` in nm.
        where: the file they are of.

    Returns:
        Sentences on frames that are not finite, have broken bonds, are mirror images, or have wrong
        chirality; frames are counted from 0.

    >>> from bgbench import peptide
    >>> system = peptide("AA")
    >>> x = system.positions[None].repeat(3, 1, 1)
    >>> x[1] *= -1
    >>> frame_faults(system, x, "mine.npz")
    ['mine.npz: 1 of 3 frames are mirror images, first frame 1']
    """
    bad = ~torch.isfinite(x).flatten(1).all(1)
    faults = {"have positions that are not finite and get no weight": bad}
    if system.bonds:
        advice = (
            "have broken bonds (if the sampler is not to blame, atoms are in another order than named, or a "
            "periodic box cuts the molecule)"
        )
        faults[advice] = has_broken_bonds(system.bonds, system.positions, x) & ~bad
    if system.atoms:
        mirrored = is_mirrored(system, x)
        faults["are mirror images"] = mirrored & ~bad
        faults["have wrong chirality (D-residues)"] = is_wrong(system, x) & ~mirrored & ~bad
    return [
        f"{where}: {int(flags.sum()):,} of {len(x):,} frames {fault}, first frame {int(flags.nonzero()[0])}"
        for fault, flags in faults.items()
        if bool(flags.any())
    ]
