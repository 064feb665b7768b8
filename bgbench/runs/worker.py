"""The worker process: reads cells as JSON lines, runs each into its record, reports on a pipe."""

import ctypes
import faulthandler
import json
import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

from bgbench.core.devices import find_device
from bgbench.core.errors import BgbenchError
from bgbench.core.guard import read_limits
from bgbench.evaluation.cell import Cell
from bgbench.evaluation.stages import Watch
from bgbench.runs.cells import execute
from bgbench.runs.families import adopt_orphans
from bgbench.runs.interrupts import interrupts
from bgbench.runs.process import limited
from bgbench.runs.runfolder import RunFolder
from bgbench.runs.subprocesses import stack_path
from bgbench.runs.throttle import Throttle

PR_SET_PDEATHSIG = 1


def main(folder_path: str, threads: str, device: str) -> None:
    """Run cells until the input ends. The words are of the command line: `device` as `--device` takes it."""
    adopt_orphans()
    die_with_the_parent(int(os.environ.pop("BGBENCH_PARENT")))
    folder = RunFolder.open(Path(folder_path))
    reports = os.fdopen(int(os.environ.pop("BGBENCH_REPORT_FD")), "w", buffering=1)
    with limited(int(threads)), reports, stack_path(folder.path, os.getpid()).open("w") as stack:
        faulthandler.enable(stack)
        faulthandler.register(signal.SIGUSR1, stack)
        limits = read_limits()
        for line in sys.stdin:
            serve(Cell.model_validate_json(line), folder, reports, device, limits)


def serve(
    cell: Cell, folder: RunFolder, reports: IO[str], device: str, limits: Mapping[int, tuple[int, int]]
) -> None:
    """Run one cell and report how it ended.

    `worn` says that the cell lowered `limits` of this process for good: the next one needs another process.
    """
    report = Reports(reports)
    watch = Watch(report.advanced, lambda stage: report.send(entered=stage))
    try:
        found = find_device(device)
    except BgbenchError as error:
        report.send(error=str(error))
        return
    try:
        with interrupts():
            execute(cell, folder, watch, found)
    except BgbenchError as error:
        report.send(unwritable=str(error))
    else:
        report.send(done=cell.name, worn=read_limits() != limits)


class Reports:
    """Messages to the executor. Progress is sent ten times a second, not thousands of times."""

    EVERY = 0.1
    """Seconds."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream
        self._progress = Throttle(lambda n: self._write(advanced=n), self.EVERY)

    def advanced(self, n: int) -> None:
        """Count `n` more conformers, and report them if the last report is long enough ago."""
        self._progress.add(n)

    def send(self, **message: Any) -> None:
        """Send a message now, with the number of conformers since the last one."""
        self._write(advanced=self._progress.take(), **message)

    def _write(self, **message: Any) -> None:
        self._stream.write(json.dumps(message) + "\n")


def die_with_the_parent(parent: int) -> None:
    """On Linux a worker ends when its parent does, however that died, and at once if it did so already."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            sys.exit("the parent is gone")


if __name__ == "__main__":
    main(*sys.argv[1:])
