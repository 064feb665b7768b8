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
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from bgbench.core.errors import BgbenchError
from bgbench.core.files import UNFINISHED, atomic_file
from bgbench.evaluation.cell import Cell
from bgbench.runs.process import memory_variables, thread_variables
from bgbench.runs.records import Ending, Status

LOOK_EVERY = 0.2
LAST_WORDS = 0.5
"""Seconds that a worker past its time gets to write down where it hangs."""

STARTING = 900
"""Seconds a worker may take to import what it needs; a cell's own time starts afterwards."""

Advanced = Callable[[Cell, int], None]


@dataclass(frozen=True)
class Limits:
    """For each cell: `timeout` in seconds, `memory` in MB of the worker, `threads` for its libraries.

    `device` is what a worker sees as CUDA_VISIBLE_DEVICES; empty leaves that as it is.
    """

    threads: int = 1
    timeout: float = float("inf")
    memory: float = float("inf")
    device: str = ""


def environment(limits: Limits) -> dict[str, str]:
    """Environment of a worker process."""
    device = {"CUDA_VISIBLE_DEVICES": limits.device} if limits.device else {}
    inherited = {key: os.environ.get(key, "") for key in list(os.environ)}
    return {**memory_variables(), **inherited, **thread_variables(limits.threads), **device}


class CellProcess:
    """Starts `python -m bgbench.runs.worker FOLDER` when first needed and again after each death."""

    def __init__(self, folder: Path, limits: Limits) -> None:
        self._folder = folder
        self._limits = limits
        self._process: subprocess.Popen[bytes] | None = None
        self._reports = -1
        self._buffer = b""
        self._stage = ""

    def run(self, cell: Cell, advanced: Advanced, stop: threading.Event) -> Ending | None:
        """Run one cell to its end: `ok` when its record is written, else what ended it.

        A worker killed from outside gets one more try: the killer may have meant another. None if `stop`
        was set meanwhile.

        Raises:
            BgbenchError: the worker's, for what a user must mend.
        """
        ending, killed = self._attempt(cell, advanced, stop)
        if killed and not stop.is_set():
            ending, _ = self._attempt(cell, advanced, stop)
        return ending

    def close(self) -> None:
        """End the worker."""
        if self._process is not None:
            if self._process.poll() is None:
                with suppress(ProcessLookupError):
                    os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            if self._process.stdin is not None:
                with suppress(BrokenPipeError):
                    self._process.stdin.close()
            os.close(self._reports)
            self._stack_path(self._process.pid).unlink(missing_ok=True)
            self._process = None

    def _attempt(self, cell: Cell, advanced: Advanced, stop: threading.Event) -> tuple[Ending | None, bool]:
        """The ending, and whether somebody else killed the worker."""
        process = self._alive()
        self._send(process, cell)
        deadline = time.monotonic() + STARTING
        while not stop.is_set():
            for report in self._read():
                advanced(cell, int(report.get("advanced", 0)))
                if "error" in report:
                    raise BgbenchError(str(report["error"]))
                if "done" in report:
                    return Ending(status="ok"), False
                if self._stage == "starting":
                    deadline = time.monotonic() + self._limits.timeout
                self._stage = report.get("entered", self._stage)
            cause = self._cause_of_death(process, deadline)
            if cause is not None:
                killed = process.poll() == -signal.SIGKILL
                self._keep_stack(cell, process)
                self.close()
                return Ending(status=cause[0], error=cause[1], phase=self._stage), killed
        self.close()
        return None, False

    def _alive(self) -> "subprocess.Popen[bytes]":
        if self._process is None or self._process.poll() is not None:
            self.close()
            self._process = self._start()
        self._stage = "starting"
        return self._process

    def _start(self) -> "subprocess.Popen[bytes]":
        self._reports, theirs = os.pipe()
        self._buffer = b""
        try:
            with (self._folder / "worker.log").open("ab") as log:
                return subprocess.Popen(
                    [
                        sys.executable,
                        "-m",
                        "bgbench.runs.worker",
                        str(self._folder),
                        str(self._limits.threads),
                    ],
                    stdin=subprocess.PIPE,
                    stdout=log,
                    stderr=log,
                    env={
                        **environment(self._limits),
                        "BGBENCH_REPORT_FD": str(theirs),
                        "BGBENCH_PARENT": str(os.getpid()),
                    },
                    pass_fds=(theirs,),
                    start_new_session=True,
                )
        except OSError as error:
            os.close(self._reports)
            raise BgbenchError(f"cannot start a worker for {self._folder}: {error}") from error
        finally:
            os.close(theirs)

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
        if time.monotonic() > deadline and self._stage == "starting":
            return "crash", f"the worker did not start within {STARTING} s"
        if time.monotonic() > deadline:
            process.send_signal(signal.SIGUSR1)
            time.sleep(LAST_WORDS)
            return "timeout", f"passed the limit of {self._limits.timeout:g} s"
        used = _memory(process.pid) if self._limits.memory < float("inf") else 0.0
        if used > self._limits.memory:
            return "out_of_memory", f"used {used:.0f} MB, the limit is {self._limits.memory:.0f} MB"
        return None

    def _stack_path(self, pid: int) -> Path:
        return stack_path(self._folder, pid)

    def _keep_stack(self, cell: Cell, process: "subprocess.Popen[bytes]") -> None:
        """What the dying worker wrote of where it was becomes the cell's traceback."""
        path = self._stack_path(process.pid)
        text = path.read_bytes() if path.exists() else b""
        if text:
            with atomic_file(self._folder / "cells" / f"{cell.name}.traceback.txt") as stream:
                stream.write(text)


def stack_path(folder: Path, pid: int) -> Path:
    """Where a worker writes its stack when it dies."""
    return folder / f".worker-{pid}{UNFINISHED}"


def _memory(pid: int) -> float:
    """Resident memory in MB of a process and its children; 0 when it is gone."""
    try:
        process = psutil.Process(pid)
        family = [process, *process.children(recursive=True)]
        return sum(float(member.memory_info().rss) for member in family) / 2**20
    except psutil.Error:
        return 0.0


def _post_mortem(code: int, folder: Path) -> tuple[Status, str]:
    if code == -signal.SIGKILL:
        return "out_of_memory", "the worker was killed (SIGKILL) twice, most often for want of memory"
    name = signal.Signals(-code).name if code < 0 else f"exit code {code}"
    return "crash", f"the worker died ({name}); its output is in {folder.name}/worker.log"
