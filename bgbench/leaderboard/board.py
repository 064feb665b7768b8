"""The board on disk: `records/ENTRY/` and `ledger/`. Nothing published vanishes or moves unsaid."""

import shutil
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
    add,
    file_name,
    now,
    publication,
    read_ledger,
    scores_of,
)
from bgbench.leaderboard.problems import Problem, Refused, refuse
from bgbench.leaderboard.rules import SCORE_RELATIVE
from bgbench.leaderboard.validate import SILENT, validate
from bgbench.reports.replay import agree


def entry_folders(board: Path) -> list[Path]:
    """The folders of a board's entries, by name.

    Raises:
        Refused: for anything else among them.
    """
    folder = board / RECORDS
    found = sorted(folder.iterdir()) if folder.is_dir() else []
    for path in found:
        if path.is_symlink():
            raise refuse("link", path.name, "a symbolic link")
        if not path.is_dir():
            raise refuse("layout", path.name, "has no place among the entries")
    return found


def guard(board: Path, base: Path | None = None) -> list[Problem]:
    """What the ledger does not allow: entries and cells gone, scores moved, entries it does not know.

    With `base`, the board as it was: its ledger must be carried on, and its entries are held to it too.
    """
    ledger = read_ledger(board)
    entries = {path.name: open_entry(path) for path in entry_folders(board)}
    problems = list(_held(ledger, entries))
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
        problems += [problem for problem in _held(read_ledger(base), entries) if problem not in problems]
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


def _held(ledger: Ledger, entries: dict[str, EntryFiles]) -> Iterator[Problem]:
    for name, event in ledger.latest().items():
        if event.kind == "withdrawn":
            if name in entries:
                yield Problem("ledger", name, "was withdrawn, and is there again")
        elif name not in entries:
            yield Problem("vanished", name, "was published and is gone; withdraw it with a reason instead")
        elif entries[name].entry.version < event.version:
            yield Problem("ledger", name, f"version {event.version} was published already")
        elif entries[name].entry.version == event.version:
            yield from _unmoved(event, entries[name])


def _unmoved(event: Event, files: EntryFiles) -> Iterator[Problem]:
    now_told = scores_of(files)
    for cell, scores in event.scores.items():
        where = f"{event.entry}/{cell}"
        if cell not in now_told:
            yield Problem("vanished", where, "the cell was published and is gone")
            continue
        told = now_told[cell]
        if scores is None or told is None:
            if scores is not told:
                yield Problem("moved", where, "ended otherwise than was published; raise the version")
            continue
        for metric, value in scores.items():
            tolerance = SCORE_RELATIVE.get(metric, SCORE_RELATIVE["other"])
            if not agree(value, told.get(metric), tolerance):
                text = f"{metric} was published as {value}, is {told.get(metric)} now; raise the version"
                yield Problem("moved", where, text)


def accept(
    source: Path,
    board: Path,
    why: str = "",
    elsewhere: Path | None = None,
    told: Callable[[str], None] = SILENT,
) -> Event | None:
    """Validate an entry, put it among the board's, keep its verdict, and carry the ledger on.

    An entry that is there already gets its next version, and needs a reason. None where nothing changed.

    Raises:
        Refused: with everything wrong.
        BgbenchError: for a change without a reason.
    """
    validation = validate(source, elsewhere, told=told)
    verdict, files = validation.required(), validation.files
    ledger = read_ledger(board)
    before = ledger.latest().get(files.name)
    if (
        before is not None
        and before.kind != "withdrawn"
        and before.digest == verdict.digest == _kept(board, files)
    ) and before.tier == verdict.tier:
        return None
    if before is not None and not why:
        raise BgbenchError(f"{files.name} was published before; say what changed with --why")
    target = board / RECORDS / files.name
    if target.resolve() != source.resolve():
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(source, target)
    version = 1 if before is None else before.version + 1
    write_json(target / ENTRY, files.entry.model_copy(update={"version": version}))
    write_json(target / VERDICT, verdict)
    event = publication(open_entry(target), verdict.tier, ledger.next_number(files.name), why)
    add(board, event)
    return event


def _kept(board: Path, files: EntryFiles) -> str:
    """Digest of the entry of this name that the board holds."""
    folder = board / RECORDS / files.name
    return digest_of(folder) if folder.is_dir() else ""


def withdraw(name: str, board: Path, why: str) -> Event:
    """Take an entry off the board, and say so in the ledger for good.

    Raises:
        BgbenchError: if it is not there.
    """
    folder = board / RECORDS / name
    ledger = read_ledger(board)
    last = ledger.latest().get(name)
    if last is None or last.kind == "withdrawn" or not folder.is_dir():
        raise BgbenchError(f"the board in {board} has no entry '{name}'")
    event = Event(
        date=now(),
        entry=name,
        number=ledger.next_number(name),
        version=last.version,
        kind="withdrawn",
        why=why,
    )
    shutil.rmtree(folder)
    add(board, event)
    return event


def validate_board(
    board: Path,
    base: Path | None = None,
    elsewhere: Path | None = None,
    told: Callable[[str], None] = SILENT,
) -> dict[str, tuple[Problem, ...]]:
    """Problems of each entry of a board, and under `ledger` those of the whole.

    With `base`, entries that are the same there are not recomputed.
    """
    found: dict[str, tuple[Problem, ...]] = {}
    known = _verdicts(base)
    for folder in entry_folders(board):
        try:
            files = open_entry(folder)
            same = files.verdict is not None and files.verdict == known.get(folder.name)
            if same and files.tier != "reported":
                found[folder.name] = ()
            else:
                found[folder.name] = validate(folder, elsewhere, told=told).problems
        except Refused as refused:
            found[folder.name] = refused.problems
    try:
        found["ledger"] = tuple(guard(board, base))
    except Refused as refused:
        found["ledger"] = refused.problems
    return found


def _verdicts(base: Path | None) -> dict[str, Verdict]:
    if base is None:
        return {}
    entries = [open_entry(folder) for folder in entry_folders(base)]
    return {files.name: files.verdict for files in entries if files.verdict is not None}
