"""A run on disk: plan, records, arrays, figures. The folder can be moved."""

import fcntl
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, SerializerFunctionWrapHandler, ValidationError, model_serializer

from bgbench.core.errors import BgbenchError
from bgbench.core.files import UNFINISHED, Strict, atomic_file, closed_in_children, digest, write_json
from bgbench.evaluation.cell import Cell
from bgbench.evaluation.protocols import get_protocol, protocol_copy
from bgbench.evaluation.suites import load_suite, suite_copy, suite_files
from bgbench.runs.provenance import versions
from bgbench.runs.records import Record
from bgbench.runs.stores import SUFFIX, AbstractStore, Curve, FileStore, FolderStore, write_run_file

LATER = ("protocol_sha256", "code")
"""Fields of `Inputs` that plans of the first version of bgbench do not have."""


class Inputs(Strict):
    """What determines the results besides the cells.

    Hashes of the references by system, of the sampler's weights, of the protocol's file and of the source
    files of all plugins that have a part in the numbers, by package; and `distribution version` of the
    plugins by kind.

    Plans of the first version of bgbench have no hash of protocol and code: what is empty is not known.
    """

    references: dict[str, str] = Field(default_factory=dict)
    weights_sha256: str = ""
    plugins: dict[str, str] = Field(default_factory=dict)
    protocol_sha256: str = ""
    code: dict[str, str] = Field(default_factory=dict)

    @model_serializer(mode="wrap")
    def leave_out_what_is_not_known(self, to_dict: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """The fields but those that are empty since the plan is older than they: files and ids stay as they
        were."""
        return {name: value for name, value in to_dict(self).items() if value or name not in LATER}

    def identity(self) -> dict[str, Any]:
        """What ids are hashes of. Plans that know nothing of protocol and code keep the ids that they had."""
        return self.model_dump()


NO_INPUTS = Inputs()
"""Of plans without hashes: made by hand, or by the first version of bgbench."""


class Plan(Strict):
    """Everything a run will do, written to `run.json` before the first cell starts.

    `id` is a hash of the cells, the inputs and the versions of the libraries. `sources` says where the
    distributions of the plugins were installed from, by kind, see `source_of`.
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
    sources: dict[str, str] = Field(default_factory=dict)

    @model_serializer(mode="wrap")
    def leave_out_what_is_not_known(self, to_dict: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """The fields but `sources` of an older plan, which has none: its file stays as it was."""
        return {name: value for name, value in to_dict(self).items() if value or name != "sources"}

    def record_id(self, cell: Cell, made_with: Mapping[str, str] | None = None) -> str:
        """A hash of what determines a cell's result: the cell, its inputs, the versions that compute it.

        `made_with` are the versions of bgbench and its libraries; those of now by default.
        """
        inputs = {
            **{name: value for name, value in self.inputs.identity().items() if name != "references"},
            "suite": self.suite_sha256,
            "reference": self.inputs.references.get(cell.system, ""),
        }
        computed_by = versions() if made_with is None else dict(made_with)
        return digest({"cell": cell.sha256, "inputs": inputs, "versions": computed_by})

    def expected_id(self, made_with: Mapping[str, str]) -> str:
        """What `id` is, if these versions of bgbench and its libraries made the plan."""
        return plan_id(self.cells, self.suite_sha256, self.inputs, made_with)


def plan_id(cells: Sequence[Cell], suite_sha256: str, inputs: Inputs, made_with: Mapping[str, str]) -> str:
    """A hash of what determines a run: its suite, its inputs, the versions that compute it, its cells."""
    parts = [suite_sha256, inputs.identity(), dict(made_with)]
    return digest([*parts, *(cell.sha256 for cell in cells)])


def new_plan(
    cells: Sequence[Cell], suite_sha256: str, tracking_uri: str = "", inputs: Inputs = NO_INPUTS
) -> Plan:
    """The plan of `cells`, which share sampler, suite, estimator, protocol and budget.

    Args:
        cells: at least one; their order is the order of the records.
        suite_sha256: hash of the suite's file.
        tracking_uri: where records are mirrored.
        inputs: hashes of what the results rest on.
    """
    first = cells[0]
    return Plan(
        id=plan_id(cells, suite_sha256, inputs, versions()),
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
    """A run: its plan and records, and where its arrays and figures are.

    A run folder `path` holds `run.json`, `cells/NAME.json`, `arrays/NAME.npz`, `figures/NAME-*.png`. A run
    kept in one file `path.jsonl` (`bgbench.runs.stores`) is read in the same way, but has no arrays.
    """

    def __init__(self, path: Path, plan: Plan, store: AbstractStore | None = None) -> None:
        self.path = path
        self.plan = plan
        self._store = store or FolderStore(path)

    @classmethod
    def create(
        cls, path: Path, plan: Plan, suite: Path | None = None, protocol: Path | None = None
    ) -> "RunFolder":
        """Start a run in `path`, with copies of its suite and protocol files beside the plan.

        Raises:
            BgbenchError: if the folder holds a run already or cannot be written.
        """
        if (path / "run.json").exists():
            raise BgbenchError(
                f"{path} holds a run already; add --resume to go on with it, or choose another --out"
            )
        copies = {suite_copy(path, plan.suite): suite, protocol_copy(path, plan.protocol): protocol}
        copies |= {path / name: file for name, file in (suite_files(suite) if suite else {}).items()}
        for copy, file in copies.items():
            if file is not None:
                with atomic_file(copy) as stream:
                    stream.write(file.read_bytes())
        write_json(path / "run.json", plan)
        return cls(path, plan)

    @classmethod
    def open(cls, path: Path) -> "RunFolder":
        """Open an existing run.

        Args:
            path: a run folder; or a run in one file, with or without its ending `.jsonl`.

        Raises:
            BgbenchError: if `path` holds no readable run.
        """
        folder = path.with_name(path.name.removesuffix(SUFFIX)) if path.is_file() else path
        file = folder.with_name(f"{folder.name}{SUFFIX}")
        in_one_file = file.is_file() and not (folder / "run.json").exists()
        store = FileStore(file) if in_one_file or path == file else FolderStore(folder)
        try:
            plan = Plan.model_validate(store.read_plan())
        except ValidationError as error:
            raise BgbenchError(f"the plan of {path} is damaged: {error.errors()[0]['msg']}") from error
        return cls(folder, plan, store)

    def record_path(self, cell: Cell) -> Path:
        """The file of a cell's record in a run folder."""
        return FolderStore(self.path).record_path(cell)

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
            raise BgbenchError(f"{damaged[0]}; {self._store.repair}")
        return records

    def readable(self) -> tuple[list[Record], list[str]]:
        """The sound records in the plan's order, and a sentence for each damaged one."""
        return self._store.read_records(self.plan.cells)

    def replace_records(self, records: Sequence[Record]) -> None:
        """Write records over those of the same cells. The curve, which was that of the old ones, is deleted.

        Raises:
            BgbenchError: for a cell that is not in the plan, or if a file cannot be written.
        """
        planned = {cell.name for cell in self.plan.cells}
        strangers = [record.cell.name for record in records if record.cell.name not in planned]
        if strangers:
            raise BgbenchError(f"{strangers[0]} is not a cell of {self.path}")
        self._store.replace_records(records)

    def read_curve(self) -> Curve | None:
        """The stored curve of error against cost; None where none was stored.

        Raises:
            BgbenchError: if it is damaged.
        """
        return self._store.read_curve()

    def write_curve(self, curve: Curve) -> None:
        """Store the curve of error against cost.

        Raises:
            BgbenchError: if it cannot be written.
        """
        self._store.write_curve(curve)

    def keep(self, file: Path) -> None:
        """Write plan, records and curve to one file `NAME.jsonl`, replacing what stood there at once.

        Raises:
            BgbenchError: for a damaged record, for a suite or protocol that is not a registered one (the file
                does not hold them), or if the file cannot be written.
        """
        known = self.plan.inputs.protocol_sha256
        if known and get_protocol(self.plan.protocol).sha256 != known:
            raise BgbenchError(
                f"{self.path} ran another {self.plan.protocol} than the registered one; a run in one file "
                "does not hold its protocol, so keep the folder"
            )
        if load_suite(self.plan.suite).sha256 != self.plan.suite_sha256:
            raise BgbenchError(
                f"{self.path} ran another {self.plan.suite} than the registered one; a run in one file does "
                "not hold its suite, so keep the folder"
            )
        write_run_file(file, self.plan, self.records(), self.read_curve())

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

    A file system without locks keeps nobody off.

    Raises:
        BgbenchError: if another process holds it, or the folder cannot be written.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        stream = (path / ".lock").open("a+")
    except OSError as error:
        raise BgbenchError(f"cannot write {path}: {error.strerror}; choose another folder") from error
    with stream, closed_in_children(stream):
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            stream.seek(0)
            holder = stream.read().strip() or "?"
            raise BgbenchError(f"{path} is in use by process {holder}; wait for it to end") from error
        except OSError:
            pass  # a file system without locks: nobody can be kept off
        os.ftruncate(stream.fileno(), 0)
        with suppress(OSError):
            os.write(stream.fileno(), str(os.getpid()).encode())
        yield
