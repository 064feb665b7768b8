"""The pages of one entry, built as part of its check: what stops the site for everybody is refused before.

They are built in a process of its own, which is stopped after BUILD_SECONDS and may not hold more than
BUILD_BYTES. The entry stands beside a twin, so that what compares entries is computed too.
"""

import os
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from bgbench.core.files import write_json
from bgbench.leaderboard.entries import EntryFiles, Verdict
from bgbench.leaderboard.folders import VERDICT
from bgbench.leaderboard.ledger import LEDGER, RECORDS
from bgbench.leaderboard.problems import Problem
from bgbench.leaderboard.rules import BUILD_BYTES, BUILD_SECONDS
from bgbench.runs.process import thread_variables
from bgbench.runs.subprocesses import import_path

TWIN = "a-twin-for-comparison"
"""Name of the copy that an entry is compared with."""


def unbuildable(files: EntryFiles, verdict: Verdict) -> Iterator[Problem]:
    """Why the pages of an entry with this verdict cannot be built."""
    with tempfile.TemporaryDirectory(prefix="bgbench-site-") as folder:
        board = Path(folder) / "board"
        lay_out(files, verdict, board)
        if fault := build_limited(board, Path(folder) / "site"):
            yield Problem("site", files.name, fault)


def lay_out(files: EntryFiles, verdict: Verdict, board: Path) -> None:
    """A board of the entry and its twin, whose arrays are left out."""
    for name, without in ((files.name, ()), (TWIN, ("arrays",))):
        target = board / RECORDS / name
        shutil.copytree(files.folder, target, ignore=lambda _, names, w=without: set(w) & set(names))
        write_json(target / VERDICT, verdict)
    (board / LEDGER).mkdir()


def build_limited(board: Path, out: Path, seconds: float = BUILD_SECONDS, size: int = BUILD_BYTES) -> str:
    """Build a site in a process of its own; what went wrong in a sentence, or "".

    Args:
        board: the folder with `records/` and `ledger/`.
        out: the folder of the site.
        seconds: until the process is stopped.
        size: bytes of memory that the process may have.
    """
    words = [sys.executable, "-P", "-m", __name__, str(board), str(out), str(size)]
    path = import_path(os.environ.get("PYTHONPATH", ""))
    environment = {**os.environ, **thread_variables(1), "PYTHONPATH": path}
    try:
        done = subprocess.run(
            words,
            env=environment,
            capture_output=True,
            timeout=seconds,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    except subprocess.TimeoutExpired:
        return f"its pages were not built in {seconds:g} s"
    if done.returncode == 0:
        return ""
    lines = done.stderr.decode("utf-8", "replace").strip().splitlines()
    why = lines[-1] if lines else f"the process ended with {done.returncode}"
    return f"its pages cannot be built: {why[:300]}"


def main(board: str, out: str, size: str) -> None:
    """Build the site of `board` in `out` with `size` bytes of memory."""
    from bgbench.leaderboard.site import build

    limit = int(size)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    build(Path(board), Path(out))


if __name__ == "__main__":
    main(*sys.argv[1:])
