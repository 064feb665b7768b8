"""What was published, when and why: the memory that guards the board, and the source of its feed."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from pydantic import Field

from bgbench.leaderboard.entries import Opened, Tier, digest_of
from bgbench.leaderboard.guarded import read_model
from bgbench.records import Strict, write_json

LEDGER, RECORDS = "ledger.json", "records"


class Event(Strict):
    """One publication. `scores` holds each cell's metrics as they were published; None: it had failed."""

    date: str
    entry: str
    version: int = Field(ge=1)
    kind: Literal["added", "changed", "withdrawn"]
    why: str = Field(default="", max_length=500)
    tier: Tier = "reported"
    digest: str = ""
    scores: dict[str, dict[str, float | None] | None] = Field(default_factory=dict)


class Ledger(Strict):
    """Every publication, oldest first; only ever appended to."""

    schema_version: Literal[1] = 1
    events: list[Event] = Field(default_factory=list)

    def latest(self) -> dict[str, Event]:
        """The last event of each entry, withdrawn ones too."""
        return {event.entry: event for event in self.events}


def read_ledger(board: Path) -> Ledger:
    """The ledger of the board in `board`; an empty one where there is none yet.

    Raises:
        Refused: if it is damaged.
    """
    path = board / LEDGER
    return read_model(path, Ledger) if path.is_file() else Ledger()


def write_ledger(board: Path, ledger: Ledger) -> Path:
    """Keep the ledger."""
    write_json(board / LEDGER, ledger)
    return board / LEDGER


def scores_of(opened: Opened) -> dict[str, dict[str, float | None] | None]:
    """What is published of each cell."""
    found = {record.cell.name: record for record in opened.records if record.status == "ok"}
    return {
        cell.name: dict(found[cell.name].metrics) if cell.name in found else None for cell in opened.plan.cells
    }


def publication(opened: Opened, tier: Tier, kind: Literal["added", "changed"], why: str) -> Event:
    """The event of publishing an entry now."""
    return Event(
        date=now(),
        entry=opened.name,
        version=opened.entry.version,
        kind=kind,
        why=why,
        tier=tier,
        digest=digest_of(opened.folder),
        scores=scores_of(opened),
    )


def now() -> str:
    """The time, to the second, UTC."""
    return datetime.now(UTC).isoformat(timespec="seconds")
