"""What was published, when and why: the memory that guards the board, and the source of its feed."""

import os
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from bgbench.core.files import Strict, sha256_file
from bgbench.leaderboard.entries import EntryFiles, Tier, content_of, digest_of
from bgbench.leaderboard.folders import NAME
from bgbench.leaderboard.guarded import read_model
from bgbench.leaderboard.problems import refusal

LEDGER, RECORDS = "ledger", "records"
PENDING = ".pending"
"""Folder of a publication that counts but is not carried out yet; a killed process leaves it behind."""


Kind = Literal["added", "changed", "amended", "reproduced", "withdrawn"]
"""`added`: a new entry. `changed`: other records, so a new version. `amended`: the same records, and anything
else about them. `reproduced`: the same files with a maintainer's verdict. `withdrawn`: gone, for a reason."""


def check_date(text: str) -> str:
    """`text`, if it is a date with its time zone.

    Raises:
        ValueError: if it is not.

    >>> check_date("2026-11-28T12:00:00+00:00")
    '2026-11-28T12:00:00+00:00'
    """
    if datetime.fromisoformat(text).tzinfo is None:
        raise ValueError("a date without its time zone")
    return text


Hash = Annotated[str, Field(pattern=r"^$|^[0-9a-f]{64}$")]


class Event(Strict):
    """One publication, the `number`th of its entry.

    `scores` holds each cell's metrics as they were published; None: it had failed. `digest` is the hash of
    plan, curve and records, `content` that of every file of the entry, `previous` that of the file of the
    entry's event before. Events of before 28 November 2026 have neither `content` nor `previous`.
    """

    date: Annotated[str, Field(max_length=40), AfterValidator(check_date)]
    entry: str = Field(pattern=rf"^{NAME.pattern}$")
    number: int = Field(ge=1)
    version: int = Field(ge=1)
    kind: Kind
    why: str = Field(default="", max_length=500)
    tier: Tier = "reported"
    digest: Hash = ""
    content: Hash = ""
    previous: Hash = ""
    scores: dict[str, dict[str, float | None] | None] = Field(default_factory=dict)


class Ledger:
    """Every publication, oldest first; only ever added to.

    `hashes` are those of the events' files, by their names.
    """

    def __init__(self, events: Iterable[Event] = (), hashes: Mapping[str, str] | None = None) -> None:
        self.events = tuple(sorted(events, key=lambda event: (event.date, event.entry, event.number)))
        self.hashes = dict(hashes or {})

    def by_entry(self) -> dict[str, list[Event]]:
        """The events of each entry, by their numbers."""
        histories: dict[str, list[Event]] = {}
        for event in sorted(self.events, key=lambda event: (event.entry, event.number)):
            histories.setdefault(event.entry, []).append(event)
        return histories

    def last_hash(self, entry: str) -> str:
        """The hash of the file of the entry's last event; empty where there is none."""
        last = self.latest().get(entry)
        return "" if last is None else self.hashes[file_name(last)]

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
    events, hashes = [], {}
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        if path.is_symlink() or not path.is_file():
            raise refusal("link", f"{LEDGER}/{path.name}", "not a plain file")
        event = read_model(path, Event)
        if path.name != file_name(event):
            raise refusal("ledger", f"{LEDGER}/{path.name}", f"holds {file_name(event)}")
        events.append(event)
        hashes[path.name] = sha256_file(path)
    return Ledger(events, hashes)


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


def publication(files: EntryFiles, ledger: Ledger, kind: Kind, why: str) -> Event:
    """The event of publishing an entry now, as its files are and with the tier that its verdict gives it."""
    return Event(
        date=now(),
        entry=files.name,
        number=ledger.next_number(files.name),
        version=files.entry.version,
        kind=kind,
        why=why,
        tier=files.tier,
        digest=digest_of(files.folder),
        content=content_of(files.folder),
        previous=ledger.last_hash(files.name),
        scores=scores_of(files),
    )


def now() -> str:
    """The time, to the second, UTC."""
    return datetime.now(UTC).isoformat(timespec="seconds")
