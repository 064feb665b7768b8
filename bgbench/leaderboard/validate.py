"""Validate an entry with trusted code alone, and say which tier it has earned.

Submitted code is never imported, nothing is unpickled, no link is opened: all that is read are JSON and npz
files inside the folder (and downloads that are already there, checked by their sha256).
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bgbench.evaluation.floors import FloorKey, Scores
from bgbench.leaderboard.borrowed import borrowed, published_twice
from bgbench.leaderboard.building import unbuildable
from bgbench.leaderboard.checks import STAGES
from bgbench.leaderboard.copies import Copies, too_many, worst
from bgbench.leaderboard.costs import measured, points_of
from bgbench.leaderboard.entries import EntryFiles, Tier, Verdict, digest_of, open_entry
from bgbench.leaderboard.folders import CURVE, VERDICT
from bgbench.leaderboard.normalisation import far_apart
from bgbench.leaderboard.problems import Problem, Refused
from bgbench.leaderboard.recompute import CellCheck, alike, array_file, recompute
from bgbench.leaderboard.rules import METRIC_RELATIVE
from bgbench.leaderboard.suspicion import Reach, suspicion
from bgbench.references.superseded import is_superseded
from bgbench.runs.provenance import versions
from bgbench.runs.records import Record

SILENT: Callable[[str], None] = lambda text: None  # noqa: E731


@dataclass(frozen=True)
class Validation:
    """The outcome of checking an entry. Without `problems` it has earned its `verdict`."""

    files: EntryFiles
    problems: tuple[Problem, ...]
    verdict: Verdict | None

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
    progress: Callable[[str], None] = SILENT,
    others: Sequence[EntryFiles] = (),
) -> Validation:
    """Check an entry, cheap checks first.

    Args:
        folder: the entry.
        elsewhere: folder with arrays that the entry does not hold itself, downloaded by hand.
        progress: called with the name of the cell being recomputed.
        others: entries that were published before; the conformers of other samplers may not be theirs.

    Returns:
        The problems of the first stage that has any; without problems the verdict.

    Raises:
        Refused: if the folder cannot even be read safely.
    """
    files = open_entry(folder)
    for stage in STAGES:
        problems = tuple(problem for check in stage for problem in check(files))
        if problems:
            return Validation(files, problems, None)
    if problems := tuple(published_twice(files, others)):
        return Validation(files, problems, None)
    checks = dict(_recomputed(files, elsewhere, progress))
    strays = tuple(_strays(files))
    problems = strays + tuple(problem for item in checks.values() for problem in item.problems)
    copies = {} if problems or files.entry.control else borrowed(files, others, elsewhere)
    problems = problems or tuple(p for name, found in copies.items() for p in too_many(found, name))
    problems = problems or (*_log_z(files, checks), *_curve(files, checks, progress))
    if problems:
        return Validation(files, problems, None)
    verdict = _verdict(files, checks, copies)
    problems = tuple(_unearned_claims(files, verdict))
    verdict = _with_reproduction(files, verdict)
    if not problems:
        progress(f"{files.name}: pages")
        problems = tuple(unbuildable(files, verdict))
    return Validation(files, problems, None if problems else verdict)


def _recomputed(
    files: EntryFiles, elsewhere: Path | None, progress: Callable[[str], None]
) -> Iterator[tuple[str, CellCheck]]:
    floors: Mapping[FloorKey, Scores] = {}
    reaches: dict[str, Reach | None] = {}
    for record in files.records:
        if record.status != "ok":
            continue
        path = array_file(files, record, elsewhere)
        judged_on = str(record.reference.get("sha256", ""))
        if path is not None and is_superseded(record.cell.system, judged_on):
            # The reference that gave its metrics is no longer here: such a cell stays reported.
            continue
        if path is not None:
            progress(f"{files.name}: {record.cell.name}")
            check = recompute(files, record, path, floors, reaches.get(record.cell.system))
            reaches[record.cell.system] = check.reach
            floors = {**floors, **check.floors}
            yield record.cell.name, check
        elif not _names_its_arrays(files, record):
            text = "is not here, and entry.json names no file with the sha256 of its record"
            yield record.cell.name, CellCheck((Problem("hash", f"arrays/{record.cell.name}.npz", text),))


def _names_its_arrays(files: EntryFiles, record: Record) -> bool:
    """Whether the entry says where the arrays of a cell are, by the sha256 of its record."""
    remote = files.entry.remote.get(record.cell.name)
    return remote is not None and record.arrays is not None and remote.sha256 == record.arrays.sha256


def _strays(files: EntryFiles) -> Iterator[Problem]:
    """Array files of no finished cell."""
    known = {f"{record.cell.name}.npz" for record in files.records if record.status == "ok"}
    for path in sorted((files.folder / "arrays").glob("*")):
        if path.name not in known:
            yield Problem("layout", f"arrays/{path.name}", "belongs to no finished cell")


def _log_z(files: EntryFiles, checks: Mapping[str, CellCheck]) -> Iterator[Problem]:
    """Seeds of one system whose weights have another log Z."""
    for system in dict.fromkeys(cell.system for cell in files.plan.cells):
        names = [cell.name for cell in files.plan.cells if cell.system == system]
        values = {name: z for name in names if name in checks and (z := checks[name].log_z) is not None}
        if pair := far_apart(values):
            one, two, errors = pair
            yield Problem("weights", one, f"its log Z is {errors:.1f} standard errors from that of {two}")


def _curve(
    files: EntryFiles, checks: dict[str, CellCheck], progress: Callable[[str], None]
) -> Iterator[Problem]:
    """Error against cost as the arrays give it; without all arrays only its form is looked at."""
    try:
        points = points_of(files)
    except Refused as refused:
        yield from refused.problems
        return
    finished = [record for record in files.records if record.status == "ok"]
    if (
        not points
        or len(checks) < len(finished)
        or any(not _has_arrays(files, record) for record in finished)
    ):
        return
    progress(f"{files.name}: curve")
    recomputed = [vars(point) for point in measured(files.run)]
    if not alike([vars(point) for point in points], recomputed, METRIC_RELATIVE):
        yield Problem("curve", CURVE, "is not what the arrays give")


def _has_arrays(files: EntryFiles, record: Record) -> bool:
    return files.run.arrays_path(record.cell).is_file()


def _verdict(
    files: EntryFiles, checks: Mapping[str, CellCheck], copies: Mapping[str, Sequence[Copies]]
) -> Verdict:
    finished = [record.cell.name for record in files.records if record.status == "ok"]
    fractions: dict[str, float] = {}
    for name, item in checks.items():
        most = worst([*copies.get(name, ()), *([item.copies] if item.copies else [])])
        if most is not None:
            fractions[name] = most.fraction
    earned: Tier = "recomputed" if len(checks) == len(finished) else "reported"
    return Verdict(
        tier=earned if files.run_here else "samples-only",
        digest=digest_of(files.folder),
        bgbench=versions()["bgbench"],
        cells={name: "recomputed" if name in checks else "reported" for name in finished},
        energies=sum(item.energies for item in checks.values()),
        chances=_chances(files, checks),
        copies=fractions,
        log_z={
            name: (item.log_z.value, item.log_z.error)
            for name, item in checks.items()
            if item.log_z is not None
        },
        energy_difference=max((item.energy_difference for item in checks.values()), default=0.0),
    )


def _chances(files: EntryFiles, checks: Mapping[str, CellCheck]) -> dict[str, float]:
    reaches = {
        record.cell.system: reach
        for record in files.records
        if record.cell.name in checks and (reach := checks[record.cell.name].reach) is not None
    }
    return suspicion([record for record in files.records if record.status == "ok"], reaches)


def _unearned_claims(files: EntryFiles, verdict: Verdict) -> Iterator[Problem]:
    """What the stored verdict claims beyond the verdict of now; `guard` looks at reproductions."""
    stored = files.verdict
    if stored is None:
        return
    if stored.digest != verdict.digest:
        yield Problem("verdict", VERDICT, "is of other records than these")
    elif not files.run_here and stored.tier != "samples-only":
        yield Problem("verdict", VERDICT, f"claims {stored.tier} for samples that were made elsewhere")
    elif stored.tier == "recomputed" and verdict.tier == "reported" and not files.comparability.superseded:
        yield Problem("verdict", VERDICT, "claims recomputed; the arrays to do so are not here")
    elif stored.tier == "reproduced" and not stored.reproduction:
        yield Problem("verdict", VERDICT, "claims reproduced, and holds no reproduction")


def _with_reproduction(files: EntryFiles, verdict: Verdict) -> Verdict:
    """The verdict of now, with the reproduction that the stored one holds."""
    stored = files.verdict
    if stored is None or stored.tier != "reproduced":
        return verdict
    return verdict.model_copy(update={"tier": stored.tier, "reproduction": stored.reproduction})
