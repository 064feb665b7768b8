"""What was published, when and why: the memory that guards the board, and the source of its feed."""

import os
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from pydantic import Field

from bgbench.core.files import Strict
from bgbench.leaderboard.entries import EntryFiles, Tier, digest_of
from bgbench.leaderboard.folders import NAME
from bgbench.leaderboard.guarded import read_model
from bgbench.leaderboard.problems import refusal

LEDGER, RECORDS = "ledger", "records"
PENDING = ".pending"
"""Folder of a publication that counts but is not carried out yet; a killed process leaves it behind."""


class Event(Strict):
    """One publication, the `number`th of its entry.

    `scores` holds each cell's metrics as they were published; None: it had failed.
    """

    date: str = Field(max_length=40)
    entry: str = Field(pattern=rf"^{NAME.pattern}$")
    number: int = Field(ge=1)
    version: int = Field(ge=1)
    kind: Literal["added", "changed", "withdrawn"]
    why: str = Field(default="", max_length=500)
    tier: Tier = "reported"
    digest: str = ""
    scores: dict[str, dict[str, float | None] | None] = Field(default_factory=dict)


class Ledger:
    """Every publication, oldest first; only ever added to."""

    def __init__(self, events: Iterable[Event] = ()) -> None:
        self.events = tuple(sorted(events, key=lambda event: (event.date, event.entry, event.number)))

    def latest(self) -> dict[str, Event]:
        """The last event of each entry, withdrawn ones too."""
        ordered = sorted(self.events, key=lambda event: event.number)
        return {event.entry: event for event in ordered}

    def next_number(self, entry: str) -> int:
        """The number of the entry's next event, from 1."""
        last = self.latest().get(entry)
        return 1 if last is None else last.number + 1


def read_ledger(board: Path) -> Ledger:
    """The ledger of the board in `board`; an empty one where there is none yet.

    Raises:
        Refused: if something in it is damaged, has no place there, or is not called by what it holds; if a
            publication was interrupted.
    """
    refuse_pending(board)
    folder = board / LEDGER
    events = []
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        if path.is_symlink() or not path.is_file():
            raise refusal("link", f"{LEDGER}/{path.name}", "not a plain file")
        event = read_model(path, Event)
        if path.name != file_name(event):
            raise refusal("ledger", f"{LEDGER}/{path.name}", f"holds {file_name(event)}")
        events.append(event)
    return Ledger(events)


def refuse_pending(board: Path) -> None:
    """Raise Refused where a publication was interrupted: entries and ledger may not belong together."""
    if os.path.lexists(board / PENDING):
        text = "a publication was interrupted; `bgbench leaderboard accept` it again, which finishes it"
        raise refusal("layout", PENDING, text)


def file_name(event: Event) -> str:
    """Name of an event's file. Every event has its own, so that pull requests do not conflict."""
    return f"{event.entry}-{event.number:03d}.json"


def scores_of(files: EntryFiles) -> dict[str, dict[str, float | None] | None]:
    """What is published of each cell."""
    finished = {record.cell.name: record for record in files.records if record.status == "ok"}
    return {
        cell.name: dict(finished[cell.name].metrics) if cell.name in finished else None
        for cell in files.plan.cells
    }


def publication(files: EntryFiles, tier: Tier, number: int, why: str) -> Event:
    """The event of publishing an entry now, its first or a later one."""
    return Event(
        date=now(),
        entry=files.name,
        number=number,
        version=files.entry.version,
        kind="added" if number == 1 else "changed",
        why=why,
        tier=tier,
        digest=digest_of(files.folder),
        scores=scores_of(files),
    )


def now() -> str:
    """The time, to the second, UTC."""
    return datetime.now(UTC).isoformat(timespec="seconds")
