"""The tracking process: sends what is new in a run folder to its tracker whenever a line arrives.

Trackers change the process they run in: MLflow reads its settings from environment variables, sets log
levels, and prints. Here they can, since nothing else runs here.
"""

import fcntl
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from bgbench.core.errors import BgbenchError
from bgbench.core.hookspecs import TrackerPlugin
from bgbench.core.plugins import plugins

DEFAULT_TRACKER = "mlflow"
"""For all URIs whose scheme is not the name of a tracker: `sqlite:`, `http:`, `https:`, `file:`."""


def main(folder: str, uri: str) -> None:
    """Answer each line of standard input with an error as JSON, empty if everything is sent."""
    with os.fdopen(os.dup(sys.stdout.fileno()), "w", buffering=1) as answers:
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what a tracker prints is no answer
        sent: dict[str, int] = {}
        for _ in sys.stdin:
            answers.write(json.dumps(error_of_sending(Path(folder), uri, sent)) + "\n")


def error_of_sending(folder: Path, uri: str, sent: dict[str, int]) -> str:
    """Send what is new; empty if that went well. After an error the tracker is asked again what it holds,
    since one record may have arrived in part."""
    try:
        with one_at_a_time(folder):
            tracker_for(uri).mirror(folder, uri, sent)
    except BgbenchError as error:
        sent.clear()
        return str(error)
    except Exception as error:
        sent.clear()
        return f"{type(error).__name__}: {next(iter(str(error).splitlines()), '')}"
    return ""


def tracker_for(uri: str) -> TrackerPlugin:
    """The tracker with the name of the scheme of `uri`, else MLflow: `mine://…` goes to a tracker `mine`."""
    trackers = plugins().trackers
    scheme = uri.partition(":")[0]
    return trackers[scheme if scheme in trackers else DEFAULT_TRACKER]


@contextmanager
def one_at_a_time(folder: Path) -> Iterator[None]:
    """Two processes that mirror one run at the same time would send its records twice: one of them waits."""
    with (folder / "run.json").open("rb") as stream:
        with suppress(OSError):  # a file system without locks
            fcntl.flock(stream, fcntl.LOCK_EX)
        yield


if __name__ == "__main__":
    main(*sys.argv[1:])
