"""The list of checksums beside references: `SHA256SUMS`, as `sha256sum *.npz > SHA256SUMS` writes it."""

import re
from pathlib import Path

from bgbench.core.errors import BgbenchError
from bgbench.core.files import sha256_file

LIST = "SHA256SUMS"
LINE = re.compile(r"([0-9a-f]{64}) [ *](.+)")


def listed(folder: Path) -> dict[str, str] | None:
    """sha256 (hex) by name of file; None for a folder without a list.

    Raises:
        BgbenchError: for a list that cannot be read, or a line of it that is none of `sha256sum`'s.
    """
    path = folder / LIST
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise BgbenchError(f"{path} cannot be read ({error}); {remade(folder)}") from error
    found = [LINE.fullmatch(line) for line in lines]
    strange = [line for line, match in zip(lines, found, strict=True) if match is None]
    if strange:
        raise BgbenchError(f"{path} has a line that is no checksum, '{strange[0][:80]}'; {remade(folder)}")
    return {match[2]: match[1] for match in found if match}


def refuse_unlisted(path: Path) -> None:
    """Raise BgbenchError if a list lies beside the file that names another sha256 for it, or none."""
    told = listed(path.parent)
    if told is None:
        return
    if path.name not in told:
        raise BgbenchError(f"{path} is not in {LIST} beside it; if it is yours, {remade(path.parent)}")
    if (found := sha256_file(path)) != told[path.name]:
        raise BgbenchError(
            f"{path} has sha256 {found[:12]}…, {LIST} beside it says {told[path.name][:12]}…; fetch or "
            f"simulate it again, or if you have, {remade(path.parent)}"
        )


def missing(folder: Path) -> list[str]:
    """Files that the folder's list names and the folder does not hold."""
    return [name for name in listed(folder) or {} if not (folder / name).is_file()]


def remade(folder: Path) -> str:
    """What to do where the list is wrong."""
    return f"make the list again: `cd {folder} && sha256sum *.npz > {LIST}`"
