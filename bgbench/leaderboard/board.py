"""The board on disk: `records/ENTRY/` and `ledger/`. Nothing published vanishes or moves unsaid."""

from collections.abc import Callable, Iterator
from pathlib import Path

from bgbench.core.errors import BgbenchError
from bgbench.core.files import write_json
from bgbench.leaderboard.entries import EntryFiles, Verdict, digest_of, open_entry
from bgbench.leaderboard.folders import ENTRY, VERDICT
from bgbench.leaderboard.ledger import (
    LEDGER,
    RECORDS,
    Event,
    Ledger,
    file_name,
    now,
    publication,
    read_ledger,
    refuse_pending,
    scores_of,
)
from bgbench.leaderboard.problems import Problem, Refused, refusal
from bgbench.leaderboard.publishing import copy_entry, locked, publish, staged
from bgbench.leaderboard.rules import SCORE_RELATIVE
from bgbench.leaderboard.validate import SILENT, validate
from bgbench.reports.replay import agree


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


def guard(board: Path, base: Path | None = None) -> list[Problem]:
    """What the ledger does not allow: entries and cells gone, scores moved, entries it does not know.

    With `base`, the board as it was: its ledger must be carried on, and its entries are held to it too.
    """
    ledger = read_ledger(board)
    entries = {path.name: open_entry(path) for path in entry_folders(board)}
    problems = list(_lost(ledger, entries))
    for name, files in entries.items():
        event = ledger.latest().get(name)
        if event is None:
            problems.append(Problem("ledger", name, "was never published; use `bgbench leaderboard accept`"))
        elif files.tier == "reproduced" and event.tier != "reproduced":
            problems.append(
                Problem("verdict", name, "claims reproduced; the ledger knows of no reproduction")
            )
    if base is not None:
        problems += _carried_on(read_ledger(base), ledger)
        known = {file_name(event) for event in read_ledger(base).events}
        problems += [
            problem
            for name, event in ledger.latest().items()
            if file_name(event) not in known and name in entries
            for problem in _of_earlier_references(entries[name])
        ]
        problems += [problem for problem in _lost(read_ledger(base), entries) if problem not in problems]
    return problems


def _carried_on(before: Ledger, after: Ledger) -> Iterator[Problem]:
    if not set(map(file_name, before.events)) <= set(map(file_name, after.events)):
        yield Problem("ledger", LEDGER, "events that were published are gone")
    known = {file_name(event): event for event in before.events}
    for event in after.events:
        name = file_name(event)
        if name in known:
            if event != known[name]:
                yield Problem("ledger", name, "was published, and is changed")
        elif event.kind == "withdrawn":
            yield Problem("ledger", name, "withdrawn: a maintainer has to do that")
        elif event.tier == "reproduced":
            yield Problem("verdict", name, "reproductions are made by maintainers")


def _of_earlier_references(files: EntryFiles) -> Iterator[Problem]:
    """What is published today is judged by the references of today."""
    for sentence in files.comparability.superseded:
        yield Problem("reference", files.name, f"{sentence}; run it again")


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
                yield Problem("moved", where, "ended otherwise than was published; raise the version")
            continue
        for metric, value in published.items():
            tolerance = SCORE_RELATIVE.get(metric, SCORE_RELATIVE["other"])
            if not agree(value, present.get(metric), tolerance):
                text = f"{metric} was published as {value}, is {present.get(metric)} now; raise the version"
                yield Problem("moved", where, text)


def accept(
    source: Path,
    board: Path,
    why: str = "",
    elsewhere: Path | None = None,
    progress: Callable[[str], None] = SILENT,
) -> Event | None:
    """Validate an entry, put it among the board's with its verdict, and record that in the ledger.

    The entry is copied first, and the copy is validated and published: what happens to `source` meanwhile
    changes nothing. An entry that the board has already gets its next version, and needs a reason.

    Args:
        source: the entry's folder, anywhere or among the board's own.
        board: the folder with `records/` and `ledger/`.
        why: what changed, for an entry that was published before.
        elsewhere: folder with arrays that the entry does not hold itself.
        progress: called with the name of the cell being recomputed.

    Returns:
        The new event; None if the board holds this very entry with this verdict.

    Raises:
        Refused: with everything wrong.
        BgbenchError: for a change without a reason; if the board cannot be written, which is then as it was.
    """
    with staged(board) as staging:
        copy = staging / RECORDS / source.name
        copy_entry(source, copy)
        validation = validate(copy, elsewhere, progress=progress)
        verdict, files = validation.required(), validation.files
        with locked(board):
            ledger = read_ledger(board)
            before = ledger.latest().get(files.name)
            if before is not None and _holds(board, before, verdict):
                return None
            if problems := tuple(_of_earlier_references(files)):
                raise Refused(*problems)
            if before is not None and not why:
                raise BgbenchError(f"{files.name} was published before; say what changed with --why")
            version = 1 if before is None else before.version + 1
            write_json(copy / ENTRY, files.entry.model_copy(update={"version": version}))
            write_json(copy / VERDICT, verdict)
            number = ledger.next_number(files.name)
            event = publication(open_entry(copy), verdict.tier, number, why)
            write_json(staging / LEDGER / file_name(event), event)
            publish(board, staging)
            return event


def _holds(board: Path, last: Event, verdict: Verdict) -> bool:
    """Whether the board holds the records of a verdict, published with it by the `last` event."""
    folder = board / RECORDS / last.entry
    if last.kind == "withdrawn" or last.tier != verdict.tier or not folder.is_dir():
        return False
    return last.digest == verdict.digest == digest_of(folder)


def withdraw(name: str, board: Path, why: str) -> Event:
    """Take an entry off the board; the ledger keeps that it was there and why it went.

    Raises:
        BgbenchError: if the board has no such entry, or cannot be written.
    """
    if not board.is_dir():
        raise BgbenchError(f"there is no board in {board}; give its folder with --board")
    with staged(board) as staging, locked(board):
        ledger = read_ledger(board)
        last = ledger.latest().get(name)
        if last is None or last.kind == "withdrawn" or not (board / RECORDS / name).is_dir():
            raise BgbenchError(f"the board in {board} has no entry '{name}'")
        event = Event(
            date=now(),
            entry=name,
            number=ledger.next_number(name),
            version=last.version,
            kind="withdrawn",
            why=why,
        )
        write_json(staging / LEDGER / file_name(event), event)
        publish(board, staging)
        return event


def validate_board(
    board: Path,
    base: Path | None = None,
    elsewhere: Path | None = None,
    progress: Callable[[str], None] = SILENT,
) -> dict[str, tuple[Problem, ...]]:
    """Problems of each entry of a board, and under `ledger` those of the whole.

    Args:
        board: the folder with `records/` and `ledger/`.
        base: the board as it was. Entries that are the same there are not recomputed.
        elsewhere: folder with arrays that the entries do not hold themselves.
        progress: called with the name of the cell being recomputed.

    Raises:
        Refused: if the board itself cannot be read.
    """
    problems: dict[str, tuple[Problem, ...]] = {}
    verdicts = _verdicts(base)
    for folder in entry_folders(board):
        try:
            files = open_entry(folder)
            is_same = files.verdict is not None and files.verdict == verdicts.get(folder.name)
            if is_same and files.tier != "reported":
                problems[folder.name] = ()
            else:
                problems[folder.name] = validate(folder, elsewhere, progress=progress).problems
        except Refused as refused:
            problems[folder.name] = refused.problems
    try:
        problems["ledger"] = tuple(guard(board, base))
    except Refused as refused:
        problems["ledger"] = refused.problems
    return problems


def _verdicts(base: Path | None) -> dict[str, Verdict]:
    if base is None:
        return {}
    entries = [open_entry(folder) for folder in entry_folders(base)]
    return {files.name: files.verdict for files in entries if files.verdict is not None}
