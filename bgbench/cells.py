"""Execute one cell into its record. A failure becomes a row with its cause; it never ends the run."""

import resource
import time
import traceback
from collections.abc import Callable, Mapping
from typing import Any

from bgbench.errors import BudgetExhausted, NonFinite, Unsupported
from bgbench.provenance import provenance
from bgbench.records import Budget, Cell, Record, Status, atomic_file, digest, write_arrays, write_json
from bgbench.run import Bench, Outcome, evaluate, open_bench, stamps
from bgbench.runfolder import RunFolder


def execute(cell: Cell, folder: RunFolder, progress: Callable[[int], None]) -> Record:
    """Run a cell, write its arrays and record, and return the record.

    Raises:
        BgbenchError: if the system, its reference or the run folder is not at hand.
    """
    started = time.perf_counter()
    bench = open_bench(cell, folder.path)
    try:
        outcome = evaluate(cell, bench, progress)
    except Exception as error:
        fields = failure(error)
        with atomic_file(folder.record_path(cell).with_suffix(".traceback.txt")) as stream:
            stream.write(traceback.format_exc().encode())
    else:
        fields = success(cell, outcome, bench, folder)
    record = Record(
        id=record_id(cell),
        cell=cell,
        budget=spent(bench),
        provenance={**provenance(), "peak_memory_mb": peak_memory()},
        **{**fields, "seconds": {**fields.get("seconds", {}), "total": time.perf_counter() - started}},
    )
    write_json(folder.record_path(cell), record)
    return record


def bury(cell: Cell, status: Status, error: str, folder: RunFolder) -> Record:
    """Write the record of a cell whose worker did not live to write it. What it spent is not known."""
    record = Record(
        id=record_id(cell),
        cell=cell,
        status=status,
        error=error,
        budget=Budget(limit=cell.budget, used=0),
        diagnostics={"budget_used_known": False},
        provenance=provenance(),
    )
    write_json(folder.record_path(cell), record)
    return record


def record_id(cell: Cell) -> str:
    """A hash of what determines the result: the cell and the versions that compute it."""
    versions = {"bgbench": provenance()["bgbench"], **provenance()["libraries"]}
    return digest({"cell": cell.sha256, "versions": versions})


def success(cell: Cell, outcome: Outcome, bench: Bench, folder: RunFolder) -> dict[str, Any]:
    """The fields of a record whose cell ended well, its arrays written."""
    judgement, estimate = outcome.judgement, outcome.estimate
    return {
        "status": "ok",
        "metrics": judgement.metrics,
        "floors": judgement.floors,
        "skills": judgement.skills,
        "diagnostics": {
            **estimate.diagnostics,
            **judgement.diagnostics,
            **outcome.notes,
            "unused": bench.oracle.remaining,
        },
        "energy": dict(outcome.energy),
        "seconds": dict(outcome.seconds),
        "arrays": write_arrays(
            folder.arrays_path(cell), estimate.ensemble, estimate.proposal, estimate.group
        ),
        **stamps(cell, outcome, bench.reference),
    }


def failure(error: Exception) -> dict[str, Any]:
    """Status and cause of a cell that failed."""
    statuses: Mapping[type[Exception], Status] = {
        BudgetExhausted: "budget_exhausted",
        NonFinite: "nonfinite",
        Unsupported: "unsupported",
        MemoryError: "out_of_memory",
        TimeoutError: "timeout",
    }
    status = next((name for kind, name in statuses.items() if isinstance(error, kind)), "crash")
    return {"status": status, "error": f"{type(error).__name__}: {error}"}


def spent(bench: Bench) -> Budget:
    """What the meter says."""
    oracle = bench.oracle
    return Budget(limit=oracle.limit, used=oracle.used, nonfinite=oracle.n_nonfinite, ledger=oracle.ledger)


def peak_memory() -> float:
    """Peak resident memory of this process in MB (Linux reports kB)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
