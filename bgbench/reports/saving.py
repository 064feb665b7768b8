"""Figures as files: PNG, or SVG and PDF for papers, by the ending of the file's name."""

from pathlib import Path
from typing import Literal, get_args

import matplotlib
from matplotlib.figure import Figure

from bgbench.core.errors import BgbenchError
from bgbench.core.files import atomic_file

Format = Literal["png", "svg", "pdf"]
"""What figures can be saved as."""

DOTS = 120
"""Pixels an inch of PNG figures, and of maps inside the others."""

UNDATED = {"svg": {"Date": None}, "pdf": {"CreationDate": None}, "png": {}}
"""No date is written, so that the same figure is the same file."""


def format_of(path: Path) -> Format:
    """The format of a figure, by the ending of its file.

    Raises:
        BgbenchError: for another ending.

    >>> format_of(Path("curves.svg"))
    'svg'
    """
    for known in get_args(Format):
        if path.suffix == f".{known}":
            return known
    endings = ", ".join(f".{known}" for known in get_args(Format))
    raise BgbenchError(f"{path} cannot be a figure: its ending must be one of {endings}")


def save_figure(figure: Figure, path: Path) -> Path:
    """Write a figure, atomically, in the format of its file's ending.

    Raises:
        BgbenchError: for another ending, or if the file cannot be written.
    """
    format = format_of(path)
    with atomic_file(path) as stream, matplotlib.rc_context({"svg.hashsalt": "bgbench"}):
        figure.savefig(stream, dpi=DOTS, format=format, metadata=UNDATED[format])
    return path
