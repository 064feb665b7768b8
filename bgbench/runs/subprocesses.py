"""A worker process that runs cells for its parent, watched for time, memory and death."""

import json
import os
import selectors
import signal
import site
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

from bgbench.core.devices import AUTO
from bgbench.core.errors import BgbenchError
from bgbench.core.files import UNFINISHED, atomic_file
from bgbench.evaluation.cell import Cell
from bgbench.runs.process import memory_variables, thread_variables
from bgbench.runs.records import Ending, Status

POLL_INTERVAL = 0.2
"""Seconds between two looks at whether the worker lives and keeps its limits."""

STACK_TIME = 0.5
"""Seconds that a worker past its time gets to write its stack, which shows where it hangs."""

STARTUP_LIMIT = 900
"""Seconds a worker may take to import what it needs; a cell's own time starts afterwards."""

Advanced = Callable[[Cell, int], None]


@dataclass(frozen=True)
class Limits:
    """What a worker may use for each cell.

    Args:
        threads: threads of torch, BLAS, numba and OpenMM.
        timeout: seconds.
        memory: resident memory of the worker and its children in MB.
        device: where samplers compute, as `--device` takes it; the worker finds it on its own machine.
        visible_devices: the worker's CUDA_VISIBLE_DEVICES; None: as in this process.
    """

    threads: int = 1
    timeout: float = float("inf")
    memory: float = float("inf")
    device: str = AUTO
    visible_devices: str | None = None


def environment(limits: Limits) -> dict[str, str]:
    """Environment of a worker process, which imports bgbench from where this process did."""
    visible = limits.visible_devices
    device = {} if visible is None else {"CUDA_VISIBLE_DEVICES": visible}
    inherited = {name: os.environ.get(name, "") for name in list(os.environ)}
    path = {"PYTHONPATH": import_path(inherited.get("PYTHONPATH", ""))}
    return {**memory_variables(), **inherited, **thread_variables(limits.threads), **device, **path}


def import_path(python_path: str) -> str:
    """PYTHONPATH of a process that is to import this copy of bgbench.

    An installed copy is found as it is. Any other, such as a checkout in which `python -m bgbench` was
    called, is named first.
    """
    folder = str(Path(__file__).parents[2])
    if folder in [*site.getsitepackages(), site.getusersitepackages()]:
        return python_path
    return os.pathsep.join([folder, *filter(None, [python_path])])


class CellProcess:
    """A `python -P -m bgbench.runs.worker FOLDER`, started when first needed and again after each death.

    `-P` keeps the working folder off the worker's import path: a `random.py` there is the user's own.
    """

    def __init__(self, folder: Path, limits: Limits) -> None:
        self._folder = folder
        self._limits = limits
        self._process: subprocess.Popen[bytes] | None = None
        self._reports = -1
        self._selector: selectors.BaseSelector
        self._buffer = b""
        self._stage = ""

    def run(self, cell: Cell, advanced: Advanced, stop: threading.Event) -> Ending | None:
        """Run one cell to its end.

        After a worker was killed from outside, the cell is tried once more: the system may have killed it
        for the memory that another process used.

        Args:
            cell: what to run.
            advanced: called with the cell and a number of conformers that have been produced.
            stop: ends the worker when it is set.

        Returns:
            `ok` when the record is written, else what ended the cell; None if `stop` was set.

        Raises:
            BgbenchError: what the worker reports for the user to correct, such as a full disk.
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
            self._selector.close()
            os.close(self._reports)
            stack_path(self._folder, self._process.pid).unlink(missing_ok=True)
            self._process = None

    def _attempt(self, cell: Cell, advanced: Advanced, stop: threading.Event) -> tuple[Ending | None, bool]:
        """How the cell ended, and whether the worker was killed from outside."""
        process = self._alive()
        self._send(process, cell)
        deadline = time.monotonic() + STARTUP_LIMIT
        while not stop.is_set():
            # First whether it is dead, then its reports: whatever a dead worker wrote can be read by then.
            dead = process.poll() is not None
            for report in self._read_all() if dead else self._read():
                advanced(cell, report.get("advanced", 0))
                if "error" in report:
                    raise BgbenchError(str(report["error"]))
                if "done" in report:
                    return Ending(status="ok"), False
                if "garbled" in report:
                    return self._end(cell, process, "crash", f"{GARBLED}: {report['garbled']!r}"), False
                if self._stage == "starting":
                    deadline = time.monotonic() + self._limits.timeout
                self._stage = report.get("entered", self._stage)
            if dead:
                code = process.wait()
                return self._end(cell, process, *_post_mortem(code, self._folder)), code == -signal.SIGKILL
            broken = self._broken_limit(process, deadline)
            if broken is not None:
                if any("done" in report for report in self._read_all()):
                    return Ending(status="ok"), False
                return self._end(cell, process, *broken), False
        self.close()
        return None, False

    def _end(self, cell: Cell, process: "subprocess.Popen[bytes]", status: Status, error: str) -> Ending:
        """End the worker; the stack that it wrote becomes the cell's traceback."""
        path = stack_path(self._folder, process.pid)
        stack = path.read_bytes() if path.exists() else b""
        if stack:
            with atomic_file(self._folder / "cells" / f"{cell.name}.traceback.txt") as stream:
                stream.write(stack)
        self.close()
        return Ending(status=status, error=error, phase=self._stage)

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
                process = subprocess.Popen(
                    [
                        sys.executable,
                        "-P",
                        "-m",
                        "bgbench.runs.worker",
                        str(self._folder),
                        str(self._limits.threads),
                        self._limits.device,
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
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._reports, selectors.EVENT_READ)
        return process

    def _send(self, process: "subprocess.Popen[bytes]", cell: Cell) -> None:
        if process.stdin is None:
            raise RuntimeError("the worker has no input")
        try:
            process.stdin.write(cell.model_dump_json().encode() + b"\n")
            process.stdin.flush()
        except BrokenPipeError:
            process.wait()

    def _read(self) -> list[dict[str, Any]]:
        """Reports that arrive within the poll interval."""
        if self._selector.select(POLL_INTERVAL):
            arrived = os.read(self._reports, 65536)
            if not arrived:  # closed, which is no reason to ask again at once
                time.sleep(POLL_INTERVAL)
            self._buffer += arrived
        *lines, self._buffer = self._buffer.split(b"\n")
        return [_parsed(line) for line in lines]

    def _read_all(self) -> list[dict[str, Any]]:
        """Reports that are there already."""
        while self._selector.select(0) and (arrived := os.read(self._reports, 65536)):
            self._buffer += arrived
        *lines, self._buffer = self._buffer.split(b"\n")
        return [_parsed(line) for line in lines]

    def _broken_limit(self, process: "subprocess.Popen[bytes]", deadline: float) -> tuple[Status, str] | None:
        """Status and error of the cell if the worker has passed one of its limits."""
        if time.monotonic() > deadline and self._stage == "starting":
            return "crash", f"the worker did not start within {STARTUP_LIMIT} s"
        if time.monotonic() > deadline:
            process.send_signal(signal.SIGUSR1)
            time.sleep(STACK_TIME)
            return "timeout", f"passed the limit of {self._limits.timeout:g} s"
        used = _memory(process.pid) if self._limits.memory < float("inf") else 0.0
        if used > self._limits.memory:
            return "out_of_memory", f"used {used:.0f} MB, the limit is {self._limits.memory:.0f} MB"
        return None


GARBLED = "the cell wrote into the pipe on which its worker reports"


def _parsed(line: bytes) -> dict[str, Any]:
    """A worker's report; `garbled` quotes a line that no worker wrote."""
    try:
        report = json.loads(line)
    except ValueError:
        report = None
    if isinstance(report, dict) and isinstance(report.get("advanced"), int):
        return report
    return {"garbled": line[:80].decode(errors="replace")}


def stack_path(folder: Path, pid: int) -> Path:
    """The file in which a worker writes its stack when it dies."""
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
        return "out_of_memory", "the worker was killed (SIGKILL) twice, most often because memory ran out"
    name = signal.Signals(-code).name if code < 0 else f"exit code {code}"
    return "crash", f"the worker died ({name}); its output is in {folder.name}/worker.log"
