"""Arrays from strangers: an npz file whose sizes are checked before anything of it is unpacked.

Only what `records.write_arrays` writes is read: few members of known names, numbers of known types, no
objects. Nothing is unpickled, nothing is extracted to disk.
"""

import tokenize
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import IO

import numpy as np
from numpy.lib import format as npy

from bgbench.leaderboard.problems import refusal
from bgbench.leaderboard.rules import ARRAYS_BYTES

TYPES: Mapping[str, str] = {
    "x": "<f4",
    "u": "<f8",
    "log_w": "<f8",
    "log_q": "<f8",
    "group": "<i4",
    "at": "<i4",
    "faults": "|u1",
}
NEEDED = ("x", "u", "log_w")
DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    NotImplementedError,
    RuntimeError,
    EOFError,
    OSError,
    ValueError,
    TypeError,
    SyntaxError,
    tokenize.TokenError,
)
"""What zipfile, zlib and NumPy's reader of headers raise for damaged files."""

HEADER = 1_000
"""Bytes of an npy header, at most."""


def read_archive(path: Path, where: str) -> dict[str, np.ndarray]:
    """The arrays of an npz file.

    Raises:
        Refused: if it is no such file, holds anything else, or unpacks to more than the rules allow.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            refuse_members(members, where)
            arrays = {m.filename.removesuffix(".npy"): _member(archive, m, where) for m in members}
    except DAMAGE as error:
        raise refusal("archive", where, f"not a sound npz file: {error}") from error
    missing = [name for name in NEEDED if name not in arrays]
    if missing:
        raise refusal("archive", where, f"without {', '.join(missing)}")
    return arrays


def refuse_members(members: list[zipfile.ZipInfo], where: str) -> None:
    """Raise Refused for members of other names, twice the same, encrypted, or too large unpacked."""
    names = [member.filename for member in members]
    for name in names:
        if name.startswith(("/", "\\")) or ".." in name:
            raise refusal("path", where, f"the member {name[:60]!r} leads out of the archive")
        if name not in {f"{known}.npy" for known in TYPES}:
            raise refusal("archive", where, f"an unknown member {name[:60]!r}")
    if len(set(names)) < len(names):
        raise refusal("archive", where, "the same member twice")
    total = sum(member.file_size for member in members)
    if total > ARRAYS_BYTES:
        raise refusal("size", where, f"unpacks to {total:,} bytes; {ARRAYS_BYTES:,} at most")
    if any(member.flag_bits & 1 for member in members):
        raise refusal("archive", where, "encrypted")


def _member(archive: zipfile.ZipFile, member: zipfile.ZipInfo, where: str) -> np.ndarray:
    name = member.filename.removesuffix(".npy")
    with archive.open(member) as stream:
        shape, fortran, kind = _header(stream, where)
        if kind.hasobject or kind.str != TYPES[name] or fortran:
            raise refusal("archive", where, f"{name} is of type {kind.str}, not {TYPES[name]}")
        if len(shape) > 3 or any(type(size) is not int or not 0 <= size < 10**9 for size in shape):
            raise refusal("archive", where, f"{name} has the shape {shape}")
        size = int(np.prod(shape, dtype=object)) * kind.itemsize
        if size > member.file_size:
            raise refusal("archive", where, f"{name} claims {size:,} bytes and has {member.file_size:,}")
        data = stream.read(size + 1)
    if len(data) != size:
        raise refusal("archive", where, f"{name} holds {len(data):,} bytes, its shape asks for {size:,}")
    return np.frombuffer(data, kind).reshape(shape).copy()


def _header(stream: IO[bytes], where: str) -> tuple[tuple[int, ...], bool, np.dtype]:
    version = npy.read_magic(stream)
    if version != (1, 0):
        raise refusal("archive", where, f"npy version {version}")
    return npy.read_array_header_1_0(stream, max_header_size=HEADER)
