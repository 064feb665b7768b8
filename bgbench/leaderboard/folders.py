"""The layout of a submission: which files may be there, and nothing but plain files."""

import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path

from bgbench.leaderboard.problems import refusal
from bgbench.leaderboard.rules import FOLDER_BYTES, FOLDER_FILES

ENTRY, VERDICT, PLAN, CURVE = "entry.json", "verdict.json", "run.json", "curve.json"
LAWS = "check.json"
"""The report of `bgbench check` on the sampler; not every entry has one."""

CELL = re.compile(r"[A-Za-z0-9_.-]{1,80}-s\d{1,9}")
NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,99}")
"""Names of entries, which become file names of pages."""


def refuse_layout(folder: Path) -> None:
    """Raise Refused for anything in `folder` that a submission does not have, before any of it is read."""
    if folder.is_symlink() or not folder.is_dir():
        raise refusal("layout", folder.name, "no such folder")
    if not NAME.fullmatch(folder.name):
        raise refusal("path", folder.name[:60], "entries are named in lower case: letters, digits, . _ -")
    total = count = 0
    for path, entry in _walk(folder, folder):
        where = path.as_posix()
        kind = entry.stat(follow_symlinks=False)
        if not (stat.S_ISREG(kind.st_mode) or stat.S_ISDIR(kind.st_mode)):
            raise refusal("link", where, "neither a plain file nor a folder")
        if kind.st_nlink > 1 and stat.S_ISREG(kind.st_mode):
            raise refusal("link", where, "a hard link")
        if not _known(path, stat.S_ISDIR(kind.st_mode)):
            raise refusal("layout", where, "has no place in a submission")
        total, count = total + kind.st_size, count + 1
        if count > FOLDER_FILES:
            raise refusal("size", folder.name, f"more than {FOLDER_FILES:,} files")
    if total > FOLDER_BYTES:
        raise refusal(
            "size", folder.name, f"{total:,} bytes; {FOLDER_BYTES:,} at most: publish arrays by URL"
        )
    for name in (ENTRY, PLAN):
        if not (folder / name).is_file():
            raise refusal("layout", name, "is missing")


def _walk(folder: Path, root: Path) -> Iterator[tuple[Path, os.DirEntry[str]]]:
    with os.scandir(folder) as entries:
        for entry in sorted(entries, key=lambda item: item.name):
            path = Path(entry.path)
            yield path.relative_to(root), entry
            if entry.is_dir(follow_symlinks=False) and len(path.relative_to(root).parts) < 3:
                yield from _walk(path, root)


def _known(path: Path, is_folder: bool) -> bool:
    parts = path.parts
    if is_folder:
        return parts in (("cells",), ("arrays",))
    if len(parts) == 1:
        return parts[0] in (ENTRY, VERDICT, PLAN, CURVE, LAWS)
    suffix = {"cells": ".json", "arrays": ".npz"}.get(parts[0])
    name = parts[1]
    return (
        len(parts) == 2
        and suffix is not None
        and name.endswith(suffix)
        and bool(CELL.fullmatch(name.removesuffix(suffix)))
    )
