"""A run's tracker, fed while the run goes on. The run folder is the queue: a record is on disk before it is
sent, what could not be sent is sent next time, and what is there already is not sent again."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from bgbench.core.plugins import plugins
from bgbench.runs.runfolder import RunFolder

NOWHERE = "none"
"""The tracking URI of a run that is not to be tracked."""

REST = 5.0
"""Seconds between two sendings, at least; after a failure ten times as many."""

BUSY = 2
"""Sending takes at most one part in so many of a run's time."""


class Mirror:
    """Sends new records now and then from a thread of its own; a tracker that fails costs a notice."""

    def __init__(self, folder: RunFolder, uri: str = "") -> None:
        self._folder = folder
        self._uri = uri or folder.plan.tracking_uri
        self._news = threading.Event()
        self._over = threading.Event()
        self._sent: dict[str, int] = {}
        self.complaint = ""

    def new_record(self) -> None:
        """A record was written."""
        self._news.set()

    def send(self) -> None:
        """Send what the tracker does not hold yet; what goes wrong becomes `complaint`."""
        self._news.clear()
        if self._uri == NOWHERE:
            return
        try:
            plugins().trackers["mlflow"].mirror(self._folder.path, self._uri, self._sent)
        except Exception as error:
            # One record may have got there in part: the tracker is asked again what it holds.
            self._sent.clear()
            self.complaint = (
                f"tracking to {self._uri} failed ({type(error).__name__}: {str(error).splitlines()[0]}); the "
                f"records are safe in {self._folder.path}; send them later with "
                f"`bgbench track {self._folder.path}`"
            )
        else:
            self.complaint = ""

    def _feed(self) -> None:
        while not self._over.is_set():
            if self._news.is_set():
                started = time.monotonic()
                self.send()
                rest = REST * (10 if self.complaint else 1)
                self._over.wait(max(rest, (BUSY - 1) * (time.monotonic() - started)))
            else:
                self._over.wait(REST / 5)

    @contextmanager
    def feeding(self) -> Iterator[None]:
        """Send from a thread inside the block. An error that leaves the block does not wait for it."""
        thread = threading.Thread(target=self._feed, daemon=True)
        thread.start()
        try:
            yield
        except BaseException:
            self._over.set()
            raise
        self._over.set()
        thread.join()
