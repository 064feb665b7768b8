"""Floors and controls of a run on disk, so that they are measured once whichever worker does it.

Each is a file of its own under `RUN/floors`, with the platform that measured it: on another one the last
digits may differ. `bgbench replay` reads none of them.
"""

import json
from pathlib import Path
from typing import Any

from bgbench.core.files import atomic_file, digest
from bgbench.evaluation.floors import FloorKey, Floors, Scores
from bgbench.runs.provenance import provenance

FOLDER = "floors"
"""Where they are in a run folder."""

CONTROL, FLOOR = "control", "floor"
"""What a file's key begins with; `floor 0` … are the ways to halve the replicas."""


def read_floors(run: Path) -> dict[FloorKey, Scores]:
    """What has been measured on this platform for the run folder `run`.

    Damaged files are left out: what they held is measured again.
    """
    floors: dict[FloorKey, Scores] = {}
    platform = hash_platform()
    for path in sorted((run / FOLDER).glob("*.json")):
        try:
            content = json.loads(path.read_bytes())
            if content["platform"] == platform:
                floors[_parse_key(content["key"])] = content["values"]
        except (OSError, ValueError, TypeError, KeyError):
            continue
    return floors


def write_floors(run: Path, floors: Floors) -> None:
    """Save what the run folder `run` does not hold yet.

    Raises:
        BgbenchError: if a file cannot be written.
    """
    saved, platform = read_floors(run), hash_platform()
    for key, values in floors.scores.items():
        if key in saved or not key.reference_sha256:
            continue
        fields = _list_key(key)
        with atomic_file(run / FOLDER / f"{digest([fields, platform])[:20]}.json") as stream:
            content = {"key": fields, "platform": platform, "values": dict(values)}
            stream.write(json.dumps(content, indent=1).encode())


def hash_platform() -> str:
    """A hash of what may change last digits: libraries, code and processor."""
    here = provenance()
    host = [here["host"][name] for name in ("system", "cpu", "torch_threads")]
    return digest([here["libraries"], here["python"], here["bgbench"], here["git"], host])


def _list_key(key: FloorKey) -> list[Any]:
    name = CONTROL if key.split is None else f"{FLOOR} {key.split}"
    return [name, key.protocol, key.reference_sha256, key.frames, key.effective_frames]


def _parse_key(fields: list[Any]) -> FloorKey:
    name, protocol, reference, frames, effective = fields
    split = None if name == CONTROL else int(name.removeprefix(f"{FLOOR} "))
    return FloorKey(split, protocol, reference, frames, effective)
