"""Where a run's plan, records and curve are: in files below a folder, or all in one file.

A run that goes on needs a folder: each worker writes the record of its cell as a file of its own. A finished
run that is kept in a repository is one file `NAME.jsonl`, whose lines are JSON: first the plan and the curve
of error against cost, then one record a line in the plan's order. It holds neither arrays nor figures.
"""

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from bgbench.core.errors import BgbenchError
from bgbench.core.files import Strict, atomic_file, write_json
from bgbench.evaluation.cell import Cell
from bgbench.runs.records import Record, parse_record, read_record

SUFFIX = ".jsonl"
"""Ending of a run in one file."""


class CurvePoint(Strict):
    """Means over the cells of a run after so many evaluations: seconds, metrics and their noise floors."""

    model_config = ConfigDict(strict=True, allow_inf_nan=False)
    evaluations: int = Field(ge=1)
    seconds: float = Field(ge=0.0)
    metrics: dict[str, float]
    floors: dict[str, float]


class Curve(Strict):
    """Error against cost of a run. `records`: ids of the records that the means are over."""

    model_config = ConfigDict(strict=True, allow_inf_nan=False)
    records: list[str]
    points: list[CurvePoint]


class Head(Strict):
    """The first line of a run in one file."""

    schema_version: Literal[1] = 1
    plan: dict[str, Any]
    curve: Curve | None = None


class AbstractStore(ABC):
    """Reads and writes what is kept of one run."""

    repair: str
    """What to do about a damaged record."""

    @abstractmethod
    def read_plan(self) -> Mapping[str, Any]:
        """The fields of the plan.

        Raises:
            BgbenchError: if there is no run, or its plan cannot be parsed.
        """

    @abstractmethod
    def read_records(self, cells: Sequence[Cell]) -> tuple[list[Record], list[str]]:
        """The sound records of `cells` in their order, and a sentence for each damaged one."""

    @abstractmethod
    def replace_records(self, records: Sequence[Record]) -> None:
        """Write records over those of the same cells; the curve, which was that of the old ones, is deleted.

        Raises:
            BgbenchError: if a file cannot be written.
        """

    @abstractmethod
    def read_curve(self) -> Curve | None:
        """The stored curve; None where none was stored.

        Raises:
            BgbenchError: if it is damaged.
        """

    @abstractmethod
    def write_curve(self, curve: Curve) -> None:
        """Store the curve.

        Raises:
            BgbenchError: if it cannot be written.
        """


class FolderStore(AbstractStore):
    """`run.json`, `curve.json` and `cells/NAME.json` below a folder."""

    repair = "--resume runs its cell again"

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def record_path(self, cell: Cell) -> Path:
        """The file of a cell's record."""
        return self._folder / "cells" / f"{cell.name}.json"

    def read_plan(self) -> Mapping[str, Any]:
        path = self._folder / "run.json"
        try:
            fields = json.loads(path.read_bytes())
        except OSError as error:
            raise BgbenchError(
                f"{self._folder} holds no run (no readable run.json): {error.strerror}"
            ) from error
        except ValueError as error:
            raise BgbenchError(f"{path} is damaged: {error}") from error
        if not isinstance(fields, dict):
            raise BgbenchError(f"{path} is damaged: it is not a JSON object")
        return fields

    def read_records(self, cells: Sequence[Cell]) -> tuple[list[Record], list[str]]:
        records, damaged = [], []
        for cell in cells:
            path = self.record_path(cell)
            if path.exists():
                try:
                    records.append(read_record(path))
                except BgbenchError as error:
                    damaged.append(str(error))
        return records, damaged

    def replace_records(self, records: Sequence[Record]) -> None:
        self._curve_path.unlink(missing_ok=True)
        for record in records:
            write_json(self.record_path(record.cell), record)

    def read_curve(self) -> Curve | None:
        try:
            return Curve.model_validate_json(self._curve_path.read_bytes())
        except FileNotFoundError:
            return None
        except (OSError, ValidationError) as error:
            raise BgbenchError(
                f"{self._curve_path} is damaged ({first_fault(error)}); delete it, and it is computed again "
                "from the stored arrays"
            ) from error

    def write_curve(self, curve: Curve) -> None:
        write_json(self._curve_path, curve)

    @property
    def _curve_path(self) -> Path:
        return self._folder / "curve.json"


class FileStore(AbstractStore):
    """A run in one file of JSON lines. Each change replaces the whole file at once."""

    repair = "get the file again from where it is kept, as with `git checkout`"

    def __init__(self, file: Path) -> None:
        self._file = file

    def read_plan(self) -> Mapping[str, Any]:
        return self._head().plan

    def read_records(self, cells: Sequence[Cell]) -> tuple[list[Record], list[str]]:
        planned = {cell.name for cell in cells}
        records, damaged = dict[str, Record](), []
        for number, line in enumerate(self._lines()[1:], 2):
            try:
                record = parse_record(line, f"line {number} of {self._file}")
            except BgbenchError as error:
                damaged.append(str(error))
                continue
            name = record.cell.name
            if name not in planned or name in records:
                reason = "is there twice" if name in records else "is not in the plan"
                damaged.append(f"line {number} of {self._file} is the record of {name}, which {reason}")
            else:
                records[name] = record
        return [records[cell.name] for cell in cells if cell.name in records], damaged

    def replace_records(self, records: Sequence[Record]) -> None:
        cells = [Cell.model_validate(cell) for cell in self.read_plan()["cells"]]
        present, damaged = self.read_records(cells)
        if damaged:
            raise BgbenchError(f"{damaged[0]}; {self.repair}")
        by_name = {record.cell.name: record for record in [*present, *records]}
        ordered = [by_name[cell.name] for cell in cells if cell.name in by_name]
        _write_lines(self._file, Head(plan=dict(self.read_plan())), ordered)

    def read_curve(self) -> Curve | None:
        return self._head().curve

    def write_curve(self, curve: Curve) -> None:
        head, lines = self._head(), self._lines()[1:]
        with atomic_file(self._file) as stream:
            stream.writelines(
                line + b"\n" for line in [_json_line(head.model_copy(update={"curve": curve})), *lines]
            )

    def _lines(self) -> list[bytes]:
        try:
            return self._file.read_bytes().splitlines()
        except OSError as error:
            raise BgbenchError(f"{self._file} holds no run: {error.strerror}") from error

    def _head(self) -> Head:
        lines = self._lines()
        try:
            return Head.model_validate_json(lines[0] if lines else b"")
        except ValidationError as error:
            raise BgbenchError(
                f"the first line of {self._file} is damaged: {first_fault(error)}; {self.repair}"
            ) from error


def write_run_file(
    file: Path, plan: BaseModel, records: Sequence[Record], curve: Curve | None = None
) -> None:
    """Write a run in one file, atomically: what stood there before stays until the new file is whole.

    Args:
        file: where, ending in `.jsonl`.
        plan: of the run.
        records: of its cells, in the plan's order.
        curve: of error against cost, where it is known.

    Raises:
        BgbenchError: if the file cannot be written, or its name does not end in `.jsonl`.
    """
    if file.suffix != SUFFIX:
        raise BgbenchError(f"{file} is not named like a run in one file; let its name end in {SUFFIX}")
    _write_lines(file, Head(plan=plan.model_dump(mode="json"), curve=curve), records)


def _write_lines(file: Path, head: Head, records: Sequence[Record]) -> None:
    with atomic_file(file) as stream:
        stream.writelines(_json_line(model) + b"\n" for model in (head, *records))


def _json_line(model: BaseModel) -> bytes:
    return model.model_dump_json().encode()


def first_fault(error: Exception) -> str:
    """The first thing wrong with a file, and where in it."""
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        return f"{'.'.join(str(part) for part in first['loc']) or 'file'}: {first['msg']}"
    return str(error).splitlines()[0]
