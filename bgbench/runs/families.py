"""The processes of a cell: its worker, and all that came of it, wherever they went.

A child that becomes a daemon leaves its parent, its group and its session. On Linux it is found all the same:
in the control group that its worker was started in, where this process may make one; else below the worker,
which adopts its orphans. Whatever has been seen once is remembered, and ended with the worker.
"""

import ctypes
import os
import signal
import sys
from contextlib import suppress
from pathlib import Path

import psutil

PR_SET_CHILD_SUBREAPER = 36

UNIFIED = (Path("/sys/fs/cgroup"), Path("/sys/fs/cgroup/unified"))
"""Where control groups of version 2 are mounted."""


def adopt_orphans() -> None:
    """Let processes below this one that lose their parent become its children. Called in a worker."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)


class Family:
    """A worker and its descendants.

    Args:
        pid: of the worker, which leads a process group and a session of its own.
        control_group: the folder of a control group that is the worker's own; None: there is none.
    """

    def __init__(self, pid: int, control_group: Path | None = None) -> None:
        self._pid = pid
        self._group = control_group
        self._seen: dict[int, psutil.Process] = {}

    def members(self) -> list[psutil.Process]:
        """The processes that are there now."""
        with suppress(psutil.Error):
            leader = psutil.Process(self._pid)
            for process in (leader, *leader.children(recursive=True)):
                self._seen.setdefault(process.pid, process)
        for pid in _listed(self._group):
            with suppress(psutil.Error):
                self._seen.setdefault(pid, psutil.Process(pid))
        # `is_running` compares the time of the start: a number may be another process's by now.
        self._seen = {pid: process for pid, process in self._seen.items() if process.is_running()}
        return list(self._seen.values())

    def memory(self) -> float:
        """Resident memory of all members in MB."""
        total = 0.0
        for process in self.members():
            with suppress(psutil.Error):
                total += float(process.memory_info().rss) / 2**20
        return total

    def end(self) -> None:
        """End every member. The worker is not waited for; the others are, for a moment."""
        others = self.members()
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._pid, signal.SIGKILL)
        for process in others:
            with suppress(psutil.Error):
                process.kill()
        psutil.wait_procs([process for process in others if process.pid != self._pid], timeout=2)
        if self._group is not None:
            for pid in _listed(self._group):
                with suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGKILL)

    def forget(self) -> None:
        """Remove the control group, once its processes are gone."""
        if self._group is not None:
            with suppress(OSError):
                self._group.rmdir()


def control_group_for(pid: int) -> Path | None:
    """Make a control group below that of this process, and move the process `pid` into it.

    Returns:
        Its folder; None where there are no control groups of version 2 or this process may make none.
    """
    try:
        own = next(
            line.strip().partition("::")[2]
            for line in Path("/proc/self/cgroup").read_text().splitlines()
            if line.startswith("0::")
        )
        root = next(path for path in UNIFIED if (path / "cgroup.procs").exists())
        folder = root / own.lstrip("/") / f"bgbench-{pid}"
        folder.mkdir()
    except (OSError, StopIteration):
        return None
    try:
        (folder / "cgroup.procs").write_text(str(pid))
    except OSError:
        with suppress(OSError):
            folder.rmdir()
        return None
    return folder


def _listed(folder: Path | None) -> list[int]:
    if folder is None:
        return []
    try:
        return [int(word) for word in (folder / "cgroup.procs").read_text().split()]
    except (OSError, ValueError):
        return []
