"""An entry of the board: a run's plan and records, who publishes it, and the verdict of trusted code."""

import hashlib
import shlex
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from bgbench.authoring.check import CheckReport
from bgbench.core.files import Strict, sha256_file
from bgbench.leaderboard.folders import CELL, CURVE, ENTRY, LAWS, PLAN, VERDICT, refuse_layout
from bgbench.leaderboard.guarded import read_json, read_model
from bgbench.leaderboard.pins import Pin
from bgbench.leaderboard.problems import refusal
from bgbench.leaderboard.rules import SUSPECT
from bgbench.reports.comparability import Comparability, not_verified
from bgbench.reports.headings import was_run_here
from bgbench.runs.records import Record
from bgbench.runs.runfolder import Plan, RunFolder

Basis = Literal["reported", "recomputed"]
"""What metrics rest on."""

Tier = Literal["samples-only", "reported", "recomputed", "reproduced"]


Account = Annotated[str, Field(pattern=r"^[A-Za-z0-9](?:[A-Za-z0-9-]{0,37}[A-Za-z0-9])?$")]
"""Name of an account at the host of the repository."""


def _check_pin(text: str) -> str:
    Pin.parse(text)
    return text


class Remote(Strict):
    """An array file that is not in the folder.

    Without `url` it stays with the authors; without `size` it is gone, and only the run makes it again.
    """

    url: str = Field(default="", pattern=r"^$|^https://[^\s\"'<>\\]+$", max_length=500)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    size: int | None = Field(ge=1)


class Entry(Strict):
    """What the publisher says of an entry. `pin` is what to install to get the sampler again.

    `owners`: accounts at the host of the repository whose pull requests may change the entry; maintainers may
    always.

    `title` is shown beside the name, which is plain letters.

    `control`: a yardstick, shown beside the samplers and never ranked among them. `remote` holds the array
    files that are not in the folder, by cell.
    """

    schema_version: Literal[1] = 1
    version: int = Field(default=1, ge=1)
    authors: list[str] = Field(min_length=1, max_length=50)
    licence: str
    pin: Annotated[str, Field(min_length=1, max_length=1_000), AfterValidator(_check_pin)]
    source: str = Field(default="", pattern=r"^$|^https://[^\s\"'<>\\]+$", max_length=300)
    owners: list[Account] = Field(default_factory=list, max_length=50)
    control: bool = False
    note: str = Field(default="", max_length=500)
    title: str = Field(default="", max_length=80)
    remote: dict[str, Remote] = Field(default_factory=dict)


class Verdict(Strict):
    """The verdict of `bgbench leaderboard validate` on the records with this `digest`.

    `cells` says of each finished cell whether its metrics were recomputed; `energy_difference` is the
    largest |Δu| (kT) of the energies evaluated again. `chances` are the probabilities
    of the entry's distances to be as small by chance (`suspicion`), `copies` the fractions of each cell's
    conformers that are copies of one other source's, `log_z` its log Z with standard error where that can be
    trusted.
    """

    schema_version: Literal[1] = 1
    tier: Tier
    digest: str
    bgbench: str
    cells: dict[str, Literal["reported", "recomputed"]]
    energies: int = 0
    energy_difference: float = 0.0
    chances: dict[str, float] = Field(default_factory=dict)
    copies: dict[str, float] = Field(default_factory=dict)
    log_z: dict[str, tuple[float, float]] = Field(default_factory=dict)
    reproduction: dict[str, float] = Field(default_factory=dict)


@dataclass(frozen=True)
class EntryFiles:
    """An entry's files, read by guarded readers."""

    folder: Path
    entry: Entry
    plan: Plan
    records: tuple[Record, ...]
    curve: object
    verdict: Verdict | None
    check: CheckReport | None = None

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def run(self) -> RunFolder:
        return RunFolder(self.folder, self.plan)

    @cached_property
    def tier(self) -> Tier:
        """The tier of the stored verdict if it is of these very records, else `reported`; `samples-only` of
        samples that were made elsewhere."""
        if not self.run_here:
            return "samples-only"
        sound = self.verdict is not None and self.verdict.digest == digest_of(self.folder)
        return self.verdict.tier if self.verdict is not None and sound else "reported"

    @cached_property
    def basis(self) -> Basis:
        """Whether every metric was recomputed from arrays, or some are as they were reported."""
        verdict = self.verdict
        if verdict is None or verdict.digest != digest_of(self.folder):
            return "reported"
        finished = {record.cell.name for record in self.records if record.status == "ok"}
        recomputed = {name for name, basis in verdict.cells.items() if basis == "recomputed"}
        return "recomputed" if finished <= recomputed else "reported"

    @cached_property
    def suspect(self) -> float | None:
        """The probability of its smallest distance, where that is below what the rules let pass; else None.

        A reproduction takes the suspicion away: its seeds were fixed afterwards.
        """
        chances = self.verdict.chances.values() if self.verdict is not None else ()
        chance = min(chances, default=1.0)
        return chance if chance < SUSPECT and self.tier != "reproduced" else None

    @cached_property
    def run_here(self) -> bool:
        """Whether bgbench ran the sampler, instead of reading samples that were made elsewhere."""
        return was_run_here(self.records)

    @cached_property
    def comparability(self) -> Comparability:
        """What entries of one table share, by the suites that the board knows."""
        return Comparability.of(self.plan, self.records)

    @cached_property
    def verified(self) -> bool:
        """Whether the density passed its audit in every cell, also of a sampler that claims none."""
        return not not_verified(self.records)

    @cached_property
    def missing(self) -> list[tuple[str, str]]:
        """Cells that are not ok, and why."""
        records = {record.cell.name: record for record in self.records}
        reasons = []
        for cell in self.plan.cells:
            record = records.get(cell.name)
            if record is None:
                reasons.append((cell.name, "no record"))
            elif record.status != "ok":
                reasons.append((cell.name, f"{record.status}: {record.error}"))
        return reasons

    @property
    def command(self) -> str:
        """The command that makes the run again."""
        cell = self.plan.cells[0]
        options = [f"{key}={value}" for key, value in cell.options.items()]
        options += [f"estimator.{key}={value}" for key, value in cell.estimator_options.items()]
        words = ["bgbench", "run", cell.sampler, "--suite", cell.suite, "--estimator", cell.estimator]
        words += ["--protocol", cell.protocol, "--budget", str(cell.budget)]
        seeds = {c.seed for c in self.plan.cells}
        words += ["--seeds", str(len(seeds))]
        if min(seeds):
            words += ["--first-seed", str(min(seeds))]
        return shlex.join(words + [word for option in options for word in ("--set", option)])


def open_entry(folder: Path) -> EntryFiles:
    """Read an entry, guarding against everything a stranger may have put there.

    Raises:
        Refused: for the first thing wrong.
    """
    refuse_layout(folder)
    plan = read_model(folder / PLAN, Plan)
    names = [cell.name for cell in plan.cells]
    for name in names:
        if not CELL.fullmatch(name):
            raise refusal("path", PLAN, f"the cell {name[:60]!r} cannot be a file name")
    if len(set(names)) < len(names) or not names:
        raise refusal("schema", PLAN, "no cell, or the same cell twice")
    present = sorted(path.name for path in (folder / "cells").glob("*"))
    strays = set(present) - {f"{name}.json" for name in names}
    if strays:
        raise refusal("layout", f"cells/{min(strays)}", "is not a cell of the plan")
    records = [
        read_model(folder / "cells" / f"{name}.json", Record) for name in names if f"{name}.json" in present
    ]
    return EntryFiles(
        folder=folder,
        entry=read_model(folder / ENTRY, Entry),
        plan=plan,
        records=tuple(records),
        curve=read_json(folder / CURVE) if (folder / CURVE).is_file() else None,
        verdict=read_model(folder / VERDICT, Verdict) if (folder / VERDICT).is_file() else None,
        check=read_model(folder / LAWS, CheckReport) if (folder / LAWS).is_file() else None,
    )


def digest_of(folder: Path) -> str:
    """sha256 over plan, curve and records; what was published under which name is not part of it."""
    parts = [folder / PLAN, folder / CURVE, *sorted((folder / "cells").glob("*.json"))]
    lines = [f"{path.name} {sha256_file(path)}" for path in parts if path.is_file()]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def content_of(folder: Path, without: str = "") -> str:
    """sha256 over every file of an entry by its place: terms, verdict, plan, curve, records and arrays.

    Args:
        folder: the entry's folder.
        without: the name of a file to leave out.
    """
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != without)
    lines = [f"{path.relative_to(folder).as_posix()} {sha256_file(path)}" for path in paths]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def label(files: EntryFiles) -> str:
    """Sampler with its options, as tables name it."""
    cell = files.plan.cells[0]
    options = ", ".join(f"{key}={value}" for key, value in cell.options.items())
    return f"{cell.sampler} ({options})" if options else cell.sampler
