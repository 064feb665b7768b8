"""Recompute every metric of a run from its stored arrays, and compare with what the records say."""

import math
from dataclasses import dataclass

import torch

from bgbench.abstract import Estimate
from bgbench.errors import BgbenchError
from bgbench.protocols import get_protocol
from bgbench.records import Record, read_arrays
from bgbench.run import generator, open_bench
from bgbench.runfolder import RunFolder
from bgbench.types import Ensemble, Proposal

RELATIVE = 1e-6
"""Agreement asked of metrics recomputed on another platform; on the same one they agree to the bit."""


@dataclass(frozen=True)
class Difference:
    """A metric that did not come out as recorded."""

    cell: str
    metric: str
    recorded: float | None
    recomputed: float | None


def stored_estimate(folder: RunFolder, record: Record) -> Estimate:
    """The estimate of a finished cell, from its array file.

    Raises:
        BgbenchError: if the arrays are missing or not the recorded ones.
    """
    if record.arrays is None:
        raise BgbenchError(f"{record.cell.name} of {folder.path} has no arrays (status {record.status})")
    stored = read_arrays(folder.arrays_path(record.cell), record.arrays)
    tensors = {name: torch.from_numpy(values) for name, values in stored.items()}
    ensemble = Ensemble(tensors["x"], tensors["u"], tensors["log_w"])
    proposal = Proposal(tensors["x"], tensors.get("log_q"), tensors["u"])
    return Estimate(ensemble, proposal, record.diagnostics, tensors.get("group"))


def replay(folder: RunFolder) -> list[Difference]:
    """Judge every finished cell again; returns the metrics that differ beyond rounding."""
    differences = []
    for record in folder.records():
        if record.status != "ok":
            continue
        bench = open_bench(record.cell, folder.path)
        estimate = stored_estimate(folder, record)
        seed = generator(record.cell, "judge")
        judgement = get_protocol(record.cell.protocol).judge(estimate, bench.reference, bench.system, seed)
        for name, recorded in record.metrics.items():
            recomputed = judgement.metrics.get(name)
            if not agree(recorded, recomputed):
                differences.append(Difference(record.cell.name, name, recorded, recomputed))
    return differences


def verify(folder: RunFolder) -> list[str]:
    """Check the hash of every array file; returns a sentence for each that is wrong."""
    wrong = []
    for record in folder.records():
        if record.arrays is not None:
            try:
                read_arrays(folder.arrays_path(record.cell), record.arrays)
            except BgbenchError as error:
                wrong.append(str(error))
    return wrong


def agree(a: float | None, b: float | None) -> bool:
    """Equal to RELATIVE; absent and non-finite values only equal each other."""
    absent = (a is None or not math.isfinite(a), b is None or not math.isfinite(b))
    if any(absent) or a is None or b is None:
        return all(absent)
    return math.isclose(a, b, rel_tol=RELATIVE, abs_tol=1e-12)
