"""Recompute every metric of a run from its stored arrays, and compare with what the records say."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from bgbench.core.errors import BgbenchError
from bgbench.evaluation.bench import open_bench
from bgbench.evaluation.floors import FloorKey, Scores
from bgbench.evaluation.judging import Judgement, judge
from bgbench.evaluation.protocols import get_protocol, protocol_copy
from bgbench.evaluation.suites import read_suite, suite_copy
from bgbench.runs.estimates import read_estimate, refuse_other_reference
from bgbench.runs.process import limited
from bgbench.runs.provenance import provenance
from bgbench.runs.records import Record, read_arrays
from bgbench.runs.runfolder import RunFolder

RELATIVE = 1e-6
"""Relative agreement required on another platform; on the same one metrics agree to the bit."""


@dataclass(frozen=True)
class Difference:
    """A metric that did not come out as recorded."""

    cell: str
    metric: str
    recorded: float | None
    recomputed: float | None


def replay(folder: RunFolder) -> list[Difference]:
    """Judge every finished cell again; returns metrics, floors and skills that are not as recorded.

    On the platform of the record, with its threads, they must agree to the bit; elsewhere to RELATIVE.

    Raises:
        BgbenchError: if a record is damaged, or arrays are missing or not the recorded ones.
    """
    differences = []
    measured: Mapping[FloorKey, Scores] = {}
    for record in folder.records():
        if record.status == "ok":
            with limited(int(record.provenance.get("host", {}).get("torch_threads", 1))):
                judgement = judge_again(folder, record, measured)
            measured = {**measured, **judgement.measured.scores}
            differences += find_differences(record, judgement)
    return differences


def judge_again(
    folder: RunFolder, record: Record, measured: Mapping[FloorKey, Scores] | None = None
) -> Judgement:
    """Judge a record's stored arrays with today's code.

    Args:
        folder: the run.
        record: a record of it, with arrays.
        measured: floors that are known already; the others are measured.

    Raises:
        BgbenchError: if the arrays are missing or not the recorded ones, or cannot be judged, or the
            reference at hand is not the recorded one.
    """
    bench = open_bench(record.cell, folder.path, measured, record.reference)
    refuse_other_reference(record, bench.reference)
    return judge(read_estimate(folder, record), bench)


def find_differences(record: Record, judgement: Judgement) -> list[Difference]:
    """What of the recorded metrics, floors and skills the judgement does not agree with."""
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
    """Whether the record was judged with this machine's kind of processor and these libraries.

    A GPU that drew the conformers does not matter: the CPU judges them.

    False for a record that was judged anew later: its provenance is that of its draws, and does not say where
    it was judged.
    """
    if "rejudged" in record.diagnostics:
        return False
    here, there = provenance(), record.provenance
    host = there.get("host", {})
    alike = all(host.get(name) == here["host"][name] for name in ("system", "cpu"))
    return alike and all(there.get(name) == here[name] for name in ("libraries", "python"))


def verify(folder: RunFolder) -> list[str]:
    """Check that there are records, and the hashes of arrays, suite and protocol; a sentence for each
    fault."""
    records, problems = folder.readable()
    if not records and not problems:
        problems.append(
            f"{folder.path} holds no record of its {len(folder.plan.cells)} cells: they were deleted or "
            "never ran; --resume runs them"
        )
    suite = suite_copy(folder.path, folder.plan.suite)
    if suite.is_file() and not is_suite(suite, folder.plan.suite_sha256):
        problems.append(f"{suite} does not match the sha256 in run.json; it was changed")
    problems += other_protocol(folder)
    for record in records:
        if record.arrays is not None:
            try:
                read_arrays(folder.arrays_path(record.cell), record.arrays)
            except BgbenchError as error:
                problems.append(str(error))
    return problems


def is_suite(path: Path, sha256: str) -> bool:
    """Whether a suite's file, with the files that it names, is the one of a hash."""
    try:
        return read_suite(path).sha256 == sha256
    except BgbenchError:
        return False


def other_protocol(folder: RunFolder) -> list[str]:
    """A sentence if the protocol that the run would be judged by is not the planned one."""
    planned, plan = folder.plan.inputs.protocol_sha256, folder.plan
    if not planned:
        return []  # a plan of the first version of bgbench does not know it
    copy = protocol_copy(folder.path, plan.protocol)
    try:
        if get_protocol(plan.protocol, folder.path).sha256 == planned:
            return []
    except BgbenchError as error:
        return [str(error)]
    if copy.is_file():
        return [f"{copy} is not the planned protocol: it does not match the sha256 in run.json; restore it"]
    return [f"{copy} is missing, and the {plan.protocol} of today is not the planned one; restore it"]


def agree(a: float | None, b: float | None, tolerance: float = RELATIVE) -> bool:
    """Equal to a relative `tolerance` (0: to the bit); absent and non-finite values only equal each other."""
    absent = (a is None or not math.isfinite(a), b is None or not math.isfinite(b))
    if any(absent) or a is None or b is None:
        return all(absent)
    return math.isclose(a, b, rel_tol=tolerance, abs_tol=1e-12 if tolerance else 0.0)
