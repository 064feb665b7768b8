"""Standard output is for what a command prints, so that a table or JSON in a file holds nothing else."""

import io
import os
import sys
from typing import Any


class Pipe(io.FileIO):
    """A file that drops what is written once nobody reads it any more."""

    def write(self, data: Any, /) -> int:
        """Write, or drop, bytes; returns how many.

        Raises:
            OSError: for any other error, as of a full disk.
        """
        try:
            return super().write(data)
        except BrokenPipeError:
            return len(data)


def reserve_stdout() -> None:
    """Give `sys.stdout` a descriptor of its own; descriptor 1 becomes standard error.

    Compiled libraries write to descriptor 1. On a terminal, where both are read by one person, nothing is
    changed, nor where there is no standard output.

    A reader of a pipe who leaves, as `head` does, changes nothing about the command and its exit code: what
    is printed from then on is dropped.
    """
    if isinstance(sys.stderr, io.TextIOWrapper) and not sys.stderr.isatty():
        sys.stderr = _pipe(sys.stderr)
    stream = sys.stdout
    if not isinstance(stream, io.TextIOWrapper) or stream.isatty():
        return
    sys.stdout = _pipe(stream)
    if sys.stderr is None:
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), stream.fileno())
    else:
        os.dup2(sys.stderr.fileno(), stream.fileno())


def _pipe(stream: io.TextIOWrapper) -> io.TextIOWrapper:
    """A stream like this one to the same place, by a descriptor of its own, that is a `Pipe`."""
    stream.flush()
    return io.TextIOWrapper(
        io.BufferedWriter(Pipe(os.dup(stream.fileno()), "wb")),
        encoding=stream.encoding,
        errors=stream.errors,
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )
