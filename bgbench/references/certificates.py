"""The certificate of a reference: how it was simulated, how well its replicas mix, its grade.

It is a JSON file beside the arrays, `AA.certificate.json` beside `AA.npz`, so that grading a reference
again writes kilobytes and not megabytes. It names the arrays that it is of by their hash. In files of
before that, the certificate is a text inside the npz archive; a file beside it takes precedence.
"""

import hashlib
import json
import math
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal
from zipfile import BadZipFile

import numpy as np
from pydantic import ValidationError

from bgbench.core.errors import BgbenchError
from bgbench.core.files import Strict, plain, sha256_file, write_json
from bgbench.core.types import System

ENDING = ".certificate.json"
INSIDE = "certificate"
"""Name of the certificate among the arrays of an older file."""

DAMAGE = (OSError, ValueError, KeyError, EOFError, BadZipFile, zlib.error, TypeError)
"""Exceptions of reading a damaged archive; TypeError: the file is one bare array and no archive."""

REQUIRED = (
    "forcefield_sha256", "engine", "versions", "replicas", "temperatures", "steps", "frames", "rhat",
    "effective_samples", "floor", "grade",
)  # fmt: skip
"""Entries that every certificate has."""


class CertificateFile(Strict):
    """The content of a certificate's file. `arrays_sha256`: `arrays_sha256` of the arrays that it is of."""

    schema_version: Literal[1] = 1
    arrays_sha256: str
    certificate: dict[str, Any]


def certificate_path(path: Path) -> Path:
    """The file of the certificate of the arrays in `path`."""
    return path.with_name(path.name.removesuffix(".npz") + ENDING)


def arrays_sha256(arrays: Mapping[str, np.ndarray]) -> str:
    """sha256 (hex) of arrays: of name, type, shape and content of each, by name, a certificate left out.

    It does not depend on how they are compressed.
    """
    total = hashlib.sha256()
    for name in sorted(set(arrays) - {INSIDE}):
        array = np.ascontiguousarray(arrays[name])
        total.update(json.dumps([name, array.dtype.str, arrays[name].shape]).encode())
        total.update(array.tobytes())
    return total.hexdigest()


def reference_sha256(path: Path) -> str:
    """The hash that plans and records call a reference by.

    Of a reference whose certificate stands beside it, it is that of the arrays alone (`arrays_sha256`):
    grading it again leaves it as it is. Of an older file, with its certificate inside, it is the sha256 of
    the whole file, which records and the leaderboard's entries name, whether or not another certificate
    stands beside it.

    Raises:
        BgbenchError: if the file is damaged.
    """
    return sha256_of(path, load_arrays(path))


def sha256_of(path: Path, arrays: Mapping[str, np.ndarray]) -> str:
    """`reference_sha256` of a file whose arrays are loaded."""
    return sha256_file(path) if INSIDE in arrays else arrays_sha256(arrays)


def load_arrays(path: Path, names: Iterable[str] | None = None) -> dict[str, np.ndarray]:
    """The arrays of a file, or those of `names` that it has.

    Raises:
        BgbenchError: if the file is damaged.
    """
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as stored:
            wanted = stored.files if names is None else set(names) & set(stored.files)
            return {name: stored[name] for name in wanted}
    except DAMAGE as error:
        raise unreadable(path, error) from error


def unreadable(path: Path, error: Exception) -> BgbenchError:
    """The error for a damaged file of a reference."""
    return BgbenchError(f"{path} is not readable as a reference ({error}); fetch or simulate it again")


def read_certificate(path: Path) -> Mapping[str, Any]:
    """The certificate of a reference or training file; `check_certificate` says whether it is complete.

    Raises:
        BgbenchError: if the file or its certificate is damaged, or the certificate is of other arrays.
    """
    # One inside is read alone; one beside has to be compared with all arrays.
    arrays = load_arrays(path, None if certificate_path(path).is_file() else [INSIDE])
    return certificate_beside(path, arrays)


def certificate_beside(path: Path, arrays: Mapping[str, np.ndarray]) -> Mapping[str, Any]:
    """The certificate of `path`, whose arrays are loaded: the one beside it, else the one inside.

    Raises:
        BgbenchError: if it is missing, damaged, or of other arrays.
    """
    place = certificate_path(path)
    if place.is_file():
        try:
            content = CertificateFile.model_validate_json(place.read_bytes())
        except (OSError, ValidationError) as error:
            reason = error.errors()[0]["msg"] if isinstance(error, ValidationError) else error.strerror
            raise BgbenchError(
                f"{place} is damaged ({reason}); fetch or simulate {path.name} again"
            ) from error
        if content.arrays_sha256 != arrays_sha256(arrays):
            raise BgbenchError(
                f"{place} is the certificate of other arrays than those of {path.name}; fetch or simulate "
                "both again"
            )
        return content.certificate
    if INSIDE not in arrays:
        raise BgbenchError(f"{path} has no certificate: {place.name} is missing beside it; fetch it too")
    try:
        certificate = json.loads(str(arrays[INSIDE]))
    except ValueError as error:
        raise unreadable(path, error) from error
    if not isinstance(certificate, dict):
        raise BgbenchError(f"the certificate of {path} is not a table of names and values; simulate it again")
    return certificate


def write_certificate(path: Path, certificate: Mapping[str, Any]) -> None:
    """Write the certificate of a readable reference file beside it, atomically; the arrays stay as they are.

    Raises:
        BgbenchError: for a certificate that lacks an entry, or a file that cannot be written.
    """
    save_certificate(path, certificate, load_arrays(path))


def save_certificate(path: Path, certificate: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> None:
    """Write the certificate of `arrays`, which are or will be in `path`.

    Raises:
        BgbenchError: for a certificate that lacks an entry, or a file that cannot be written.
    """
    check_certificate(certificate, path)
    entries = {name: plain(certificate[name]) for name in sorted(certificate)}
    content = CertificateFile(arrays_sha256=arrays_sha256(arrays), certificate=entries)
    write_json(certificate_path(path), content)


def check_certificate(certificate: Mapping[str, Any], path: Path) -> None:
    """Raise BgbenchError for a certificate with an empty or missing entry."""
    missing = [name for name in REQUIRED if certificate.get(name) in (None, "", {}, [])]
    if missing:
        raise BgbenchError(f"the certificate of {path} lacks {', '.join(missing)}; simulate it again")


def target_temperature(certificate: Mapping[str, Any], path: Path) -> float:
    """The temperature (K) of the frames, the first of the certificate's ladder.

    Raises:
        BgbenchError: if that is not a number above 0.
    """
    ladder = certificate["temperatures"]
    kelvin = ladder[0] if isinstance(ladder, list) else None
    if isinstance(kelvin, bool) or not isinstance(kelvin, int | float) or not 0 < kelvin < math.inf:
        raise BgbenchError(
            f"the certificate of {path} has temperatures {ladder}, whose first is not a temperature in K; "
            "simulate it again"
        )
    return float(kelvin)


def refuse_other_target(certificate: Mapping[str, Any], system: System, path: Path) -> None:
    """Raise BgbenchError unless the frames are of the system's own force field and temperature."""
    wanted, stored = system.forcefield, str(certificate["forcefield_sha256"])
    if stored != (wanted.sha256 if wanted else ""):
        named = f"'{wanted.name}' ({wanted.sha256[:12]})" if wanted else "none"
        raise BgbenchError(
            f"{path} is of another force field ({stored[:12]}) than {system.name} has here, {named}; move it "
            "away and simulate this one"
        )
    kelvin = target_temperature(certificate, path)
    if abs(kelvin - system.temperature) > 1e-6:
        raise BgbenchError(
            f"{path} was simulated at {kelvin:g} K, but a reference of {system.temperature:g} K belongs "
            "there; move it away and simulate this one"
        )
