"""A worker process that runs cells for its parent, watched for time, memory and death."""

import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from bgbench.errors import BgbenchError
from bgbench.records import Cell, Status

LOOK_EVERY = 0.2


@dataclass(frozen=True)
class Limits:
    """For each cell: `timeout` in seconds, `memory` in MB of the worker, `threads` for its libraries."""

    threads: int
    timeout: float = float("inf")
    memory: float = float("inf")


class CellProcess:
    """Starts `python -m bgbench.worker FOLDER` when first needed and again after each death."""

    def __init__(self, folder: Path, limits: Limits) -> None:
        self._folder = folder
        self._limits = limits
        self._process: subprocess.Popen[bytes] | None = None
        self._reports = -1
        self._buffer = b""

    def run(
        self, cell: Cell, advanced: Callable[[Cell, int], None], stop: threading.Event
    ) -> tuple[Status, str] | None:
        """Run one cell to its end: `("ok", "")` when its record is written, else what killed it.

        None if `stop` was set meanwhile.

        Raises:
            BgbenchError: the worker's, for what a user must mend.
        """
        process = self._alive()
        self._send(process, cell)
        deadline = time.monotonic() + self._limits.timeout
        while not stop.is_set():
            for report in self._read():
                if "error" in report:
                    raise BgbenchError(str(report["error"]))
                if "done" in report:
                    return "ok", ""
                advanced(cell, int(report["advanced"]))
            cause = self._cause_of_death(process, deadline)
            if cause is not None:
                self._kill()
                return cause
        self._kill()
        return None

    def close(self) -> None:
        """End the worker."""
        self._kill()

    def _alive(self) -> "subprocess.Popen[bytes]":
        if self._process is None or self._process.poll() is not None:
            self._kill()
            self._start()
        if self._process is None:
            raise RuntimeError("the worker did not start")
        return self._process

    def _start(self) -> None:
        self._reports, theirs = os.pipe()
        threads = str(self._limits.threads)
        environment = {
            **os.environ,
            "BGBENCH_REPORT_FD": str(theirs),
            "OMP_NUM_THREADS": threads,
            "MKL_NUM_THREADS": threads,
            "OPENBLAS_NUM_THREADS": threads,
            "OPENMM_CPU_THREADS": threads,
        }
        with (self._folder / "worker.log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "bgbench.worker", str(self._folder), threads],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                env=environment,
                pass_fds=(theirs,),
                start_new_session=True,
            )
        os.close(theirs)
        self._buffer = b""

    def _send(self, process: "subprocess.Popen[bytes]", cell: Cell) -> None:
        if process.stdin is None:
            raise RuntimeError("the worker has no input")
        try:
            process.stdin.write(cell.model_dump_json().encode() + b"\n")
            process.stdin.flush()
        except BrokenPipeError:
            process.wait()

    def _read(self) -> list[dict[str, Any]]:
        """Reports that arrived within the look-out interval."""
        ready, _, _ = select.select([self._reports], [], [], LOOK_EVERY)
        if ready:
            arrived = os.read(self._reports, 65536)
            if not arrived:
                time.sleep(LOOK_EVERY)
            self._buffer += arrived
        *lines, self._buffer = self._buffer.split(b"\n")
        return [json.loads(line) for line in lines]

    def _cause_of_death(
        self, process: "subprocess.Popen[bytes]", deadline: float
    ) -> tuple[Status, str] | None:
        code = process.poll()
        if code is not None:
            return _post_mortem(code, self._folder)
        if time.monotonic() > deadline:
            return "timeout", f"passed the limit of {self._limits.timeout:g} s"
        used = _memory(process.pid)
        if used > self._limits.memory:
            return "out_of_memory", f"used {used:.0f} MB, the limit is {self._limits.memory:.0f} MB"
        return None

    def _kill(self) -> None:
        if self._process is not None:
            if self._process.poll() is None:
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            if self._process.stdin is not None:
                self._process.stdin.close()
            os.close(self._reports)
            self._process = None


def _memory(pid: int) -> float:
    """Resident memory in MB; 0 when the process is gone."""
    try:
        return float(psutil.Process(pid).memory_info().rss) / 2**20
    except psutil.Error:
        return 0.0


def _post_mortem(code: int, folder: Path) -> tuple[Status, str]:
    if code == -signal.SIGKILL:
        return "out_of_memory", "the worker was killed (SIGKILL), most often for want of memory"
    name = signal.Signals(-code).name if code < 0 else f"exit code {code}"
    return "crash", f"the worker died ({name}); its output is in {folder.name}/worker.log"
