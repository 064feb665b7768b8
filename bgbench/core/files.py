"""Files that are whole or absent, their hashes, and values in JSON's terms."""

import hashlib
import json
import math
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from pydantic import BaseModel, ConfigDict

from bgbench.core.errors import BgbenchError, writable


class Strict(BaseModel):
    """Frozen; unknown keys rejected."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def finite_or_none(value: Any) -> float | None:
    """A float, or None for None, NaN and infinities."""
    return None if value is None or not math.isfinite(float(value)) else float(value)


def plain(value: Any) -> Any:
    """The same value in JSON's terms: numbers, strings, lists, dicts; non-finite numbers become None.

    Arrays become lists, and what JSON has no word for becomes its text.

    >>> plain({"share": (0.5, float("nan")), "model": Path("a.pt")})
    {'share': [0.5, None], 'model': 'a.pt'}
    """
    if isinstance(value, Mapping):
        return {plain(str(key)): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, str):
        return writable(value)
    if value is None or isinstance(value, (bool, int)):
        return value
    if isinstance(value, float):
        return finite_or_none(value)
    as_list = getattr(value, "tolist", None)
    return plain(str(value)) if as_list is None else plain(as_list())


def digest(value: Any) -> str:
    """sha256 of a value's canonical JSON."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def sha256_file(path: Path) -> str:
    """sha256 of a file, hex."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


UNFINISHED = ".part"
"""Ending of a file that is being written: one that a crash left behind."""


@contextmanager
def atomic_file(path: Path) -> Iterator[IO[bytes]]:
    """A binary stream that becomes `path` when the block ends well; nothing is left behind otherwise.

    Raises:
        BgbenchError: if the folder cannot be written or the disk is full.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=UNFINISHED)
    except OSError as error:
        raise BgbenchError(f"cannot write {path}: {error.strerror}; choose another folder") from error
    try:
        with os.fdopen(handle, "wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        os.chmod(name, 0o644)
        os.replace(name, path)
    except OSError as error:
        Path(name).unlink(missing_ok=True)
        raise BgbenchError(f"cannot write {path}: {error.strerror}; nothing else was lost") from error
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


_PRIVATE: set[IO[Any]] = set()
"""Open files that a forked child is not to hold: the system drops a lock when the last process closes it."""


def _close_private() -> None:
    """Runs in every child that Python forks."""
    for stream in list(_PRIVATE):
        with suppress(OSError):
            stream.close()
    _PRIVATE.clear()


os.register_at_fork(after_in_child=_close_private)


@contextmanager
def closed_in_children(stream: IO[Any]) -> Iterator[None]:
    """Inside the block, processes that are forked from this one do not hold the file open.

    A sampler may fork children that outlive it; a lock on the file would live as long as they do.

    >>> with tempfile.TemporaryFile() as stream, closed_in_children(stream):
    ...     stream in _PRIVATE
    True
    """
    _PRIVATE.add(stream)
    try:
        yield
    finally:
        _PRIVATE.discard(stream)


def write_json(path: Path, model: BaseModel) -> None:
    """Write a model as indented JSON, atomically."""
    with atomic_file(path) as stream:
        stream.write(model.model_dump_json(indent=1).encode() + b"\n")
