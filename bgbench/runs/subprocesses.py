"""A worker process that runs cells for its parent, watched for time, memory and death."""

import os
import selectors
import signal
import site
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import ConfigDict, Field, ValidationError

from bgbench.core.devices import AUTO
from bgbench.core.errors import BgbenchError
from bgbench.core.files import UNFINISHED, Strict, atomic_file
from bgbench.evaluation.cell import Cell
from bgbench.runs.families import Family, control_group_for
from bgbench.runs.process import memory_variables, thread_variables
from bgbench.runs.records import Ending, Status

POLL_INTERVAL = 0.2
"""Seconds between two looks at whether the worker lives and keeps its limits."""

LOOK_INTERVAL = 1.0
"""Seconds between two looks at the processes and the log of a worker whose memory has no limit."""

STACK_TIME = 0.5
"""Seconds that a worker past its time gets to write its stack, which shows where it hangs."""

STARTUP_LIMIT = 900
"""Seconds a worker may take to import what it needs; a cell's own time starts afterwards."""

LONGEST_REPORT = 1 << 20
"""Bytes of a report, at most: whatever is longer no worker wrote."""

LONGEST_LOG = 4 << 20
"""Bytes of the workers' log, about: of a longer one the beginning and the end are kept."""

LEAST_FREE = 1 << 20
"""Bytes that a run folder has room for where a cell could not write: then it was the cell's own fault."""

Advanced = Callable[[Cell, int], None]


class Report(Strict):
    """What a worker says of its cell: so many conformers more, the stage it entered, or how it ended.

    `error` is for the user to correct, before the cell began; `unwritable` says which file could not be
    written; `worn`: the process is not fit for another cell; `garbled` is what somebody else wrote.
    """

    model_config = ConfigDict(strict=True)
    advanced: int = Field(ge=0, le=10**12)
    entered: Annotated[str, Field(max_length=100)] = ""
    error: str = ""
    unwritable: str = ""
    done: str = ""
    worn: bool = False
    garbled: str = ""


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
        self._family: Family
        self._next_look = 0.0

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
            self._family.end()
            self._process.wait()
            self._family.forget()
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
                advanced(cell, report.advanced)
                if report.error and self._stage == "starting":
                    raise BgbenchError(report.error)
                if report.unwritable:
                    refuse_full_disk(self._folder, report.unwritable)
                    return self._end(cell, process, "crash", report.unwritable), False
                if report.done == cell.name:
                    if report.worn or not (self._folder / "cells" / f"{cell.name}.json").exists():
                        self.close()
                    return Ending(status="ok"), False
                if report.garbled:
                    return self._end(cell, process, "crash", f"{GARBLED}: {report.garbled!r}"), False
                if self._stage == "starting":
                    deadline = time.monotonic() + self._limits.timeout
                self._stage = report.entered or self._stage
            if dead:
                code = process.wait()
                return self._end(cell, process, *_post_mortem(code, self._folder)), code == -signal.SIGKILL
            broken = self._broken_limit(process, deadline)
            if broken is not None:
                if any(report.done == cell.name for report in self._read_all()):
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
        shorten_log(self._log_path)
        return self._process

    def _start(self) -> "subprocess.Popen[bytes]":
        self._reports, theirs = os.pipe()
        self._buffer = b""
        try:
            with self._log_path.open("ab") as log:
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
        self._family = Family(process.pid, control_group_for(process.pid))
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

    @property
    def _log_path(self) -> Path:
        return self._folder / "worker.log"

    def _read(self) -> list[Report]:
        """Reports that arrive within the poll interval."""
        if self._selector.select(POLL_INTERVAL):
            arrived = os.read(self._reports, 65536)
            if not arrived:  # closed, which is no reason to ask again at once
                time.sleep(POLL_INTERVAL)
            self._buffer += arrived
        return self._parse_buffer()

    def _read_all(self) -> list[Report]:
        """Reports that are there already."""
        while self._selector.select(0) and (arrived := os.read(self._reports, 65536)):
            self._buffer += arrived
            if len(self._buffer) > LONGEST_REPORT:
                break
        return self._parse_buffer()

    def _parse_buffer(self) -> list[Report]:
        *lines, self._buffer = self._buffer.split(b"\n")
        if len(self._buffer) > LONGEST_REPORT:
            lines, self._buffer = [*lines, self._buffer], b""
        return [_parsed(line) for line in lines]

    def _broken_limit(self, process: "subprocess.Popen[bytes]", deadline: float) -> tuple[Status, str] | None:
        """Status and error of the cell if the worker has passed one of its limits."""
        if time.monotonic() > deadline and self._stage == "starting":
            return "crash", f"the worker did not start within {STARTUP_LIMIT} s"
        if time.monotonic() > deadline:
            process.send_signal(signal.SIGUSR1)
            time.sleep(STACK_TIME)
            return "timeout", f"passed the limit of {self._limits.timeout:g} s"
        if self._limits.memory == float("inf") and time.monotonic() < self._next_look:
            return None
        self._next_look = time.monotonic() + LOOK_INTERVAL
        shorten_log(self._log_path)
        used = self._family.memory()
        if used > self._limits.memory:
            return "out_of_memory", f"used {used:.0f} MB, the limit is {self._limits.memory:.0f} MB"
        return None


GARBLED = "the cell wrote into the pipe on which its worker reports"


def _parsed(line: bytes) -> Report:
    """A worker's report; `garbled` quotes a line that no worker wrote."""
    try:
        return Report.model_validate_json(line)
    except ValidationError:
        return Report(advanced=0, garbled=line[:80].decode(errors="replace") or "an empty line")


def stack_path(folder: Path, pid: int) -> Path:
    """The file in which a worker writes its stack when it dies."""
    return folder / f".worker-{pid}{UNFINISHED}"


def shorten_log(path: Path) -> None:
    """Cut the middle out of a log that became too long; workers go on writing at its end.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     log = Path(folder) / "worker.log"
    ...     _ = log.write_bytes(b"a" * 3 * LONGEST_LOG)
    ...     shorten_log(log)
    ...     log.stat().st_size < LONGEST_LOG
    True
    """
    with suppress(OSError):
        size = path.stat().st_size
        if size <= LONGEST_LOG:
            return
        part = LONGEST_LOG // 4
        with path.open("r+b") as stream:
            stream.seek(size - part)
            end = stream.read(part)
            stream.truncate(part)
            stream.seek(part)
            stream.write(b"\n[%d bytes left out]\n" % (size - 2 * part) + end)


def refuse_full_disk(folder: Path, error: str) -> None:
    """Raise BgbenchError if nothing can be written into a run folder: then a cell that could not is not to
    blame, and the next ones would fail as well."""
    try:
        with tempfile.TemporaryFile(dir=folder) as stream:
            stream.write(bytes(LEAST_FREE))
            stream.flush()
    except OSError as cause:
        raise BgbenchError(error) from cause


def _post_mortem(code: int, folder: Path) -> tuple[Status, str]:
    if code == -signal.SIGKILL:
        return "out_of_memory", "the worker was killed (SIGKILL) twice, most often because memory ran out"
    name = signal.Signals(-code).name if code < 0 else f"exit code {code}"
    return "crash", f"the worker died ({name}); its output is in {folder.name}/worker.log"
