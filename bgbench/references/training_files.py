"""What a training file or shard really holds: the peptide by its atoms, and frames that are possible."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from bgbench.core.errors import BgbenchError
from bgbench.core.types import Atom
from bgbench.references.store import read_atoms, read_frames
from bgbench.systems.bonds import STRETCH
from bgbench.systems.chirality import is_wrong
from bgbench.systems.residues import ONE_TO_THREE
from bgbench.systems.topology import sequence_of, template_bonds

RADII = {"H": 0.031, "C": 0.076, "N": 0.071, "O": 0.066, "S": 0.105}
"""Covalent radii in nm (Cordero et al. 2008): a bond is about as long as the radii of its atoms together."""

MOST_IMPOSSIBLE = 0.01
"""Largest fraction of frames with a broken bond or a D-residue; with more, something was mixed up."""

MOST_FRAMES = 256
"""Bonds and chirality are looked at in so many evenly spaced frames."""


@dataclass(frozen=True)
class _Atoms:
    atoms: Sequence[Atom]


@dataclass(frozen=True, eq=False)
class TrainingFrames:
    """Frames of one peptide.

    Attributes:
        sequence: in one-letter codes.
        atoms: in the order of the frames.
        x: frames `(n, atoms, 3)` in nm.

    >>> atoms = (Atom(0, "GLY", "N", "N"), Atom(0, "GLY", "CA", "C"))
    >>> TrainingFrames("G", atoms, torch.zeros(5, 2, 3)).x.shape
    torch.Size([5, 2, 3])
    """

    sequence: str
    atoms: tuple[Atom, ...]
    x: Tensor


def training_sequence(path: Path) -> str:
    """The peptide that a training file holds, by its atoms, whatever the file is called.

    Args:
        path: the file, ending in `.npz`.

    Returns:
        The sequence in one-letter codes.

    Raises:
        BgbenchError: if the file is damaged, or named after another peptide.

    >>> from bgbench.core.resources import data_path
    >>> training_sequence(data_path("references", "AA.npz"))
    'AA'
    """
    try:
        sequence = sequence_of(read_atoms(path))
    except BgbenchError as error:
        raise BgbenchError(f"{path}: {error}") from error
    named = path.stem.partition("-")[0]
    if named != sequence and set(named) <= set(ONE_TO_THREE):
        raise BgbenchError(f"{path} is named after {named} and holds the atoms of {sequence}; rename it")
    return sequence


def read_training_frames(path: Path) -> TrainingFrames:
    """Read a training file.

    Args:
        path: the file, ending in `.npz`.

    Returns:
        Its frames, with their peptide.

    Raises:
        BgbenchError: if the file is damaged, named after another peptide, or holds frames that are impossible
            (`refuse_impossible`).

    >>> from bgbench.core.resources import data_path
    >>> read_training_frames(data_path("references", "AA.npz")).sequence
    'AA'
    """
    sequence = training_sequence(path)
    atoms, x = read_frames(path)
    refuse_impossible(atoms, x, str(path))
    return TrainingFrames(sequence, atoms, x)


def refuse_impossible(atoms: Sequence[Atom], x: Tensor, where: str) -> None:
    """Refuse frames in another unit, with atoms in another order, or mirrored: no sampler should learn them.

    Args:
        atoms: of the frames.
        x: frames `(n, atoms, 3)` in nm.
        where: the file they are of, for the message.

    Raises:
        BgbenchError: if there are no frames, or more than MOST_IMPOSSIBLE of them have a number that is not
            finite, a bond of impossible length or a D-residue.

    >>> from bgbench import peptide
    >>> system = peptide("AA")
    >>> refuse_impossible(system.atoms, system.positions[None][:0], "frames.npz")
    Traceback (most recent call last):
    bgbench.core.errors.BgbenchError: frames.npz holds no frames; make or fetch it again
    """
    if not len(x):
        raise BgbenchError(f"{where} holds no frames; make or fetch it again")
    if not bool(torch.isfinite(x).all()):
        raise BgbenchError(f"{where} holds positions that are not finite; make or fetch it again")
    x = x[:: -(-len(x) // MOST_FRAMES)]
    i, j = torch.tensor(template_bonds(tuple(atoms))).T
    covalent = torch.tensor([RADII.get(atom.element, RADII["C"]) for atom in atoms]).to(x)
    ratio = (x[:, i] - x[:, j]).norm(dim=-1) / (covalent[i] + covalent[j])
    middle = float(ratio.median())
    if not 1 / STRETCH < middle < STRETCH and float(ratio.std()) < 0.3 * middle:
        unit = "; they look like Å: divide them by 10" if 8 < middle < 12 else ""
        raise BgbenchError(f"{where}: bonds are {middle:.2g} times as long as in nm{unit}")
    broken = float(((ratio > STRETCH) | (ratio < 1 / STRETCH)).any(1).double().mean())
    if broken > MOST_IMPOSSIBLE:
        raise BgbenchError(
            f"{where}: {broken:.1%} of the frames have bonds of impossible length; the atoms may be in "
            "another order than listed"
        )
    wrong = float(is_wrong(_Atoms(atoms), x).double().mean())
    if wrong > MOST_IMPOSSIBLE:
        raise BgbenchError(f"{where}: {wrong:.1%} of the frames hold D-residues, as mirror images do")
