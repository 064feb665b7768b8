"""Execute one cell into its record. A failure becomes a row with its cause; it never ends the run."""

import time
import traceback
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from bgbench.core.abstract import Estimate
from bgbench.core.devices import CPU, DeviceWatch, describe_device
from bgbench.core.errors import (
    LONGEST,
    BgbenchError,
    BrokenContract,
    BudgetExhausted,
    NonFinite,
    Unsupported,
    kind_of,
    shortened,
    text_of,
    visible,
)
from bgbench.core.files import atomic_file, plain, write_json
from bgbench.core.guard import restored
from bgbench.core.plugins import name_plugin
from bgbench.evaluation.bench import Bench, open_bench
from bgbench.evaluation.cell import Cell
from bgbench.evaluation.evaluate import Outcome, evaluate, stamps
from bgbench.evaluation.judging import Judgement
from bgbench.evaluation.stages import Stages, Watch
from bgbench.runs.interrupts import is_interrupt
from bgbench.runs.process import peak_memory
from bgbench.runs.provenance import provenance
from bgbench.runs.records import Arrays, Budget, Ending, Record, Status, write_arrays
from bgbench.runs.runfolder import RunFolder
from bgbench.runs.shapes import RESERVED
from bgbench.runs.shared_floors import read_floors, write_floors

SILENT = Watch()

LONGEST_TRACEBACK = 100_000
"""Characters of a traceback that are kept, at its beginning and its end."""

SENTENCES = (BgbenchError, BrokenContract, BudgetExhausted, NonFinite, Unsupported)


def execute(cell: Cell, folder: RunFolder, watch: Watch = SILENT, device: torch.device = CPU) -> Record:
    """Run a cell, its sampler on `device`, write its arrays and record, and return the record.

    Raises:
        BgbenchError: if the run folder cannot be written.
    """
    started = time.perf_counter()
    stages, bench, outcome, devices = Stages(watch.entered), None, None, DeviceWatch()
    with suppress(OSError):
        folder.traceback_path(cell).unlink()

    def record(fields: Mapping[str, Any]) -> Record:
        return Record(
            id=folder.plan.record_id(cell),
            cell=cell,
            budget=budget_of(cell, bench),
            provenance={
                **provenance(),
                "device": what_computed(devices, device, outcome),
                "peak_memory_mb": peak_memory(),
            },
            **{**fields, "seconds": {**fields["seconds"], "total": time.perf_counter() - started}},
        )

    try:
        with restored():
            with stages("opening"):
                bench = open_bench(cell, folder.path, read_floors(folder.path))
            outcome = evaluate(bench, replace(watch, judged=partial(save_floors, folder)), stages, device)
            made = record(success(cell, outcome, bench))
            # What plugins said of themselves may be nothing that a file can hold.
            made.model_dump_json()
    except BaseException as error:
        if is_interrupt(error):
            raise
        made = record({**failure(error), "phase": stages.current, "seconds": stages.seconds})
        with atomic_file(folder.traceback_path(cell)) as stream:
            stream.write(visible(shortened(traceback.format_exc(), LONGEST_TRACEBACK)).encode())
    else:
        made = made.model_copy(update={"arrays": write_estimate(folder.arrays_path(cell), outcome.estimate)})
    write_json(folder.record_path(cell), made)
    return made


def write_estimate(path: Path, estimate: Estimate) -> Arrays:
    """Write the arrays of a cell that ended well."""
    return write_arrays(path, estimate)


def what_computed(devices: DeviceWatch, device: torch.device, outcome: Outcome | None) -> dict[str, str]:
    """The device that computed, and the `device` that the sampler was handed, which it may have ignored."""
    precision = "float32" if outcome is None else outcome.precision
    used = devices.used()
    entries = describe_device(used[0], precision)
    return {**entries, "device": ", ".join(map(str, used)), "task_device": str(device)}


def save_floors(folder: RunFolder, judgement: Judgement) -> None:
    """Save at once what a judgement measured, so that later cells need not, whatever becomes of this one."""
    # Floors save time and nothing else: a judged cell is not lost where they cannot be written.
    with suppress(BgbenchError):
        write_floors(folder.path, judgement.measured)


LOST = "the cell ended, and its record is not there: something deleted or changed it"
"""The error of a cell whose record was lost."""


def record_failure(cell: Cell, ending: Ending, folder: RunFolder) -> Record:
    """Write the record of a cell whose worker did not live to write it. What it spent is not known."""
    record = Record(
        id=folder.plan.record_id(cell),
        cell=cell,
        status=ending.status,
        error=visible(shortened(ending.error, LONGEST)),
        phase=ending.phase,
        budget=Budget(limit=cell.budget, used=0),
        diagnostics={"budget_used_known": False},
        provenance=provenance(),
    )
    write_json(folder.record_path(cell), record)
    return record


def success(cell: Cell, outcome: Outcome, bench: Bench) -> dict[str, Any]:
    """The fields of a record whose cell ended well, but for its arrays."""
    judgement, estimate = outcome.judgement, outcome.estimate
    # An estimator's own entries are its own affair; those that bgbench writes itself it cannot set.
    own = {name: value for name, value in estimate.diagnostics.items() if name not in RESERVED}
    return {
        "status": "ok",
        "metrics": judgement.metrics,
        "floors": judgement.floors,
        "skills": judgement.skills,
        "diagnostics": {
            **own,
            **judgement.diagnostics,
            **outcome.diagnostics.findings,
            "unused": bench.oracle.remaining,
        },
        "energy": plain(outcome.energy),
        "seconds": dict(outcome.seconds),
        **stamps(cell, outcome, bench),
    }


def failure(error: BaseException) -> dict[str, Any]:
    """Status and cause of a cell that failed."""
    statuses: Mapping[type[Exception], Status] = {
        BudgetExhausted: "budget_exhausted",
        NonFinite: "nonfinite",
        Unsupported: "unsupported",
        MemoryError: "out_of_memory",
        torch.OutOfMemoryError: "out_of_memory",
        TimeoutError: "timeout",
    }
    status = next((name for kind, name in statuses.items() if isinstance(error, kind)), "crash")
    text = text_of(error)
    if "not enough memory" in text or "can't allocate memory" in text:
        status = "out_of_memory"
    # The exceptions of the contract say what to do; of any other one it helps to know whose it is.
    plugin = "" if isinstance(error, SENTENCES) else name_plugin(error)
    return {"status": status, "error": f"{kind_of(error)}: {text}" + (f" ({plugin})" if plugin else "")}


def budget_of(cell: Cell, bench: Bench | None) -> Budget:
    """What the meter says."""
    if bench is None:
        return Budget(limit=cell.budget, used=0)
    oracle = bench.oracle
    return Budget(limit=oracle.limit, used=oracle.used, nonfinite=oracle.n_nonfinite, ledger=oracle.ledger)
