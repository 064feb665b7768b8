"""Which files may be trained on and which may be looked at in training: the lists are kept apart."""

from collections.abc import Sequence
from pathlib import Path

import bgbench
import bgbench.data


def training_files(folders: Sequence[Path]) -> list[Path]:
    """Every `.npz` of the folders, folder by folder. A peptide may have several files; all of them count.

    Raises:
        BgbenchError: for a folder that does not exist, is named twice or holds no files, or for a test or
            validation peptide, whatever its file is called.
    """
    refuse_unusable(folders)
    paths = [path for folder in folders for path in sorted(folder.glob("*.npz"))]
    refuse_held_out([bgbench.data.training_sequence(path) for path in paths], folders)
    return paths


def refuse_unusable(folders: Sequence[Path]) -> None:
    """Raise BgbenchError unless the folders exist, each once, and each holds training files."""
    if not folders:
        raise bgbench.BgbenchError("no folder of training peptides is named; name some with --set data=…")
    for folder in folders:
        if not folder.is_dir():
            raise bgbench.BgbenchError(
                f"{folder} does not exist; name folders of training peptides, separated by commas"
            )
        if [other.resolve() for other in folders].count(folder.resolve()) > 1:
            raise bgbench.BgbenchError(f"{folder} is named twice; name each folder once")
        if not any(folder.glob("*.npz")):
            raise bgbench.BgbenchError(
                f"{folder} holds no training peptides; make some with "
                f"`bgbench data simulate --train --out {folder}`"
            )


def refuse_held_out(sequences: Sequence[str], folders: Sequence[Path]) -> None:
    """Raise BgbenchError if test or validation peptides are among `sequences`."""
    forbidden = sorted(set(sequences) & bgbench.data.held_out())
    if forbidden:
        raise bgbench.BgbenchError(
            f"{listed(folders)} holds test or validation peptides: {', '.join(forbidden)}"
        )


def validation_files(folder: Path) -> list[Path]:
    """Every `.npz` of the folder, short peptides first.

    Raises:
        BgbenchError: for a missing or empty folder, or a peptide that is not of the validation list.
    """
    if not folder.is_dir():
        raise bgbench.BgbenchError(f"{folder} does not exist; name a folder of validation peptides")
    paths = sorted(folder.glob("*.npz"), key=lambda path: (len(path.stem), path.stem))
    if not paths:
        raise bgbench.BgbenchError(
            f"{folder} holds no validation peptides; make some with "
            f"`bgbench data simulate --short AL GQ GNFL --out {folder}`"
        )
    sequences = [bgbench.data.training_sequence(path) for path in paths]
    strange = [name for name in sequences if name not in bgbench.data.held_out("validation")]
    if strange:
        raise bgbench.BgbenchError(f"not validation peptides: {', '.join(strange)} in {folder}")
    return paths


def listed(folders: Sequence[Path]) -> str:
    """Folders for a message."""
    return ", ".join(map(str, folders))
