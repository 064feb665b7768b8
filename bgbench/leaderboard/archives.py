"""Arrays from strangers: an npz file whose sizes are checked before anything of it is unpacked.

Only what `records.write_arrays` writes is read: few members of known names, numbers of known types, no
objects. Nothing is unpickled, nothing is extracted to disk.
"""

import re
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import IO

import numpy as np

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
)
"""What zipfile and zlib raise for damaged files."""

MAGIC = b"\x93NUMPY\x01\x00"
"""First bytes of an array in the first version of NumPy's format."""

LONGEST_HEADER = 1_000
"""Bytes of an array's header, at most."""

HEADER = re.compile(
    rb"\{'descr': '(?P<type><f4|<f8|<i4)', 'fortran_order': False, "
    rb"'shape': \((?P<shape>\d{1,9},|\d{1,9}(?:, \d{1,9}){1,2})\), \} *\n"
)
"""Of arrays of one to three axes."""


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
        shape, kind = _header(stream, where)
        if kind.str != TYPES[name]:
            raise refusal("archive", where, f"{name} is of type {kind.str}, not {TYPES[name]}")
        size = int(np.prod(shape, dtype=object)) * kind.itemsize
        if size > member.file_size:
            raise refusal("archive", where, f"{name} claims {size:,} bytes and has {member.file_size:,}")
        data = stream.read(size + 1)
    if len(data) != size:
        raise refusal("archive", where, f"{name} holds {len(data):,} bytes, its shape asks for {size:,}")
    return np.frombuffer(data, kind).reshape(shape).copy()


def _header(stream: IO[bytes], where: str) -> tuple[tuple[int, ...], np.dtype]:
    """Shape and type of an array, of a header as NumPy writes it for rows of numbers.

    NumPy's reader takes others too: it parses them as Python, and warns of those of Python 2.
    """
    start = stream.read(len(MAGIC) + 2)
    length = int.from_bytes(start[len(MAGIC) :], "little")
    text = stream.read(min(length, LONGEST_HEADER + 1))
    header = HEADER.fullmatch(text)
    if not start.startswith(MAGIC) or len(text) != length or header is None:
        raise refusal("archive", where, f"holds an array with the header {(start + text)[:100]!r}")
    return tuple(int(size) for size in header["shape"].split(b",") if size.strip()), np.dtype(
        header["type"].decode()
    )
