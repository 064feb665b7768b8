"""Mirrors a run to its tracker while the run goes on.

The run folder is the queue: a record is on disk before it is sent, what could not be sent is sent next time,
and what the tracker holds already is not sent again. Trackers work in a process of their own
(`bgbench.runs.tracking`), so that what they change about a process, they do not change here.
"""

import json
import math
import os
import select
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, cast

from bgbench.runs.databases import file_of, own_store
from bgbench.runs.runfolder import RunFolder
from bgbench.runs.subprocesses import import_path
from bgbench.runs.tracking import Answer, short

NOWHERE = "none"
"""The tracking URI of a run that is not tracked."""

REST = 5.0
"""Seconds between two sendings, at least; after a failure ten times as many."""

BUSY = 2
"""Sending takes at most one part in so many of a run's time."""

PATIENCE = 3.0
"""Seconds that a sending may go on after the run was interrupted: the record that is being sent arrives."""

LIMIT = 600.0
"""Seconds that one sending may take. What arrived until then is not sent again."""

LAST = 20.0
"""Seconds that a run waits for its tracker after its last record, whatever the tracker does."""

LAST_OF_FILES = 60.0
"""The same for a store in files of this machine, which takes long only where the machine is busy."""

POLL = 0.1
"""Seconds between two looks at whether a sending has passed its limit."""


class Mirror:
    """Sends the records of a run to a tracker. If that fails there is a complaint, and the run goes on.

    Args:
        folder: the run.
        uri: where to; default: the tracking URI of the plan.
    """

    def __init__(self, folder: RunFolder, uri: str = "") -> None:
        self._folder = folder
        self._uri = uri or tracking_uri_of(folder)
        self._record_written = threading.Event()
        self._over = threading.Event()
        self._process: TrackingProcess | None = None
        self._deadline = math.inf
        self.complaint = ""
        self.notices: list[str] = []

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

    def send_last(self) -> None:
        """Send what is left after the last record. A run ends `LAST` seconds after that at the latest."""
        self._last_record_is_there()
        self.send()

    def close(self) -> None:
        """End the tracking process, after the sending that it is at if that ends soon."""
        if self._process is not None:
            self._process.close()

    @contextmanager
    def feeding(self) -> Iterator[None]:
        """Inside the block new records are sent from a thread, which makes the store before the first one is
        there. An error that leaves the block does not wait for it."""
        self._record_written.set()
        thread = threading.Thread(target=self._feed, daemon=True)
        thread.start()
        try:
            yield
        except BaseException:
            self._over.set()
            raise
        self._over.set()
        self._last_record_is_there()
        thread.join()

    def _last_record_is_there(self) -> None:
        self._deadline = min(self._deadline, time.monotonic() + patience_with(self._uri))

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
        if time.monotonic() > self._deadline:
            return LATE
        if self._process is None:
            try:
                self._process = TrackingProcess(self._folder.path, self._uri)
            except OSError as cause:
                return f"cannot start a process: {cause}"
        answer = self._process.send(lambda: self._deadline)
        if answer.notice:
            self.notices.append(answer.notice)
        if not self._process.alive:
            self._process.close()
            self._process = None
        return answer.error


def patience_with(uri: str) -> float:
    """Seconds that a run waits for the tracker of `uri` after its last record.

    >>> patience_with("sqlite:///a/mlflow.db"), patience_with("http://localhost:5000")
    (60.0, 20.0)
    """
    return LAST_OF_FILES if file_of(uri) is not None else LAST


LATE = "it was not done long after the last record, and was ended"
"""The error of a sending that was ended since the run is over."""


def tracking_uri_of(folder: RunFolder) -> str:
    """Where a run is tracked: at the URI of its plan, else in a store of its own, which moves with it."""
    return folder.plan.tracking_uri or own_store(folder.path)


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

    def send(self, deadline: Callable[[], float]) -> Answer:
        """Wait until everything new is sent, at most LIMIT seconds, and until `deadline()`, which may change.

        Returns:
            What the process answers, or what went wrong with it.
        """
        limit = time.monotonic() + LIMIT
        try:
            self._requests.write(b"\n")
            self._requests.flush()
            while not select.select([self._answers], [], [], POLL)[0]:
                now = time.monotonic()
                if now > min(limit, deadline()):
                    self._process.kill()
                    self._process.wait()
                    silent = f"the tracker did not answer for {LIMIT:g} s and was ended"
                    return Answer(silent if now > limit else LATE)
            return Answer(**json.loads(self._answers.readline()))
        except (OSError, ValueError, TypeError):
            code = self._process.wait()
            try:
                self._log.seek(0)
                lines = self._log.read().decode(errors="replace").split("\n")
            except ValueError:  # another thread has called `close` meanwhile
                return Answer(LATE)
            last = next((line for line in reversed(lines) if line.strip()), "it printed no error")
            return Answer(f"its process ended with exit code {code}: {short(last)}")

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
