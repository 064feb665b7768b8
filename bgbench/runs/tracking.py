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
from dataclasses import asdict, dataclass
from pathlib import Path

from bgbench.core.errors import BgbenchError, text_of
from bgbench.core.files import closed_in_children
from bgbench.core.hookspecs import TrackerPlugin
from bgbench.core.options import describe_known
from bgbench.core.plugins import plugins

FOLDERS = "mlflow"
"""The tracker of URIs without a scheme, which are folders."""

NOTHING = ("", "none", "no", "off", "false", "null", "nothing", "never")
"""Words that mean `none` and are no folders."""


LONGEST = 400
"""Characters of an answer, at most."""


def main(folder: str, uri: str) -> None:
    """Answer each line of standard input with an `Answer` as JSON: the error is empty if everything is sent.

    Trackers find an empty standard input, and what they print is no answer.
    """
    with (
        os.fdopen(os.dup(sys.stdin.fileno())) as requests,
        os.fdopen(os.dup(sys.stdout.fileno()), "w", buffering=1) as answers,
        open(os.devnull) as nothing,
    ):
        os.dup2(nothing.fileno(), sys.stdin.fileno())
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
        sent: dict[str, int] = {}
        for _ in requests:
            answers.write(json.dumps(asdict(send_new(Path(folder), uri, sent))) + "\n")


@dataclass(frozen=True)
class Answer:
    """How a sending ended: an error, empty if it went well, and a sentence that the user should read."""

    error: str = ""
    notice: str = ""


def send_new(folder: Path, uri: str, sent: dict[str, int]) -> Answer:
    """Send what is new. After an error the tracker is asked again what it holds, since one record may have
    arrived in part."""
    try:
        with one_at_a_time(folder):
            return Answer(notice=short(str(tracker_for(uri).mirror(folder, uri, sent) or "")))
    except BgbenchError as error:
        sent.clear()
        return Answer(short(str(error)))
    except Exception as error:
        sent.clear()
        text = short(next(iter(text_of(error).splitlines()), ""))
        return Answer(f"{type(error).__name__}: {text}" if text else type(error).__name__)


def short(text: str) -> str:
    """A text as a part of one sentence: on one line, and no longer than that. Servers answer with pages.

    >>> short("two\\nlines"), len(short("x" * 9_000))
    ('two lines', 400)
    """
    line = " ".join(text.split())
    return line if len(line) <= LONGEST else f"{line[: LONGEST - 2]} …"


def tracker_for(uri: str) -> TrackerPlugin:
    """The tracker of a URI's scheme: `mine://…` goes to a tracker `mine`, or to one that names the scheme.

    Raises:
        BgbenchError: for a scheme that no tracker has, naming the known ones, and for another word for none,
            which would be a folder.

    >>> tracker_for("sqlite:///runs/mlflow.db").name
    'mlflow'
    """
    trackers = plugins().trackers
    word, colon, _ = uri.partition(":")
    scheme = word.partition("+")[0]
    if uri.strip().lower() in NOTHING:
        raise BgbenchError(
            f"--tracking-uri '{uri}': write none to mirror nothing, or ./{uri.strip()} for a folder called so"
        )
    if not colon:
        return trackers[FOLDERS]
    schemes = {known: name for name in trackers for known in (name, *trackers[name].schemes)}
    if scheme not in schemes:
        end = describe_known(f"{scheme}:", [f"{known}:" for known in sorted(schemes)], "known schemes")
        raise BgbenchError(f"no tracker for {uri}{end} (see `bgbench list trackers`), or none")
    return trackers[schemes[scheme]]


@contextmanager
def one_at_a_time(folder: Path) -> Iterator[None]:
    """Two processes that mirror one run at the same time would send its records twice: one of them waits."""
    with (folder / "run.json").open("rb") as stream, closed_in_children(stream):
        with suppress(OSError):  # a file system without locks
            fcntl.flock(stream, fcntl.LOCK_EX)
        yield


if __name__ == "__main__":
    main(*sys.argv[1:])
