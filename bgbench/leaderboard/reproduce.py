"""The third tier: a maintainer's run of the same plugin and weights on seeds chosen after the submission."""

import math
import secrets
from pathlib import Path

import numpy as np

from bgbench.core.errors import BgbenchError
from bgbench.core.files import write_json
from bgbench.leaderboard.entries import EntryFiles, Verdict, digest_of, open_entry
from bgbench.leaderboard.folders import VERDICT
from bgbench.leaderboard.history import entry_folders
from bgbench.leaderboard.ledger import LEDGER, RECORDS, file_name, publication, read_ledger
from bgbench.leaderboard.problems import Problem, Refused, refusal
from bgbench.leaderboard.publishing import copy_entry, locked, publish, staged
from bgbench.leaderboard.rules import RANKED, REPRODUCED_ERRORS
from bgbench.reports.comparability import comparability_of
from bgbench.reports.replay import replay, verify
from bgbench.runs.records import Record
from bgbench.runs.runfolder import RunFolder


def fresh_seed() -> int:
    """A first seed that nobody could know when submitting."""
    return 1_000 + secrets.randbelow(9 * 10**8)


def reproduce(name: str, board: Path, run: Path) -> Verdict:
    """Compare the run folder `run` with the entry `name`, and raise the entry's tier if it agrees.

    Raises:
        Refused: if the run is of something else, of the submission's seeds or older than it, was edited, or
            its means lie further from the submission's than their standard errors allow.
    """
    folder = next((path for path in entry_folders(board) if path.name == name), None)
    if folder is None:
        raise BgbenchError(f"the board in {board} has no entry '{name}'")
    files = open_entry(folder)
    if not files.run_here:
        raise refusal("reproduction", name, "its samples were made elsewhere; nothing can be run again")
    again = RunFolder.open(run)
    refuse_unlike(files, again)
    faults = verify(again) or [str(difference) for difference in replay(again)]
    if faults:
        raise refusal("reproduction", run.name, faults[0])
    records = [record for record in again.records() if record.status == "ok"]
    gaps = {metric: gap(list(files.records), records, metric) for metric in (*RANKED, "ess")}
    errors = {metric: value for metric, value in gaps.items() if value is not None}
    far = [
        Problem("reproduction", name, f"{metric} lies {value:.1f} standard errors from what was submitted")
        for metric, value in errors.items()
        if abs(value) > REPRODUCED_ERRORS
    ]
    if far or not errors:
        raise Refused(*(far or [Problem("reproduction", name, "no metric in common")]))
    if files.verdict is None or files.tier == "reported":
        raise refusal("reproduction", name, "recompute it first: `bgbench leaderboard accept`")
    verdict = files.verdict.model_copy(update={"tier": "reproduced", "reproduction": errors})
    seeds = ", ".join(str(seed) for seed in sorted({record.cell.seed for record in records}))
    with staged(board) as staging, locked(board):
        copy = staging / RECORDS / name
        copy_entry(folder, copy)
        if digest_of(copy) != verdict.digest:
            raise refusal("reproduction", name, "was changed while it was compared; try again")
        write_json(copy / VERDICT, verdict)
        why = f"reproduced on seeds {seeds}"
        event = publication(open_entry(copy), read_ledger(board), "reproduced", why)
        write_json(staging / LEDGER / file_name(event), event)
        publish(board, staging)
    return verdict


def refuse_unlike(files: EntryFiles, again: RunFolder) -> None:
    """Raise Refused unless the run is of the same things, on other seeds, and later."""
    mine, theirs = again.plan, files.plan
    for sentence in comparability_of(again).differences(files.comparability, "the run", "the submission"):
        raise refusal("reproduction", again.path.name, sentence)
    for field in ("sampler", "estimator"):
        if getattr(mine, field) != getattr(theirs, field):
            raise refusal("reproduction", again.path.name, f"another {field} than the submission's")
    for field in ("references", "weights_sha256", "plugins"):
        if getattr(mine.inputs, field) != getattr(theirs.inputs, field):
            raise refusal("reproduction", again.path.name, f"another {field} than the submission's")
    one, other = mine.cells[0], theirs.cells[0]
    if (one.options, one.estimator_options) != (other.options, other.estimator_options):
        raise refusal("reproduction", again.path.name, "other options than the submission's")
    if {cell.seed for cell in mine.cells} & {cell.seed for cell in theirs.cells}:
        raise refusal(
            "reproduction", again.path.name, "seeds of the submission; they must be fixed afterwards"
        )
    if {cell.system for cell in mine.cells} != {cell.system for cell in theirs.cells} or again.missing():
        raise refusal("reproduction", again.path.name, "not every system was run")
    if mine.created < theirs.created:
        raise refusal("reproduction", again.path.name, "older than the submission")


def gap(submitted: list[Record], again: list[Record], metric: str) -> float | None:
    """Difference of the means over systems, in its standard error from the spread of seeds; None without."""
    differences, variances = [], []
    for system in sorted({record.cell.system for record in submitted}):
        values = [_values(records, system, metric) for records in (submitted, again)]
        if any(len(side) < 2 for side in values):
            return None
        differences.append(float(np.mean(values[1]) - np.mean(values[0])))
        variances.append(sum(float(np.var(side, ddof=1)) / len(side) for side in values))
    mean = float(np.mean(differences))
    error = math.sqrt(sum(variances)) / len(variances)
    return 0.0 if mean == 0.0 else mean / error if error > 0 else math.copysign(1e9, mean)


def _values(records: list[Record], system: str, metric: str) -> list[float]:
    values = [record.metrics.get(metric) for record in records if record.cell.system == system]
    return [value for value in values if value is not None]
