"""A run on disk: plan, records, arrays, figures. It can be moved, and holds no absolute path."""

import fcntl
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError

from bgbench.errors import BgbenchError
from bgbench.records import Cell, Record, Strict, digest, read_record, write_json


class Plan(Strict):
    """Everything a run will do; written before the first cell starts."""

    schema_version: Literal[1] = 1
    id: str
    sampler: str
    suite: str
    suite_sha256: str
    estimator: str
    protocol: str
    budget: int = Field(ge=1)
    cells: list[Cell]
    created: str
    tracking_uri: str = ""


def new_plan(cells: Sequence[Cell], suite_sha256: str, tracking_uri: str = "") -> Plan:
    """The plan of `cells`, which share sampler, suite, estimator, protocol and budget."""
    first = cells[0]
    return Plan(
        id=digest([suite_sha256, *(cell.sha256 for cell in cells)]),
        sampler=first.sampler,
        suite=first.suite,
        suite_sha256=suite_sha256,
        estimator=first.estimator,
        protocol=first.protocol,
        budget=first.budget,
        cells=list(cells),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        tracking_uri=tracking_uri,
    )


class RunFolder:
    """`run.json`, `cells/NAME.json`, `arrays/NAME.npz`, `figures/NAME-*.png` under one folder."""

    def __init__(self, path: Path, plan: Plan) -> None:
        self.path = path
        self.plan = plan

    @classmethod
    def create(cls, path: Path, plan: Plan) -> "RunFolder":
        """Start a run in `path`.

        Raises:
            BgbenchError: if the folder holds a run already or cannot be written.
        """
        if (path / "run.json").exists():
            raise BgbenchError(f"{path} holds a run already; add --resume to go on, or choose another --out")
        write_json(path / "run.json", plan)
        return cls(path, plan)

    @classmethod
    def open(cls, path: Path) -> "RunFolder":
        """Open an existing run.

        Raises:
            BgbenchError: if `path` holds no readable run.
        """
        try:
            plan = Plan.model_validate_json((path / "run.json").read_bytes())
        except OSError as error:
            raise BgbenchError(f"{path} holds no run (no readable run.json): {error.strerror}") from error
        except ValidationError as error:
            raise BgbenchError(f"{path / 'run.json'} is damaged: {error.errors()[0]['msg']}") from error
        return cls(path, plan)

    def record_path(self, cell: Cell) -> Path:
        return self.path / "cells" / f"{cell.name}.json"

    def arrays_path(self, cell: Cell) -> Path:
        return self.path / "arrays" / f"{cell.name}.npz"

    def figure_path(self, cell: Cell, kind: str) -> Path:
        return self.path / "figures" / f"{cell.name}-{kind}.png"

    def records(self) -> list[Record]:
        """The records written so far, in the plan's order."""
        paths = [self.record_path(cell) for cell in self.plan.cells]
        return [read_record(path) for path in paths if path.exists()]

    def missing(self, *, retry_failed: bool = False) -> list[Cell]:
        """Cells of the plan without a record; with `retry_failed`, those that failed too."""
        done = {record.cell.name for record in self.records() if record.status == "ok" or not retry_failed}
        return [cell for cell in self.plan.cells if cell.name not in done]

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Keep a second process off this run. The system drops the lock when a process dies.

        Raises:
            BgbenchError: if another process holds it.
        """
        with (self.path / ".lock").open("a+") as stream:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                stream.seek(0)
                raise BgbenchError(
                    f"{self.path} is in use by process {stream.read().strip() or '?'}; wait for it to end"
                ) from error
            stream.truncate(0)
            stream.write(str(os.getpid()))
            stream.flush()
            yield
