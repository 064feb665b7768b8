"""Which files may be trained on and which may be looked at in training: the lists are kept apart."""

from collections.abc import Sequence
from pathlib import Path

import bgbench
import bgbench.data


def training_files(folders: Sequence[Path]) -> list[Path]:
    """Every `.npz` of the folders, one a peptide, by name.

    Raises:
        BgbenchError: if there are none, or for a test or validation peptide among them.
    """
    paths = {path.stem: path for folder in folders for path in sorted(folder.glob("*.npz"))}
    if not paths:
        raise bgbench.BgbenchError(
            f"{listed(folders)} holds no training peptides; make some with "
            f"`bgbench data simulate --train --out {folders[0]}`"
        )
    refuse_held_out(paths, folders)
    return list(paths.values())


def refuse_held_out(names: Sequence[str] | dict[str, Path], folders: Sequence[Path]) -> None:
    """Raise BgbenchError if test or validation peptides are among `names`."""
    forbidden = sorted(set(names) & bgbench.data.held_out())
    if forbidden:
        raise bgbench.BgbenchError(
            f"{listed(folders)} holds test or validation peptides: {', '.join(forbidden)}"
        )


def validation_files(folder: Path) -> list[Path]:
    """Every `.npz` of the folder, short peptides first.

    Raises:
        BgbenchError: for an empty folder or a peptide that is not of the validation list.
    """
    paths = sorted(folder.glob("*.npz"), key=lambda path: (len(path.stem), path.stem))
    if not paths:
        raise bgbench.BgbenchError(
            f"{folder} holds no validation peptides; make some with "
            f"`bgbench data simulate --short AL GQ GNFL --out {folder}`"
        )
    strange = [path.stem for path in paths if path.stem not in bgbench.data.held_out("validation")]
    if strange:
        raise bgbench.BgbenchError(f"not validation peptides: {', '.join(strange)} in {folder}")
    return paths


def listed(folders: Sequence[Path]) -> str:
    """Folders for a message."""
    return ", ".join(map(str, folders))
