"""Mirrors a run to its tracker while the run goes on.

The run folder is the queue: a record is on disk before it is sent, what could not be sent is sent next time,
and what the tracker holds already is not sent again. Trackers work in a process of their own
(`bgbench.runs.tracking`), so that what they change about a process, they do not change here.
"""

import json
import os
import select
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, cast

from bgbench.runs.runfolder import RunFolder
from bgbench.runs.subprocesses import import_path

NOWHERE = "none"
"""The tracking URI of a run that is not tracked."""

REST = 5.0
"""Seconds between two sendings, at least; after a failure ten times as many."""

BUSY = 2
"""Sending takes at most one part in so many of a run's time."""

PATIENCE = 10.0
"""Seconds that a sending may go on after the run was interrupted: ended amid it, a store may be damaged."""

LIMIT = 600.0
"""Seconds that one sending may take. What arrived until then is not sent again."""


class Mirror:
    """Sends the records of a run to a tracker. If that fails there is a complaint, and the run goes on.

    Args:
        folder: the run.
        uri: where to; default: the tracking URI of the plan.
    """

    def __init__(self, folder: RunFolder, uri: str = "") -> None:
        self._folder = folder
        self._uri = uri or folder.plan.tracking_uri
        self._record_written = threading.Event()
        self._over = threading.Event()
        self._process: TrackingProcess | None = None
        self.complaint = ""

    def new_record(self) -> None:
        """To be called when a record has been written."""
        self._record_written.set()

    def send(self) -> None:
        """Send what the tracker does not hold yet. `complaint` says what went wrong; empty: nothing."""
        self._record_written.clear()
        if self._uri == NOWHERE:
            return
        error = self._error_of_sending()
        self.complaint = (
            f"tracking to {self._uri} failed ({error}); the records are safe in {self._folder.path}; send "
            f"them later with `bgbench track {self._folder.path}`"
            if error
            else ""
        )

    def close(self) -> None:
        """End the tracking process, after the sending that it is at if that ends soon."""
        if self._process is not None:
            self._process.close()

    @contextmanager
    def feeding(self) -> Iterator[None]:
        """Inside the block new records are sent from a thread. An error that leaves the block does not wait
        for it."""
        thread = threading.Thread(target=self._feed, daemon=True)
        thread.start()
        try:
            yield
        except BaseException:
            self._over.set()
            raise
        self._over.set()
        thread.join()

    def _feed(self) -> None:
        while not self._over.is_set():
            if self._record_written.is_set():
                started = time.monotonic()
                self.send()
                rest = REST * (10 if self.complaint else 1)
                self._over.wait(max(rest, (BUSY - 1) * (time.monotonic() - started)))
            else:
                self._over.wait(REST / 5)

    def _error_of_sending(self) -> str:
        """Empty if everything new is sent, else what went wrong."""
        if self._process is None:
            try:
                self._process = TrackingProcess(self._folder.path, self._uri)
            except OSError as cause:
                return f"cannot start a process: {cause}"
        error = self._process.send()
        if not self._process.alive:
            self._process.close()
            self._process = None
        return error


class TrackingProcess:
    """A `python -P -m bgbench.runs.tracking FOLDER URI`.

    It does not hear Ctrl-C, and ends when this process does, after the sending that it is at.

    Raises:
        OSError: if it cannot be started.
    """

    def __init__(self, folder: Path, uri: str) -> None:
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 (closed in `close`)
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "bgbench.runs.tracking", str(folder), uri],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            env={**os.environ, "PYTHONPATH": import_path(os.environ.get("PYTHONPATH", ""))},
            start_new_session=True,
        )
        self._requests = cast(IO[bytes], self._process.stdin)
        self._answers = cast(IO[bytes], self._process.stdout)

    @property
    def alive(self) -> bool:
        """Whether it can be asked again."""
        return self._process.poll() is None

    def send(self) -> str:
        """Wait until everything new is sent, at most LIMIT seconds. Empty, or what went wrong."""
        try:
            self._requests.write(b"\n")
            self._requests.flush()
            if not select.select([self._answers], [], [], LIMIT)[0]:
                self._process.kill()
                self._process.wait()
                return f"the tracker did not answer for {LIMIT:g} s and was ended"
            return str(json.loads(self._answers.readline()))
        except (OSError, ValueError):
            code = self._process.wait()
            self._log.seek(0)
            lines = self._log.read().decode(errors="replace").split("\n")
            last = next((line for line in reversed(lines) if line.strip()), "it printed no error")
            return f"its process ended with exit code {code}: {last}"

    def close(self) -> None:
        """End it, at once if what it is at takes longer than PATIENCE."""
        with suppress(OSError):
            self._requests.close()
        try:
            self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._answers.close()
        self._log.close()
