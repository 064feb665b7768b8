"""The board on disk: `records/ENTRY/` and `ledger/`. Nothing published vanishes or moves unsaid."""

from collections.abc import Callable
from pathlib import Path

from bgbench.core.errors import BgbenchError
from bgbench.core.files import write_json
from bgbench.leaderboard.confusables import alike
from bgbench.leaderboard.entries import EntryFiles, content_of, digest_of, open_entry
from bgbench.leaderboard.folders import ENTRY, VERDICT
from bgbench.leaderboard.history import entry_folders, guard, of_earlier_references
from bgbench.leaderboard.ledger import LEDGER, RECORDS, Event, Kind, file_name, now, publication, read_ledger
from bgbench.leaderboard.problems import Problem, Refused
from bgbench.leaderboard.publishing import copy_entry, locked, publish, staged
from bgbench.leaderboard.validate import SILENT, validate


def accept(
    source: Path,
    board: Path,
    why: str = "",
    elsewhere: Path | None = None,
    progress: Callable[[str], None] = SILENT,
) -> Event | None:
    """Validate an entry, put it among the board's with its verdict, and record that in the ledger.

    The entry is copied first, and the copy is validated and published: what happens to `source` meanwhile
    changes nothing. An entry that the board has already needs a reason; with other records it gets its next
    version.

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
        others = _others(board, source.name)
        if confused := alike(source.name, [files.name for files in others]):
            text = f"reads like {confused}, which is published already; choose another name"
            raise Refused(Problem("name", source.name, text))
        validation = validate(copy, elsewhere, progress=progress, others=others)
        verdict, files = validation.required(), validation.files
        with locked(board):
            ledger = read_ledger(board)
            before = ledger.latest().get(files.name)
            kind, version = _next(before, digest_of(copy))
            write_json(copy / ENTRY, files.entry.model_copy(update={"version": version}))
            write_json(copy / VERDICT, verdict)
            if before is not None and _holds(board, before, copy, verdict.tier):
                return None
            if problems := tuple(of_earlier_references(files)):
                raise Refused(*problems)
            if before is not None and not why:
                raise BgbenchError(f"{files.name} was published before; say what changed with --why")
            event = publication(open_entry(copy), ledger, kind, why)
            write_json(staging / LEDGER / file_name(event), event)
            publish(board, staging)
            return event


def _others(board: Path, name: str) -> list[EntryFiles]:
    """The entries of a board that were published before the one called `name`, or of which none is there."""
    first = {entry: events[0].date for entry, events in read_ledger(board).by_entry().items()}
    others = [path for path in entry_folders(board) if path.name != name and path.name in first]
    return [
        open_entry(path) for path in others if (first[path.name], path.name) < (first.get(name, "9"), name)
    ]


def _next(before: Event | None, digest: str) -> tuple[Kind, int]:
    """Kind and version of what follows the event `before`, by whether the records are the same."""
    if before is None:
        return "added", 1
    if before.kind == "withdrawn":
        return "added", before.version + 1
    return ("amended", before.version) if before.digest == digest else ("changed", before.version + 1)


def _holds(board: Path, last: Event, copy: Path, tier: str) -> bool:
    """Whether the board holds these very files, but for the wording of a verdict of the same tier."""
    folder = board / RECORDS / last.entry
    if last.kind == "withdrawn" or last.tier != tier or not last.content or not folder.is_dir():
        return False
    if content_of(folder) != last.content:
        return False
    return content_of(copy, without=VERDICT) == content_of(folder, without=VERDICT)


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
            previous=ledger.last_hash(name),
        )
        write_json(staging / LEDGER / file_name(event), event)
        publish(board, staging)
        return event


def validate_board(
    board: Path,
    base: Path | None = None,
    elsewhere: Path | None = None,
    progress: Callable[[str], None] = SILENT,
    account: str = "",
) -> dict[str, tuple[Problem, ...]]:
    """Problems of each entry of a board, and under `ledger` those of the whole.

    Args:
        board: the folder with `records/` and `ledger/`.
        base: the board as it was. Entries that are the same there, file by file, are not recomputed.
        elsewhere: folder with arrays that the entries do not hold themselves.
        progress: called with the name of the cell being recomputed.
        account: who proposes the change from `base`, at the host of the repository.

    Raises:
        Refused: if the board itself cannot be read.
    """
    problems: dict[str, tuple[Problem, ...]] = {}
    before = {} if base is None else {path.name: path for path in entry_folders(base)}
    for folder in entry_folders(board):
        try:
            files = open_entry(folder)
            known = before.get(folder.name)
            is_same = known is not None and content_of(known) == content_of(folder)
            if is_same and files.tier != "reported":
                problems[folder.name] = ()
            else:
                problems[folder.name] = validate(
                    folder, elsewhere, progress=progress, others=_others(board, folder.name)
                ).problems
        except Refused as refused:
            problems[folder.name] = refused.problems
    try:
        problems["ledger"] = tuple(guard(board, base, account))
    except Refused as refused:
        problems["ledger"] = refused.problems
    return problems
