"""Validate an entry with trusted code alone, and say which tier it has earned.

Submitted code is never imported, nothing is unpickled, no link is opened: all that is read are JSON and npz
files inside the folder (and downloads that are already there, checked by their sha256).
"""

import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bgbench.core.files import write_json
from bgbench.evaluation.floors import FloorKey, Scores
from bgbench.leaderboard.checks import STAGES
from bgbench.leaderboard.entries import Opened, Verdict, digest_of, open_entry
from bgbench.leaderboard.folders import CURVE, VERDICT
from bgbench.leaderboard.problems import Problem, Refused
from bgbench.leaderboard.recompute import Found, alike, array_file, recompute
from bgbench.leaderboard.rules import METRIC_RELATIVE
from bgbench.runs.provenance import versions
from bgbench.runs.records import Record

SILENT: Callable[[str], None] = lambda text: None  # noqa: E731


@dataclass(frozen=True)
class Validation:
    """What was found of an entry. Without `problems` it has earned its `verdict`."""

    opened: Opened
    problems: tuple[Problem, ...]
    verdict: Verdict | None
    seed: int

    def required(self) -> Verdict:
        """The verdict.

        Raises:
            Refused: with every problem, if there are any.
        """
        if self.verdict is None:
            raise Refused(*self.problems)
        return self.verdict


def validate(
    folder: Path,
    elsewhere: Path | None = None,
    seed: int | None = None,
    told: Callable[[str], None] = SILENT,
) -> Validation:
    """Check the entry in `folder`, cheap checks first; `elsewhere` holds arrays downloaded by hand.

    `seed` chooses the energies that are evaluated again; by default nobody knows it before.

    Raises:
        Refused: if the folder cannot even be read safely.
    """
    opened = open_entry(folder)
    seed = secrets.randbits(32) if seed is None else seed
    for stage in STAGES:
        problems = tuple(problem for check in stage for problem in check(opened))
        if problems:
            return Validation(opened, problems, None, seed)
    found = dict(_recomputed(opened, elsewhere, np.random.default_rng(seed), told))
    strays = tuple(_strays(opened))
    wrong = strays + tuple(problem for item in found.values() for problem in item.problems)
    if not wrong:
        wrong = tuple(_curve(opened, found, told))
    if wrong:
        return Validation(opened, wrong, None, seed)
    earned = _verdict(opened, found)
    wrong = tuple(_unearned(opened, earned))
    return Validation(opened, wrong, None if wrong else _kept(opened, earned), seed)


def _recomputed(
    opened: Opened, elsewhere: Path | None, random: np.random.Generator, told: Callable[[str], None]
) -> Iterator[tuple[str, Found]]:
    floors: dict[FloorKey, Scores] = {}
    for record in opened.records:
        if record.status != "ok":
            continue
        path = array_file(opened, record, elsewhere)
        if path is not None:
            told(f"{opened.name}: {record.cell.name}")
            yield record.cell.name, recompute(opened, record, path, random, floors)
        elif not _published(opened, record):
            text = "is not here, and entry.json names no file with the sha256 of its record"
            yield record.cell.name, Found((Problem("hash", f"arrays/{record.cell.name}.npz", text),))


def _published(opened: Opened, record: Record) -> bool:
    remote = opened.entry.remote.get(record.cell.name)
    return remote is not None and record.arrays is not None and remote.sha256 == record.arrays.sha256


def _strays(opened: Opened) -> Iterator[Problem]:
    """Array files of no finished cell."""
    known = {f"{record.cell.name}.npz" for record in opened.records if record.status == "ok"}
    for path in sorted((opened.folder / "arrays").glob("*")):
        if path.name not in known:
            yield Problem("layout", f"arrays/{path.name}", "belongs to no finished cell")


def _curve(opened: Opened, found: dict[str, Found], told: Callable[[str], None]) -> Iterator[Problem]:
    """Error against cost as the arrays give it; without all arrays only its form is looked at."""
    from bgbench.leaderboard.costs import measured, points_of

    try:
        points = points_of(opened)
    except (KeyError, TypeError, ValueError) as error:
        yield Problem("curve", CURVE, f"not a curve: {error}")
        return
    finished = [record for record in opened.records if record.status == "ok"]
    if not points or len(found) < len(finished) or any(not _own(opened, record) for record in finished):
        return
    told(f"{opened.name}: curve")
    now = [vars(point) for point in measured(opened.run)]
    if not alike([vars(point) for point in points], now, METRIC_RELATIVE):
        yield Problem("curve", CURVE, "is not what the arrays give")


def _own(opened: Opened, record: Record) -> bool:
    return opened.run.arrays_path(record.cell).is_file()


def _verdict(opened: Opened, found: dict[str, Found]) -> Verdict:
    finished = [record.cell.name for record in opened.records if record.status == "ok"]
    return Verdict(
        tier="recomputed" if len(found) == len(finished) else "reported",
        digest=digest_of(opened.folder),
        bgbench=versions()["bgbench"],
        cells={name: "recomputed" if name in found else "reported" for name in finished},
        energies=sum(item.energies for item in found.values()),
        energy_difference=max((item.energy_difference for item in found.values()), default=0.0),
    )


def _unearned(opened: Opened, earned: Verdict) -> Iterator[Problem]:
    """A verdict in the folder may claim no more than was found now; `guard` looks at reproductions."""
    kept = opened.verdict
    if kept is None:
        return
    if kept.digest != earned.digest:
        yield Problem("verdict", VERDICT, "is of other records than these")
    elif kept.tier == "recomputed" and earned.tier == "reported":
        yield Problem("verdict", VERDICT, "claims recomputed; the arrays to do so are not here")
    elif kept.tier == "reproduced" and not kept.reproduction:
        yield Problem("verdict", VERDICT, "claims reproduced, and tells of no reproduction")


def _kept(opened: Opened, earned: Verdict) -> Verdict:
    """What was earned now, with a reproduction that the folder tells of."""
    kept = opened.verdict
    if kept is None or kept.tier != "reproduced":
        return earned
    return earned.model_copy(update={"tier": kept.tier, "reproduction": kept.reproduction})


def write_verdict(validation: Validation) -> Path:
    """Keep the verdict beside the records.

    Raises:
        Refused: if there is none.
    """
    path = validation.opened.folder / VERDICT
    write_json(path, validation.required())
    return path
