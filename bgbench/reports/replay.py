"""Recompute every metric of a run from its stored arrays, and compare with what the records say."""

import math
from dataclasses import dataclass

import torch

from bgbench.core.abstract import Estimate
from bgbench.core.errors import BgbenchError
from bgbench.core.files import sha256_file
from bgbench.core.types import Ensemble, Proposal
from bgbench.evaluation.bench import generator, open_bench
from bgbench.evaluation.protocols import Judgement, get_protocol
from bgbench.runs.process import limited
from bgbench.runs.provenance import provenance
from bgbench.runs.records import Record, read_arrays
from bgbench.runs.runfolder import RunFolder

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
    """Judge every finished cell again; returns metrics, floors and skills that are not as recorded.

    On the platform of the record, with its threads, they must agree to the bit; elsewhere to RELATIVE.
    """
    differences = []
    for record in folder.records():
        if record.status == "ok":
            with limited(int(record.provenance.get("host", {}).get("torch_threads", 1))):
                differences += differing(record, judged_again(folder, record))
    return differences


def judged_again(folder: RunFolder, record: Record) -> Judgement:
    """The judgement of a record's stored arrays."""
    bench = open_bench(record.cell, folder.path)
    estimate = stored_estimate(folder, record)
    seed = generator(record.cell, "judge")
    return get_protocol(record.cell.protocol).judge(estimate, bench.reference, bench.system, seed)


def differing(record: Record, judgement: Judgement) -> list[Difference]:
    """What did not come out as recorded."""
    tolerance = 0.0 if same_platform(record) else RELATIVE
    pairs = {
        "": (record.metrics, judgement.metrics),
        "floor of ": (record.floors, judgement.floors),
        "skill of ": (record.skills, judgement.skills),
    }
    return [
        Difference(record.cell.name, f"{kind}{name}", value, now.get(name))
        for kind, (recorded, now) in pairs.items()
        for name, value in recorded.items()
        if not agree(value, now.get(name), tolerance)
    ]


def same_platform(record: Record) -> bool:
    """Whether the record was made with this machine's kind of processor and these libraries.

    A record judged anew later does not say where: its provenance is that of its draws.
    """
    if "rejudged" in record.diagnostics:
        return False
    here, there = provenance(), record.provenance
    host = there.get("host", {})
    alike = all(host.get(name) == here["host"][name] for name in ("system", "cpu", "device"))
    return alike and all(there.get(name) == here[name] for name in ("libraries", "python"))


def verify(folder: RunFolder) -> list[str]:
    """Check the hash of every array file and of the suite; a sentence for each file that is wrong."""
    records, wrong = folder.readable()
    suite = folder.path / f"{folder.plan.suite}.yaml"
    if suite.is_file() and sha256_file(suite) != folder.plan.suite_sha256:
        wrong.append(f"{suite} does not match the sha256 in run.json; it was changed")
    for record in records:
        if record.arrays is not None:
            try:
                read_arrays(folder.arrays_path(record.cell), record.arrays)
            except BgbenchError as error:
                wrong.append(str(error))
    return wrong


def agree(a: float | None, b: float | None, tolerance: float = RELATIVE) -> bool:
    """Equal to a relative `tolerance` (0: to the bit); absent and non-finite values only equal each other."""
    absent = (a is None or not math.isfinite(a), b is None or not math.isfinite(b))
    if any(absent) or a is None or b is None:
        return all(absent)
    return math.isclose(a, b, rel_tol=tolerance, abs_tol=1e-12 if tolerance else 0.0)
