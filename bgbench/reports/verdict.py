"""What the numbers of a run say, in sentences: how good they are, and what to look at next."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from bgbench.evaluation.floors import FEWEST_EFFECTIVE
from bgbench.metrics.names import CURVES
from bgbench.reports.headings import means_something
from bgbench.runs.records import Record

LEAD = CURVES[0]
"""The metric whose skill stands for a cell."""

ON_THE_FLOOR, FAR = 0.95, 0.5
"""Skills from which on a run counts as good as exact draws, and below which as far from them."""

MEANING = (
    f"skill is that of {LEAD}: 1 on the noise floor, where nothing tells the sampler from exact draws, and 0 "
    "for a Gaussian around the start structure"
)
"""What the column says."""


def skill_of(record: Record) -> float | None:
    """A cell's skill; None where it has none, as systems without torsions."""
    return record.skills.get(LEAD) if record.status == "ok" else None


def mean_skill(records: Sequence[Record]) -> float | None:
    """Mean over the cells that have a skill; None where none has."""
    skills = [skill for record in records if (skill := skill_of(record)) is not None]
    return float(np.mean(skills)) if skills else None


def sentences_on(records: Sequence[Record], path: Path) -> list[str]:
    """How good a run is and what to do next, by its mean skill; where a few weights decide.

    Args:
        records: of the run, also those that failed.
        path: of the run, for the commands that are named.
    """
    lines = []
    skill = mean_skill(records)
    if skill is not None:
        lines.append(f"{MEANING}; {_judge(skill, path)}")
    if few := few_effective(records):
        lines.append(
            f"fewer than {FEWEST_EFFECTIVE} effective points in {list_some(few)}: a few weights decide, and "
            "the numbers are mostly noise; try a larger --budget or another --estimator "
            "(`bgbench list estimators`)"
        )
    return lines


def few_effective(records: Sequence[Record]) -> list[str]:
    """Cells whose weights leave fewer effective points than a floor is measured for."""
    return [
        record.cell.name
        for record in records
        if means_something("ess", record.cell.estimator)
        and record.diagnostics.get("effective_points", FEWEST_EFFECTIVE) < FEWEST_EFFECTIVE
    ]


def list_some(cells: Sequence[str]) -> str:
    """The first three, and how many more."""
    more = f" and {len(cells) - 3} more" if len(cells) > 3 else ""
    return ", ".join(cells[:3]) + more


def _judge(skill: float, path: Path) -> str:
    mean = f"the mean here is {skill:.2g}"
    if skill >= ON_THE_FLOOR:
        return f"{mean}, as good as exact draws; next, `bgbench compare {path} OTHER` against another run"
    where = f"`bgbench report {path}` shows where it differs"
    if skill >= FAR:
        return f"{mean}, better than the Gaussian and short of exact; next, `bgbench curve {path}` shows " + (
            f"whether more evaluations help, {where}"
        )
    return f"{mean}, far from exact draws; next, {where}, and `bgbench list samplers` what else there is"
