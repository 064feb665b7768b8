"""A run on disk: plan, records, arrays, figures. The folder can be moved."""

import fcntl
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError

from bgbench.core.errors import BgbenchError
from bgbench.core.files import UNFINISHED, Strict, atomic_file, digest, write_json
from bgbench.evaluation.cell import Cell
from bgbench.runs.provenance import versions
from bgbench.runs.records import Record, read_record


class Inputs(Strict):
    """What determines the results besides the cells.

    Hashes of the references by system and of the sampler's weights, and `distribution version` of the
    plugins by kind.
    """

    references: dict[str, str] = Field(default_factory=dict)
    weights_sha256: str = ""
    plugins: dict[str, str] = Field(default_factory=dict)


NO_INPUTS = Inputs()
"""Of plans without hashes: made by hand, or by the first version of bgbench."""


class Plan(Strict):
    """Everything a run will do, written to `run.json` before the first cell starts.

    `id` is a hash of the cells, the inputs and the versions of the libraries.
    """

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
    inputs: Inputs = NO_INPUTS

    def record_id(self, cell: Cell) -> str:
        """A hash of what determines a cell's result: the cell, its inputs, the versions of the libraries."""
        inputs = {
            **self.inputs.model_dump(exclude={"references"}),
            "suite": self.suite_sha256,
            "reference": self.inputs.references.get(cell.system, ""),
        }
        return digest({"cell": cell.sha256, "inputs": inputs, "versions": versions()})


def new_plan(
    cells: Sequence[Cell], suite_sha256: str, tracking_uri: str = "", inputs: Inputs = NO_INPUTS
) -> Plan:
    """The plan of `cells`, which share sampler, suite, estimator, protocol and budget.

    Arguments:
        cells: at least one; their order is the order of the records.
        suite_sha256: hash of the suite's file.
        tracking_uri: where records are mirrored.
        inputs: hashes of what the results rest on.
    """
    first = cells[0]
    return Plan(
        id=digest([suite_sha256, inputs.model_dump(), versions(), *(cell.sha256 for cell in cells)]),
        sampler=first.sampler,
        suite=first.suite,
        suite_sha256=suite_sha256,
        estimator=first.estimator,
        protocol=first.protocol,
        budget=first.budget,
        cells=list(cells),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        tracking_uri=tracking_uri,
        inputs=inputs,
    )


class RunFolder:
    """A folder with `run.json`, `cells/NAME.json`, `arrays/NAME.npz` and `figures/NAME-*.png`."""

    def __init__(self, path: Path, plan: Plan) -> None:
        self.path = path
        self.plan = plan

    @classmethod
    def create(cls, path: Path, plan: Plan, suite: Path | None = None) -> "RunFolder":
        """Start a run in `path`, with a copy of its suite file beside the plan.

        Raises:
            BgbenchError: if the folder holds a run already or cannot be written.
        """
        if (path / "run.json").exists():
            raise BgbenchError(
                f"{path} holds a run already; add --resume to go on with it, or choose another --out"
            )
        if suite is not None:
            with atomic_file(path / f"{plan.suite}.yaml") as stream:
                stream.write(suite.read_bytes())
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

    def traceback_path(self, cell: Cell) -> Path:
        return self.path / "cells" / f"{cell.name}.traceback.txt"

    def arrays_path(self, cell: Cell) -> Path:
        return self.path / "arrays" / f"{cell.name}.npz"

    def figure_path(self, cell: Cell, kind: str) -> Path:
        return self.path / "figures" / f"{cell.name}-{kind}.png"

    def records(self) -> list[Record]:
        """The records written so far, in the plan's order.

        Raises:
            BgbenchError: for a damaged one.
        """
        records, damaged = self.readable()
        if damaged:
            raise BgbenchError(f"{damaged[0]}; --resume runs its cell again")
        return records

    def readable(self) -> tuple[list[Record], list[str]]:
        """The valid records in the plan's order, and a sentence for each damaged one."""
        records, damaged = list[Record](), list[str]()
        for cell in self.plan.cells:
            path = self.record_path(cell)
            if path.exists():
                try:
                    records.append(read_record(path))
                except BgbenchError as error:
                    damaged.append(str(error))
        return records, damaged

    def missing(self, *, retry_failed: bool = False) -> list[Cell]:
        """Cells of the plan without a valid record; with `retry_failed`, those that failed too."""
        records, _ = self.readable()
        done = {record.cell.name for record in records if record.status == "ok" or not retry_failed}
        return [cell for cell in self.plan.cells if cell.name not in done]

    def sweep(self) -> None:
        """Remove files that a crash left half-written; only the holder of the lock may call this."""
        for part in [*self.path.glob(f".*{UNFINISHED}"), *self.path.glob(f"*/.*{UNFINISHED}")]:
            part.unlink(missing_ok=True)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Keep other processes off the run folder `path`. The system drops the lock when this process dies.

    Raises:
        BgbenchError: if another process holds it, or the folder cannot be written.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        stream = (path / ".lock").open("a+")
    except OSError as error:
        raise BgbenchError(f"cannot write {path}: {error.strerror}; choose another folder") from error
    with stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            stream.seek(0)
            holder = stream.read().strip() or "?"
            raise BgbenchError(f"{path} is in use by process {holder}; wait for it to end") from error
        os.ftruncate(stream.fileno(), 0)
        with suppress(OSError):
            os.write(stream.fileno(), str(os.getpid()).encode())
        yield
