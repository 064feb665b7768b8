"""Floors and controls of a run, shared by its workers: what was measured for one cell, others read.

They are a reference's, the same for all its cells, and cost several times what judging a cell does. Each is
a file of its own, with the platform that measured it: elsewhere its last digits may differ. `bgbench replay`
reads none of them.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bgbench.core.files import atomic_file, digest
from bgbench.evaluation.floors import known_floors
from bgbench.runs.provenance import provenance

FOLDER = "floors"


@contextmanager
def shared_floors(run: Path) -> Iterator[None]:
    """Inside the block floors of the run folder `run` are known; those measured there are kept afterwards.

    Raises:
        BgbenchError: if they cannot be written.
    """
    known, platform = known_floors(), _platform()
    for path in (run / FOLDER).glob("*.json"):
        told = _read(path)
        if told.get("platform") == platform:
            known.setdefault(tuple(told["key"]), told["values"])
    before = set(known)
    yield
    for key in set(known) - before:
        with atomic_file(run / FOLDER / f"{digest([key, platform])[:20]}.json") as stream:
            told = {"key": key, "platform": platform, "values": known[key]}
            stream.write(json.dumps(told, indent=1).encode())


def _read(path: Path) -> dict[str, Any]:
    """What a file says; {} for a damaged one, whose floors are measured again."""
    try:
        told = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return told if isinstance(told, dict) and {"key", "platform", "values"} <= set(told) else {}


def _platform() -> str:
    """A hash of what may change last digits."""
    here = provenance()
    host = [here["host"][name] for name in ("system", "cpu", "device", "torch_threads")]
    return digest([here["libraries"], here["python"], here["bgbench"], here["git"], host])
