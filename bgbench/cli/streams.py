"""Standard output is for what a command prints, so that a table or JSON in a file holds nothing else."""

import io
import os
import sys


def reserve_stdout() -> None:
    """Give `sys.stdout` a descriptor of its own; descriptor 1 becomes standard error.

    Compiled libraries write to descriptor 1. On a terminal, where both are read by one person, nothing is
    changed, nor where there is no standard output.
    """
    stream = sys.stdout
    if not isinstance(stream, io.TextIOWrapper) or stream.isatty():
        return
    stream.flush()
    own = os.fdopen(os.dup(stream.fileno()), "wb")
    if sys.stderr is None:
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), stream.fileno())
    else:
        os.dup2(sys.stderr.fileno(), stream.fileno())
    sys.stdout = io.TextIOWrapper(
        own,
        encoding=stream.encoding,
        errors=stream.errors,
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )
