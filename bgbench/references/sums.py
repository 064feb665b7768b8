"""The checksums beside references: `SHA256SUMS` as `sha256sum` writes it, of arrays and certificates."""

import re
from pathlib import Path

from bgbench.core.errors import BgbenchError
from bgbench.core.files import sha256_file
from bgbench.references.certificates import ENDING, certificate_path

LIST = "SHA256SUMS"
LINE = re.compile(r"([0-9a-f]{64}) [ *](.+)")


def read_sums(folder: Path) -> dict[str, str] | None:
    """sha256 (hex) by name of file; None for a folder without a list.

    Raises:
        BgbenchError: for a list that cannot be read, or a line that `sha256sum` would not write.
    """
    path = folder / LIST
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise BgbenchError(f"{path} cannot be read ({error}); {advice(folder)}") from error
    matches = [LINE.fullmatch(line) for line in lines]
    strange = [line for line, match in zip(lines, matches, strict=True) if match is None]
    if strange:
        raise BgbenchError(f"{path} has a line that is not a checksum, '{strange[0][:80]}'; {advice(folder)}")
    return {match[2]: match[1] for match in matches if match}


def refuse_unlisted(path: Path) -> None:
    """Raise BgbenchError if a list beside the reference has another sha256 for it or for its certificate, or
    does not name them."""
    sums = read_sums(path.parent)
    if sums is None:
        return
    beside = certificate_path(path)
    for file in (path, beside) if beside.is_file() or beside.name in sums else (path,):
        if file.name not in sums:
            raise BgbenchError(f"{file} is not in {LIST} beside it; if it is yours, {advice(path.parent)}")
        if not file.is_file():
            raise BgbenchError(f"{file} is in {LIST}, but there is no such file; fetch or simulate it again")
        if (sha256 := sha256_file(file)) != sums[file.name]:
            raise BgbenchError(
                f"{file} has sha256 {sha256[:12]}…, {LIST} beside it says {sums[file.name][:12]}…; fetch or "
                f"simulate it again, or if you have, {advice(path.parent)}"
            )


def missing_files(folder: Path) -> list[str]:
    """Names of files that the folder's list has and the folder does not."""
    return [name for name in read_sums(folder) or {} if not (folder / name).is_file()]


def advice(folder: Path) -> str:
    """What to do where the list is wrong."""
    certificates = f" *{ENDING}" if any(folder.glob(f"*{ENDING}")) else ""
    return f"make the list again: `cd {folder} && sha256sum *.npz{certificates} > {LIST}`"
