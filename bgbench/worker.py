"""The worker process: reads cells as JSON lines, runs each into its record, reports on a pipe."""

import ctypes
import faulthandler
import json
import os
import signal
import sys
from pathlib import Path
from typing import IO, Any

from bgbench.cells import execute
from bgbench.errors import BgbenchError
from bgbench.records import Cell
from bgbench.runfolder import RunFolder
from bgbench.stages import Watch
from bgbench.subprocesses import stack_path
from bgbench.threads import limited

PR_SET_PDEATHSIG = 1


def main(folder_path: str, threads: str) -> None:
    """Serve until the input ends."""
    die_with_the_parent(int(os.environ.pop("BGBENCH_PARENT")))
    folder = RunFolder.open(Path(folder_path))
    reports = os.fdopen(int(os.environ.pop("BGBENCH_REPORT_FD")), "w", buffering=1)
    with limited(int(threads)), reports, stack_path(folder.path, os.getpid()).open("w") as stack:
        faulthandler.enable(stack)
        faulthandler.register(signal.SIGUSR1, stack)
        for line in sys.stdin:
            serve(Cell.model_validate_json(line), folder, reports)


def serve(cell: Cell, folder: RunFolder, reports: IO[str]) -> None:
    """Run one cell and report how it went."""

    def report(**message: Any) -> None:
        reports.write(json.dumps(message) + "\n")

    watch = Watch(lambda n: report(advanced=n), lambda stage: report(entered=stage))
    try:
        execute(cell, folder, watch)
    except BgbenchError as error:
        report(error=str(error))
    else:
        report(done=cell.name)


def die_with_the_parent(parent: int) -> None:
    """On Linux a worker ends when its parent does, however that died, and at once if it did so already."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            sys.exit("the parent is gone")


if __name__ == "__main__":
    main(*sys.argv[1:])
