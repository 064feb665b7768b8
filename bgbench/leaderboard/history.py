"""What entries and ledger must agree on, and what a change of the board may do.

Every change of an entry is an event of its kind, and each event holds the hash of the one before and of every
file that it publishes. Nothing vanishes, moves or is added unsaid.
"""

from collections.abc import Iterable, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

from bgbench.core.files import sha256_file
from bgbench.leaderboard.confusables import alike
from bgbench.leaderboard.entries import EntryFiles, content_of, digest_of, open_entry
from bgbench.leaderboard.ledger import (
    LEDGER,
    RECORDS,
    Event,
    Ledger,
    file_name,
    read_ledger,
    refuse_pending,
    scores_of,
)
from bgbench.leaderboard.problems import Problem, refusal

MAINTAINED = ("withdrawn", "reproduced")
"""Kinds of events that maintainers alone may add."""


def entry_folders(board: Path) -> list[Path]:
    """The folders of a board's entries, by name.

    Raises:
        Refused: for anything else among them; if a publication was interrupted.
    """
    refuse_pending(board)
    folder = board / RECORDS
    paths = sorted(folder.iterdir()) if folder.is_dir() else []
    for path in paths:
        if path.is_symlink():
            raise refusal("link", path.name, "a symbolic link")
        if not path.is_dir():
            raise refusal("layout", path.name, "has no place among the entries")
    return paths


def guard(board: Path, base: Path | None = None, account: str = "") -> list[Problem]:
    """What the ledger does not allow: entries, cells or files that are gone, moved or unknown to it.

    Args:
        board: the folder with `records/` and `ledger/`.
        base: the board as it was. Its ledger must be carried on, and its entries are held to it too.
        account: who proposes the change from `base`; nobody may change the entries of others.

    Raises:
        Refused: if entries or ledger cannot be read safely.
    """
    ledger = read_ledger(board)
    entries = {path.name: open_entry(path) for path in entry_folders(board)}
    problems = list(_broken_chains(ledger))
    problems += _confusable(ledger, entries)
    problems += _lost(ledger, entries)
    problems += [problem for name, files in entries.items() for problem in _unsaid(name, files, ledger)]
    if base is not None:
        problems += _carried_on(read_ledger(base), ledger)
        problems += _proposed(board, base, entries, ledger, account)
        problems += [problem for problem in _lost(read_ledger(base), entries) if problem not in problems]
    return problems


def of_earlier_references(files: EntryFiles) -> Iterator[Problem]:
    """What is published today is judged by the references of today."""
    for sentence in files.comparability.superseded:
        yield Problem("reference", files.name, f"{sentence}; run it again")


def _broken_chains(ledger: Ledger) -> Iterator[Problem]:
    """Events that do not follow from those before them: numbers, hashes, dates, kinds."""
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    for events in ledger.by_entry().values():
        for k, event in enumerate(events):
            where = file_name(event)
            if event.number != k + 1:
                yield Problem("ledger", where, f"is event {event.number}, and event {k + 1} is missing")
                break
            if datetime.fromisoformat(event.date) > tomorrow:
                yield Problem("ledger", where, f"is dated {event.date}, which is yet to come")
            before = events[k - 1] if k else None
            sealed = bool(event.content or event.previous)
            if before is not None and not sealed and (before.content or before.previous):
                yield Problem("ledger", where, "holds no hashes, and the event before it does")
            elif sealed:
                known = "" if before is None else ledger.hashes[file_name(before)]
                if event.previous != known:
                    yield Problem("ledger", where, "does not hold the hash of the event before it")
                for text in _out_of_order(before, event):
                    yield Problem("ledger", where, text)


def _confusable(ledger: Ledger, entries: Iterable[str]) -> Iterator[Problem]:
    """Entries whose names read like that of one published earlier."""
    first = {entry: events[0].date for entry, events in ledger.by_entry().items()}
    earlier: list[str] = []
    for name in sorted(entries, key=lambda name: (first.get(name, "9"), name)):
        if confused := alike(name, earlier):
            yield Problem("name", name, f"reads like {confused}, which was published before")
        earlier.append(name)


def _out_of_order(before: Event | None, event: Event) -> Iterator[str]:
    """Why an event of its kind cannot follow the one before."""
    is_there = before is not None and before.kind != "withdrawn"
    if (event.kind == "added") == is_there:
        yield f"is {event.kind}, and the entry was {'there already' if is_there else 'not there'}"
        return
    if event.kind == "withdrawn":
        if event.scores or event.content or event.digest:
            yield "is withdrawn, and yet publishes something"
    elif not event.content or not event.scores:
        yield "publishes no files or no scores"
    if before is None:
        if event.version != 1:
            yield f"is the first, and of version {event.version}"
        return
    if not event.why:
        yield "gives no reason"
    if datetime.fromisoformat(event.date) < datetime.fromisoformat(before.date):
        yield f"is dated {event.date}, before the event that it follows"
    grows = event.kind == "changed" or (event.kind == "added" and before is not None)
    if event.version != before.version + grows:
        yield f"{event.kind} version {before.version} to {event.version}, not to {before.version + grows}"
    same = (event.digest, event.scores) == (before.digest, before.scores)
    if event.kind in ("amended", "reproduced") and not same:
        yield f"is {event.kind}, and its records or scores are not those of the event before it"
    if event.kind == "changed" and set(before.scores) - set(event.scores):
        yield f"publishes {min(set(before.scores) - set(event.scores))} no more"
    if (event.kind == "reproduced") != (event.tier == "reproduced") and event.kind != "amended":
        yield f"is {event.kind}, and of the tier {event.tier}"
    if event.kind == "amended" and event.tier == "reproduced" and before.tier != "reproduced":
        yield "is amended to reproduced; a reproduction is an event of its own"


def _lost(ledger: Ledger, entries: dict[str, EntryFiles]) -> Iterator[Problem]:
    for name, event in ledger.latest().items():
        if event.kind == "withdrawn":
            if name in entries:
                yield Problem("ledger", name, "was withdrawn, and is there again")
        elif name not in entries:
            yield Problem("vanished", name, "was published and is gone; withdraw it with a reason instead")
        elif entries[name].entry.version < event.version:
            yield Problem("ledger", name, f"version {event.version} was published already")
        elif entries[name].entry.version == event.version:
            yield from _moved(event, entries[name])


def _moved(event: Event, files: EntryFiles) -> Iterator[Problem]:
    scores_now = scores_of(files)
    for cell, published in event.scores.items():
        where = f"{event.entry}/{cell}"
        if cell not in scores_now:
            yield Problem("vanished", where, "the cell was published and is gone")
            continue
        present = scores_now[cell]
        if published is None or present is None:
            if published is not present:
                yield Problem("moved", where, "ended otherwise than was published; publish a new version")
            continue
        for metric in sorted({*published, *present}):
            if published.get(metric) != present.get(metric):
                text = f"{metric} was published as {published.get(metric)}, is {present.get(metric)} now"
                yield Problem("moved", where, f"{text}; publish a new version")


def _unsaid(name: str, files: EntryFiles, ledger: Ledger) -> Iterator[Problem]:
    """What an entry is that its last event does not say."""
    event = ledger.latest().get(name)
    if event is None:
        yield Problem("ledger", name, "was never published; use `bgbench leaderboard accept`")
        return
    if event.kind == "withdrawn":
        return
    if not event.content:
        yield Problem("ledger", name, "its last event holds no hash of its files; publish it again")
        return
    if files.tier == "reproduced" and event.tier != "reproduced":
        yield Problem("verdict", name, "claims reproduced; the ledger knows of no reproduction")
    if files.entry.version > event.version:
        yield Problem("ledger", name, f"is of version {files.entry.version}, published was {event.version}")
    elif set(scores_of(files)) != set(event.scores):
        yield Problem("ledger", name, "has cells that were not published")
    elif event.content != content_of(files.folder):
        yield Problem("changed", name, "its files are not those that were published; use `accept --why`")
    elif (event.digest, event.tier) != (digest_of(files.folder), files.tier):
        yield Problem("ledger", file_name(event), "names another tier or other records than it publishes")
    if datetime.fromisoformat(event.date) < _planned(files):
        yield Problem("ledger", file_name(event), f"is dated {event.date}, before its run was planned")


def _planned(files: EntryFiles) -> datetime:
    """When the run was planned; long ago where that cannot be read, which `checks` says of an entry."""
    with suppress(ValueError):
        created = datetime.fromisoformat(files.plan.created)
        if created.tzinfo is not None:
            return created
    return datetime.min.replace(tzinfo=UTC)


def _carried_on(before: Ledger, after: Ledger) -> Iterator[Problem]:
    if not set(before.hashes) <= set(after.hashes):
        yield Problem("ledger", LEDGER, "events that were published are gone")
    for event in after.events:
        name = file_name(event)
        if name in before.hashes:
            if after.hashes[name] != before.hashes[name]:
                yield Problem("ledger", name, "was published, and is changed")
        elif event.kind in MAINTAINED:
            yield Problem("ledger", name, f"{event.kind}: a maintainer has to do that")
        elif event.tier == "reproduced":
            yield Problem("verdict", name, "reproductions are made by maintainers")


def _proposed(
    board: Path, base: Path, entries: dict[str, EntryFiles], ledger: Ledger, account: str
) -> Iterator[Problem]:
    """What one may not do to a board that others publish on as well."""
    published = read_ledger(base)
    new = [event for event in ledger.events if file_name(event) not in published.hashes]
    changed = {event.entry for event in new}
    for name in sorted(changed & set(entries)):
        yield from of_earlier_references(entries[name])
    folders = {path.name: path for path in entry_folders(base)}
    for name in sorted(changed & set(published.latest())):
        owners = open_entry(folders[name]).entry.owners if name in folders else []
        if account.lower() not in {owner.lower() for owner in owners}:
            who = ", ".join(owners) or "nobody but maintainers"
            yield Problem(
                "owner", name, f"is published already, and may be changed by {who}; take another name"
            )
    for name in sorted(set(folders) & set(entries) - changed):
        for path in changed_files(folders[name], board / RECORDS / name):
            yield Problem("changed", f"{name}/{path}", "is not what was published, and no event says so")


def changed_files(before: Path, after: Path) -> list[str]:
    """The files of an entry that differ between two folders, or are in one of them alone."""
    one, other = _hashes(before), _hashes(after)
    return sorted(name for name in {*one, *other} if one.get(name) != other.get(name))


def _hashes(folder: Path) -> dict[str, str]:
    paths = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): sha256_file(path) for path in paths}
