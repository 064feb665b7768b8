"""Publications that are whole or not at all: an entry and its event in the ledger change together.

What is to be published is first written into a folder of its own inside the board (`staged`), which no reader
looks at. `publish` renames that folder to `.pending`, and from then on the publication counts. Three renames
are left: the entry that stands there goes aside, the new one takes its place, the event joins the ledger. If
one of them fails, because the disk is full, those before it are undone and the board is as it was. If the
process is killed between two of them, `.pending` stays behind: readers refuse the board in one sentence, and
the next `accept`, `withdraw` or `reproduce` does the renames that are left (`finish`), so that nobody ever
reads the new entry beside the old ledger.
"""

import errno
import fcntl
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from bgbench.core.errors import BgbenchError
from bgbench.leaderboard.folders import refuse_layout
from bgbench.leaderboard.guarded import read_model
from bgbench.leaderboard.ledger import LEDGER, PENDING, RECORDS, Event, file_name
from bgbench.leaderboard.problems import refusal
from bgbench.leaderboard.rules import FOLDER_BYTES

STAGING = ".staging-"
"""Beginning of the name of a folder in which a publication is prepared."""

REPLACED = "replaced"
"""Where in a pending publication the entry goes that stood on the board before."""


@contextmanager
def staged(board: Path) -> Iterator[Path]:
    """An empty folder inside `board` with `records/` and `ledger/`, to be filled and given to `publish`.

    It is removed when the block ends. What killed processes left behind is dealt with first: publications
    that count are finished, folders of others are removed.

    Raises:
        BgbenchError: if the board cannot be written.
    """
    is_new = not board.exists()
    with in_one_line(board):
        board.mkdir(parents=True, exist_ok=True)
        with locked(board):
            finish(board)
            remove_abandoned(board)
            folder = Path(tempfile.mkdtemp(prefix=STAGING, dir=board))
            lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
            fcntl.flock(lock, fcntl.LOCK_EX)
    try:
        with in_one_line(board):
            (folder / RECORDS).mkdir()
            (folder / LEDGER).mkdir()
        yield folder
    finally:
        os.close(lock)
        shutil.rmtree(folder, ignore_errors=True)
        if is_new:
            with suppress(OSError):
                board.rmdir()


@contextmanager
def locked(board: Path) -> Iterator[None]:
    """Keep other processes from publishing on `board`; the system drops the lock when a process dies.

    Raises:
        BgbenchError: if another process is publishing there.
    """
    handle = os.open(board, os.O_RDONLY | os.O_DIRECTORY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise BgbenchError(
                f"another process is publishing on {board}; try again when it has ended"
            ) from error
        yield
    finally:
        os.close(handle)


@contextmanager
def in_one_line(board: Path) -> Iterator[None]:
    """Turn an error of the operating system into one sentence."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise BgbenchError(
            f"cannot publish on {board}: {reason}; nothing published was lost, try again"
        ) from error


def copy_entry(source: Path, target: Path) -> None:
    """Copy the files of an entry to the new folder `target`, so that nobody can change them any more.

    Args:
        source: an entry's folder; anyone may write there while it is copied.
        target: a folder that does not exist yet.

    Raises:
        Refused: if `source` holds anything but an entry's plain files, or something becomes a link, or grows
            beyond what the rules allow, while it is copied.
        BgbenchError: if `target` cannot be written.
    """
    refuse_layout(source)
    bytes_left = FOLDER_BYTES
    with in_one_line(target.parent):
        for folder in ("", "cells", "arrays"):
            if folder and not os.path.lexists(source / folder):
                continue
            (target / folder).mkdir()
            handle = _open(source / folder, os.O_DIRECTORY)
            try:
                for name in sorted(os.listdir(handle)):
                    if folder or name not in ("cells", "arrays"):
                        data = _read(name, handle, bytes_left)
                        bytes_left -= len(data)
                        (target / folder / name).write_bytes(data)
            finally:
                os.close(handle)


def _read(name: str, folder: int, most: int) -> bytes:
    """The content of a plain file in an open folder."""
    handle = _open(name, os.O_NONBLOCK, folder)
    with os.fdopen(handle, "rb") as stream:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise refusal("link", name, "neither a plain file nor a folder")
        data = stream.read(most + 1)
    if len(data) > most:
        raise refusal("size", name, f"more than {FOLDER_BYTES:,} bytes with the files before it")
    return data


def _open(path: Path | str, flags: int, folder: int | None = None) -> int:
    try:
        return os.open(path, os.O_RDONLY | os.O_NOFOLLOW | flags, dir_fd=folder)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENOTDIR):
            raise refusal("link", Path(path).name, "became a link while it was copied") from error
        raise


def publish(board: Path, staging: Path) -> None:
    """Make the entry and the event in `staging` those of the board, both or neither.

    Args:
        board: a board that this process has locked.
        staging: a folder of `staged`, with one event in `ledger/` and, unless that withdraws it, its entry in
            `records/`.

    Raises:
        Refused: if an event of that number is in the ledger already.
        BgbenchError: if the disk is full; the board is as it was.
    """
    for path in (staging / LEDGER).iterdir():
        if (board / LEDGER / path.name).exists():
            raise refusal("ledger", path.name, "is there already")
    with in_one_line(board):
        (board / RECORDS).mkdir(exist_ok=True)
        (board / LEDGER).mkdir(exist_ok=True)
        _sync(staging)
        renames = [(staging, board / PENDING)]
        os.rename(*renames[0])
        try:
            for rename in _renames_left(board):
                os.rename(*rename)
                renames.append(rename)
            _sync_folders(board / RECORDS, board / LEDGER, board)
            os.rename(board / PENDING, staging)
        except BaseException:
            for source, target in reversed(renames):
                os.rename(target, source)
            raise


def finish(board: Path) -> None:
    """Do the renames that a killed process left undone; `board` is locked by this process.

    Raises:
        Refused: if what is pending is not what `publish` leaves behind.
    """
    pending = board / PENDING
    if not os.path.lexists(pending):
        return
    for rename in _renames_left(board):
        os.rename(*rename)
    remains = Path(tempfile.mkdtemp(prefix=STAGING, dir=board))
    os.rename(pending, remains / PENDING)
    shutil.rmtree(remains, ignore_errors=True)


def _renames_left(board: Path) -> list[tuple[Path, Path]]:
    """What is left to do of the pending publication, in order, as (from, to)."""
    pending = board / PENDING
    for folder in (pending, pending / RECORDS, pending / LEDGER):
        if folder.is_symlink() or not folder.is_dir():
            raise refusal("layout", PENDING, "is not what an interrupted publication leaves; delete it")
    paths = list((pending / LEDGER).iterdir())
    if not paths:
        return []
    event = read_model(paths[0], Event)
    if [path.name for path in paths] != [file_name(event)]:
        raise refusal("ledger", PENDING, f"holds another event than {file_name(event)} alone; delete it")
    entry, place = pending / RECORDS / event.entry, board / RECORDS / event.entry
    renames = []
    if entry.exists():
        refuse_layout(entry)
    if place.exists() and (entry.exists() or event.kind == "withdrawn"):
        renames.append((place, pending / REPLACED))
    if entry.exists():
        renames.append((entry, place))
    return [*renames, (paths[0], board / LEDGER / paths[0].name)]


def remove_abandoned(board: Path) -> None:
    """Remove staging folders whose processes were killed; those of living ones are locked."""
    for folder in board.glob(f"{STAGING}*"):
        if folder.is_symlink() or not folder.is_dir():
            continue
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
        except BlockingIOError:
            pass
        finally:
            os.close(handle)


def _sync(folder: Path) -> None:
    """Have everything below `folder` on the disk before its name changes."""
    for path in sorted(folder.rglob("*")):
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
    _sync_folders(folder)


def _sync_folders(*folders: Path) -> None:
    for folder in folders:
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
