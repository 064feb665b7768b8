"""SQLite files that MLflow tracks to: made whole or not at all, for one sender at a time.

A store that is killed while its tables are made would fail for good, so it is made beside its place and
renamed. One that cannot be used is moved aside, never deleted: what it held of this run is in the records.
"""

import fcntl
import hashlib
import os
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path

from bgbench.core.errors import BgbenchError
from bgbench.core.files import UNFINISHED, closed_in_children

SCHEME = "sqlite:///"

OWN = "mlflow.db"
"""The store of a run folder that is tracked nowhere else."""

ARTIFACTS = "mlartifacts"
"""Folder of the files of runs, beside the store."""

FIRST = frozenset({"experiments", "runs", "tags", "params", "metrics"})
"""The tables that MLflow makes first."""

VERSION = "alembic_version"
"""The table in which it notes how far it came."""

DAMAGES = ("image is malformed", "not a database", "already exists", "duplicate column", "no such table")
"""What SQLite says of a store that is damaged or was made by half."""

COMPANIONS = ("", "-journal", "-wal", "-shm")
"""Endings of the files of one SQLite database."""


def own_store(folder: Path) -> str:
    """The URI of a run folder's own store.

    >>> own_store(Path("/data/run"))
    'sqlite:////data/run/mlflow.db'
    """
    return f"{SCHEME}{folder.resolve() / OWN}"


def file_of(uri: str) -> Path | None:
    """The file of a SQLite URI; None for any other.

    >>> file_of("sqlite:////data/run/mlflow.db"), file_of("http://localhost:5000")
    (PosixPath('/data/run/mlflow.db'), None)
    """
    return Path(uri.removeprefix(SCHEME)) if uri.startswith(SCHEME) else None


@contextmanager
def one_sender(uri: str, run: str) -> Iterator[None]:
    """Hold the lock of a store, which waits for other processes that send to it.

    Args:
        uri: of the store. A SQLite file is locked beside it; of any other store, only those that send the
            same run from this machine wait for each other.
        run: what identifies the run.
    """
    file = file_of(uri)
    with ExitStack() as stack:
        with suppress(OSError):  # a folder or file system without locks
            stream = stack.enter_context(_lock_path(file, f"{uri} {run}").open("a"))
            stack.enter_context(closed_in_children(stream))
            fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def _lock_path(file: Path | None, key: str) -> Path:
    if file is not None:
        return file.with_name(f".{file.name}.lock")
    name = hashlib.sha256(key.encode()).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"bgbench-{os.getuid()}-{name}.lock"


def refuse_missing_folder(uri: str) -> None:
    """Raise BgbenchError if the folder is missing in which a store of files is to be: it may have been moved.

    >>> refuse_missing_folder("/no/such/mlruns")
    Traceback (most recent call last):
    bgbench.core.errors.BgbenchError: there is no folder /no/such; name a store with --tracking-uri
    """
    if ":" in uri and not uri.startswith("file:"):
        return
    parent = Path(uri.removeprefix("file:").removeprefix("//")).absolute().parent
    if not parent.is_dir():
        raise BgbenchError(f"there is no folder {parent}; name a store with --tracking-uri")


def open_store(file: Path, make: Callable[[Path], None]) -> str:
    """Make the store `file` unless it is there and sound. Only the holder of its lock may call this.

    Args:
        file: of the store; its folder is not made.
        make: makes a store at another path in the same folder.

    Returns:
        A sentence if a store was moved aside, else nothing.

    Raises:
        BgbenchError: if the folder is missing, or the file is a database of something else.
    """
    if not file.parent.is_dir():
        raise BgbenchError(f"there is no folder {file.parent}; name a store with --tracking-uri")
    for part in file.parent.glob(f".{file.name}.*{UNFINISHED}*"):
        part.unlink(missing_ok=True)
    fault = fault_of(file)
    sentence = f"{move_aside(file, fault)}; a new one was made" if fault else ""
    if not _has_content(file):
        new = file.with_name(f".{file.name}.{os.getpid()}{UNFINISHED}")
        make(new)
        os.replace(new, file)
    return sentence


def move_aside(file: Path, fault: str) -> str:
    """Rename a store that cannot be used, and say so.

    >>> with tempfile.TemporaryDirectory() as folder:
    ...     store = Path(folder) / "mlflow.db"
    ...     _ = store.write_text("no database")
    ...     move_aside(store, "is damaged").replace(folder, "F"), store.exists()
    ('the store F/mlflow.db is damaged; it was moved to F/mlflow.db.broken-1', False)
    """
    number = 1
    while (aside := file.with_name(f"{file.name}.broken-{number}")).exists():
        number += 1
    for ending in COMPANIONS:
        with suppress(FileNotFoundError):
            os.replace(f"{file}{ending}", f"{aside}{ending}")
    return f"the store {file} {fault}; it was moved to {aside}"


def fault_of(file: Path) -> str:
    """What makes a store unusable for good: `is damaged (…)` or `was made by half`; empty: nothing.

    A file that is not there, or empty, is a store that was not made yet.

    Raises:
        BgbenchError: if it is a database, but not one of MLflow.
    """
    if not _has_content(file):
        return ""
    try:
        with closing(sqlite3.connect(f"{file.resolve().as_uri()}?mode=rw", uri=True, timeout=60)) as database:
            tables = {
                name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type='table'")
            }
            versioned = VERSION in tables and any(database.execute(f"SELECT * FROM {VERSION}"))
    except (
        sqlite3.OperationalError
    ) as error:  # locked, or not to be read: nothing is wrong with what it holds
        raise BgbenchError(f"cannot open {file}: {error}") from error
    except sqlite3.DatabaseError as error:
        return f"is damaged ({error})"
    if not tables <= FIRST and not {VERSION, "experiments"} <= tables:
        raise BgbenchError(
            f"{file} is a database of something else (it has a table {min(tables)}); name another store with "
            "--tracking-uri"
        )
    return "" if versioned and tables >= FIRST else "was made by half"


def is_damage(error: BaseException | None) -> bool:
    """Whether an error, or one that caused it, says that a SQLite store cannot be used for good.

    >>> is_damage(sqlite3.OperationalError("table runs already exists")), is_damage(OSError("disk full"))
    (True, False)
    """
    while error is not None:
        if isinstance(error, sqlite3.Error) and any(words in str(error) for words in DAMAGES):
            return True
        error = error.__cause__ or error.__context__
    return False


def _has_content(file: Path) -> bool:
    return file.exists() and file.stat().st_size > 0
