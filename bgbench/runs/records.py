"""The record of one cell: its schema, its provenance, its atomic write.

A cell is (sampler, estimator, protocol, suite, system, budget, seed). It ends in one JSON file and one
array file; the JSON holds the hash of the arrays.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import ValidationError, field_validator
from torch import Tensor

from bgbench.core.abstract import Estimate
from bgbench.core.errors import BgbenchError
from bgbench.core.files import Strict, atomic_file, finite_or_none, plain, sha256_file
from bgbench.core.shapes import EstimateShape
from bgbench.evaluation.cell import Cell
from bgbench.runs.shapes import (
    CardShape,
    DiagnosticsShape,
    EnergyShape,
    ProvenanceShape,
    ReferenceShape,
    shaped,
)

Status = Literal["ok", "budget_exhausted", "nonfinite", "timeout", "out_of_memory", "crash", "unsupported"]


class Budget(Strict):
    """Evaluations allowed and used, the ledger by phase and kind, and what was not finite."""

    limit: int
    used: int
    nonfinite: int = 0
    ledger: dict[str, dict[str, dict[str, float]]] = {}


class Ending(Strict):
    """How a cell ended that its worker watched: status, cause, and the stage it was in."""

    status: Status
    error: str = ""
    phase: str = ""


class Arrays(Strict):
    """The array file beside the record."""

    file: str
    sha256: str


class Record(Strict):
    """One cell's outcome. Metrics that do not exist are None, never NaN."""

    schema_version: Literal[1] = 1
    id: str
    cell: Cell
    status: Status
    error: str = ""
    phase: str = ""
    metrics: dict[str, float | None] = {}
    floors: dict[str, float | None] = {}
    skills: dict[str, float | None] = {}
    diagnostics: Annotated[dict[str, Any], shaped(EstimateShape), shaped(DiagnosticsShape)] = {}
    budget: Budget
    reference: Annotated[dict[str, Any], shaped(ReferenceShape)] = {}
    card: Annotated[dict[str, Any], shaped(CardShape)] = {}
    energy: Annotated[dict[str, Any], shaped(EnergyShape)] = {}
    leakage: Literal["unseen", "similar", "seen", "unknown"] = "unknown"
    seconds: dict[str, float] = {}
    provenance: Annotated[dict[str, Any], shaped(ProvenanceShape)] = {}
    arrays: Arrays | None = None

    @property
    def exact(self) -> bool:
        """False where log q was an estimate: its weights are biased, and share no table with exact ones."""
        return "exact" not in self.diagnostics.get("density", {}).get("checks", {})

    @field_validator("metrics", "floors", "skills", mode="before")
    @classmethod
    def _no_nan(cls, values: Any) -> Any:
        if not isinstance(values, Mapping):
            return values
        return {name: finite_or_none(v) if isinstance(v, float) else v for name, v in values.items()}

    @field_validator("diagnostics", mode="before")
    @classmethod
    def _plain_diagnostics(cls, values: Any) -> Any:
        return plain(values) if isinstance(values, Mapping) else values


def write_arrays(path: Path, estimate: Estimate) -> Arrays:
    """Write the arrays of an estimate, compressed, atomically.

    Positions (nm, float32), u, log_w, log_q of the proposal and the points' `group (n,)` where there are any.
    Of an estimate that was thinned, u, log_w and log_q are those of every draw, and `at (k,)` says which of
    them the positions are of; `faults (n,)` says what is wrong with each (`bgbench.systems.faults`).
    """
    ensemble, draws = estimate.ensemble, estimate.draws
    log_q = estimate.proposal.log_q if draws is None else draws.log_q
    tensors: dict[str, tuple[Tensor | None, type]] = {
        "x": (ensemble.x, np.float32),
        "u": ((ensemble if draws is None else draws).u, np.float64),
        "log_w": ((ensemble if draws is None else draws).log_w, np.float64),
        "log_q": (log_q, np.float64),
        "group": (estimate.group, np.int32),
        "at": (None if draws is None else draws.at, np.int32),
        "faults": (None if draws is None else draws.faults, np.uint8),
    }
    arrays: dict[str, np.ndarray] = {
        name: tensor.detach().cpu().numpy().astype(kind)
        for name, (tensor, kind) in tensors.items()
        if tensor is not None
    }
    with atomic_file(path) as stream:
        np.savez_compressed(stream, **arrays)  # type: ignore[arg-type]
    return Arrays(file=path.name, sha256=sha256_file(path))


def read_arrays(path: Path, expected: Arrays) -> dict[str, np.ndarray]:
    """The stored arrays.

    Raises:
        BgbenchError: if the file is missing, truncated, or not the one the record names.
    """
    if not path.is_file():
        raise BgbenchError(
            f"{path} is missing: a run kept in one file has no arrays; in a run folder, delete the cell's "
            "record and go on with --resume, which runs the cell again"
        )
    if sha256_file(path) != expected.sha256:
        raise BgbenchError(f"{path} does not match the sha256 in its record; it was changed or truncated")
    with np.load(path, allow_pickle=False) as stored:
        return {name: stored[name] for name in stored.files}


def read_record(path: Path) -> Record:
    """Read and validate one record.

    Raises:
        BgbenchError: naming the file and the first thing wrong with it.
    """
    try:
        text = path.read_bytes()
    except OSError as error:
        raise BgbenchError(f"{path} is not a valid record: file: {error.strerror}") from error
    return parse_record(text, str(path))


def parse_record(text: bytes, where: str) -> Record:
    """Validate the JSON of one record, read from `where`.

    Raises:
        BgbenchError: naming `where` and the first thing wrong with it.
    """
    try:
        return Record.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"]) or "file"
        raise BgbenchError(f"{where} is not a valid record: {field}: {first['msg']}") from error
