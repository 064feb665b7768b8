"""The worker process: reads cells as JSON lines, runs each into its record, reports on a pipe."""

import ctypes
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

from bgbench.cells import execute
from bgbench.errors import BgbenchError
from bgbench.records import Cell
from bgbench.runfolder import RunFolder

PR_SET_PDEATHSIG = 1


def main(folder_path: str, threads: str) -> None:
    """Serve until the input ends. Thread counts are set here, as executors do for their workers."""
    die_with_the_parent()
    import torch

    torch.set_num_threads(int(threads))
    folder = RunFolder.open(Path(folder_path))
    with os.fdopen(int(os.environ.pop("BGBENCH_REPORT_FD")), "w", buffering=1) as reports:

        def report(**message: Any) -> None:
            reports.write(json.dumps(message) + "\n")

        for line in sys.stdin:
            cell = Cell.model_validate_json(line)
            try:
                execute(cell, folder, lambda n: report(advanced=n))
            except BgbenchError as error:
                report(error=str(error))
            else:
                report(done=cell.name)


def die_with_the_parent() -> None:
    """On Linux a worker ends when its parent does, however that died."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


if __name__ == "__main__":
    main(*sys.argv[1:])
