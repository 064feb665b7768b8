"""Publishing is whole or not at all: on full disks, when killed, whatever happens to the source meanwhile."""

import errno
import functools
import json
import os
import pathlib
import shutil
import tempfile

import pytest

from bgbench.core.errors import BgbenchError
from bgbench.core.files import write_json
from bgbench.leaderboard import board as boards
from bgbench.leaderboard import publishing
from bgbench.leaderboard.board import accept, guard, withdraw
from bgbench.leaderboard.entries import Verdict, digest_of, open_entry
from bgbench.leaderboard.ledger import PENDING, file_name, publication, read_ledger
from bgbench.leaderboard.problems import Refused
from bgbench.leaderboard.validate import Validation

WRITES = (
    (os, "mkdir"),
    (os, "fsync"),
    (tempfile, "mkstemp"),
    (pathlib.Path, "write_bytes"),
)
RENAMES = ((os, "rename"), (os, "replace"))
KILLED = 9
OWN = pathlib.Path(__file__).parent.parent.parent / "leaderboard"
ENTRY, OTHER = "prior-1000", "reference-1000"
PUBLISHED = open_entry(OWN / "records" / ENTRY).entry.version


def trusted(folder, *_, **__):
    """Stands in for `validate`: minutes of recomputing change nothing of what is written."""
    files = open_entry(folder)
    cells = {record.cell.name: "recomputed" for record in files.records}
    verdict = Verdict(tier="recomputed", digest=digest_of(folder), bgbench="0.1.0", cells=cells)
    return Validation(files, (), verdict)


@pytest.fixture
def board(tmp_path):
    """Two entries of the repository's own board with their events, and few of their arrays."""
    target = tmp_path / "board"
    for name in (ENTRY, OTHER):
        folder = shutil.copytree(OWN / "records" / name, target / "records" / name)
        for path in sorted((folder / "arrays").iterdir())[1:]:
            path.unlink()
        for path in (OWN / "ledger").glob(f"{name}-???.json"):
            (target / "ledger").mkdir(exist_ok=True)
            shutil.copy(path, target / "ledger")
        event = publication(open_entry(folder), read_ledger(target), "amended", "few arrays")
        write_json(target / "ledger" / file_name(event), event)
    return target


@pytest.fixture
def changed(board, tmp_path, monkeypatch):
    """A submission that differs from the published entry, taken as sound."""
    monkeypatch.setattr(boards, "validate", trusted)
    submission = shutil.copytree(board / "records" / ENTRY, tmp_path / ENTRY)
    path = submission / "curve.json"
    path.write_text(json.dumps(json.loads(path.read_text())))
    (submission / "verdict.json").unlink()
    return submission


def contents(board):
    """Every file of entries and ledger with its bytes."""
    return {
        path.relative_to(board).as_posix(): path.read_bytes()
        for name in ("records", "ledger")
        for path in sorted((board / name).rglob("*"))
        if path.is_file()
    }


def is_new(board):
    """Whether the entry has its next version; entry and ledger must agree, and the other entry be there."""
    assert guard(board) == []
    version = open_entry(board / "records" / ENTRY).entry.version
    assert read_ledger(board).latest()[ENTRY].version == version
    return version == PUBLISHED + 1


def leftovers(board):
    return {path.name for path in board.iterdir()} - {"records", "ledger"}


def at_call(monkeypatch, number, action, functions):
    """Have call `number` of these functions, counted together, do `action` first; returns the counter."""
    calls = []

    def wrap(owner, name):
        original = getattr(owner, name)

        @functools.wraps(original)
        def counted(*args, **options):
            calls.append(name)
            if len(calls) - 1 == number:
                action(original, args)
            return original(*args, **options)

        monkeypatch.setattr(owner, name, counted)

    for owner, name in functions:
        wrap(owner, name)
    return calls


def full_disk(original, args):
    """Half of the data still fits."""
    if original is pathlib.Path.write_bytes or original.__name__ == "write_bytes":
        original(args[0], args[1][: len(args[1]) // 2])
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def count_calls(board, source, tmp_path, functions):
    scratch = shutil.copytree(board, tmp_path / "scratch")
    with pytest.MonkeyPatch.context() as patch:
        calls = at_call(patch, -1, full_disk, functions)
        accept(source, scratch, why="counted")
    return len(calls)


def refusal(action):
    """The error that `action` ends with, or None."""
    try:
        action()
    except BgbenchError as error:
        return error
    return None


def test_a_full_disk_leaves_the_board_as_it_was_wherever_it_strikes(board, changed, tmp_path):
    functions = (*WRITES, *RENAMES)
    before, harmless = contents(board), []
    calls = count_calls(board, changed, tmp_path, functions)
    assert calls > 40
    for number in range(calls):
        struck = shutil.copytree(board, tmp_path / str(number))
        with pytest.MonkeyPatch.context() as patch:
            counted = at_call(patch, number, full_disk, functions)
            error = refusal(lambda: accept(changed, struck, why="a new version"))  # noqa: B023
        if error is None:
            harmless.append(counted[number])
            assert is_new(struck)
        else:
            assert "No space left on device" in str(error)
            assert contents(struck) == before, number
        assert leftovers(struck) == set(), number
        shutil.rmtree(struck)
    assert set(harmless) == {"mkdir"}, "of folders that are there already"
    assert len(harmless) < calls / 4


def test_a_disk_that_stays_full_leaves_the_board_as_it_was(board, changed, tmp_path):
    before = contents(board)
    for number in range(0, count_calls(board, changed, tmp_path, WRITES), 5):
        with pytest.MonkeyPatch.context() as patch:
            at_call(patch, number, lambda *_: [stay_full(patch, *each) for each in WRITES], WRITES)
            with pytest.raises(BgbenchError, match="No space left on device"):
                accept(changed, board, why="a new version")
        assert contents(board) == before, number


def stay_full(patch, owner, name):
    def full(*args, **options):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    patch.setattr(owner, name, full)
    full()


def test_a_full_disk_is_one_line_and_exit_code_2(board, changed, cli, monkeypatch):
    at_call(monkeypatch, 12, full_disk, WRITES)
    code, out, err = cli("leaderboard", "accept", changed, "--board", board, "--why", "new")
    assert (code, out) == (2, "")
    assert err.startswith("bgbench: cannot ")
    assert err.count("\n") == 1


def in_a_child(action):
    """Run `action` in a forked process that ends when it does; returns its exit code."""
    process = os.fork()
    if process == 0:
        try:
            action()
            os._exit(0)
        finally:
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def killed_at(number, action):
    with pytest.MonkeyPatch.context() as patch:
        at_call(patch, number, lambda *_: os._exit(KILLED), (*WRITES, *RENAMES))
        return in_a_child(action)


def test_a_kill_leaves_entry_and_ledger_both_old_or_both_new(board, changed, tmp_path):
    """Between the last renames readers refuse the board until the next command has done the others."""
    before, outcomes = contents(board), set()
    calls = count_calls(board, changed, tmp_path, (*WRITES, *RENAMES))
    preparing, renaming = range(0, calls - 12, 5), range(calls - 12, calls)
    for number in (*preparing, *renaming):
        struck = shutil.copytree(board, tmp_path / str(number))
        assert killed_at(number, lambda: accept(changed, struck, why="new")) == KILLED  # noqa: B023
        if not (struck / PENDING).exists():
            outcomes.add("new" if is_new(struck) else "old")
            assert is_new(struck) or contents(struck) == before, number
        else:
            outcomes.add("pending")
            for read in (guard, read_ledger, boards.entry_folders):
                with pytest.raises(Refused, match="a publication was interrupted"):
                    read(struck)
            with pytest.raises(BgbenchError, match="has no entry 'nobody'"):
                withdraw("nobody", struck, "any command that writes finishes it")
            assert is_new(struck), number
        accept(changed, struck, why="new")
        assert is_new(struck), number
        assert leftovers(struck) == set(), number
        shutil.rmtree(struck)
    assert outcomes == {"old", "pending"}


def test_a_kill_while_withdrawing_loses_neither_the_entry_nor_the_event(board, tmp_path):
    for number in range(40):
        struck = shutil.copytree(board, tmp_path / str(number))
        if killed_at(number, lambda: withdraw(ENTRY, struck, "because")) == 0:  # noqa: B023
            break
        if (struck / PENDING).exists():
            with pytest.raises(BgbenchError):
                withdraw("nobody", struck, "finishes what was begun")
        assert guard(struck) == [], number
        is_there = (struck / "records" / ENTRY).is_dir()
        assert is_there == (read_ledger(struck).latest()[ENTRY].kind != "withdrawn"), number
    else:
        pytest.fail("it never ended by itself")
    assert number > 8


def meanwhile(monkeypatch, change):
    """Change the source while its copy is being validated."""

    def validate(folder, *_, **__):
        change()
        return trusted(folder)

    monkeypatch.setattr(boards, "validate", validate)


def test_what_is_published_is_what_was_validated(board, changed, monkeypatch, tmp_path):
    """A record edited and a file that becomes a link after the copy was made do not reach the board."""
    secret = tmp_path / "secret.json"
    secret.write_text("{}")
    record, curve = changed / "cells" / "AA-s0.json", changed / "curve.json"
    honest = record.read_bytes(), curve.read_bytes()

    def change():
        record.write_text(record.read_text().replace('"ok"', '"crash"'))
        curve.unlink()
        curve.symlink_to(secret)

    meanwhile(monkeypatch, change)
    accept(changed, board, why="new")
    entry = board / "records" / ENTRY
    assert (entry / "cells" / "AA-s0.json").read_bytes() == honest[0]
    assert (entry / "curve.json").read_bytes() == honest[1]
    assert is_new(board)


@pytest.mark.parametrize("what", ["curve.json", "cells"])
def test_what_becomes_a_link_while_it_is_copied_is_refused(what, board, changed, monkeypatch, tmp_path):
    before = contents(board)

    def swap(folder):
        original(folder)
        if folder == changed:
            moved = tmp_path / "moved"
            (changed / what).rename(moved)
            (changed / what).symlink_to(moved)

    original = publishing.refuse_layout
    monkeypatch.setattr(publishing, "refuse_layout", swap)
    with pytest.raises(Refused) as caught:
        accept(changed, board, why="new")
    assert [problem.reason for problem in caught.value.problems] == ["link"]
    assert contents(board) == before
    assert leftovers(board) == set()


def test_a_file_that_grows_while_it_is_copied_is_refused(board, changed, monkeypatch):
    def grow(folder):
        original(folder)
        if folder == changed:
            with (changed / "curve.json").open("ab") as stream:
                stream.truncate(publishing.FOLDER_BYTES + 1)

    original = publishing.refuse_layout
    monkeypatch.setattr(publishing, "refuse_layout", grow)
    with pytest.raises(Refused, match=r"\[size\]"):
        accept(changed, board, why="new")


def test_an_entry_of_the_boards_own_is_accepted_in_its_place(board, changed):
    place = board / "records" / ENTRY
    shutil.rmtree(place)
    shutil.copytree(changed, place)
    accept(place, board, why="in place")
    assert is_new(board)


def test_two_processes_do_not_publish_at_once(board, changed):
    with publishing.locked(board), pytest.raises(BgbenchError, match="another process is publishing"):
        accept(changed, board, why="new")
    assert not is_new(board)


def test_folders_of_living_processes_are_left_alone_and_abandoned_ones_removed(board, changed):
    abandoned = board / ".staging-abandoned"
    (abandoned / "records").mkdir(parents=True)
    with publishing.staged(board) as living:
        assert not abandoned.exists()
        accept(changed, board, why="new")
        assert living.is_dir()
    assert leftovers(board) == set()


def test_a_pending_publication_that_nobody_here_began_is_refused(board, changed, tmp_path, cli):
    """As a pull request might bring one: neither read nor carried out."""
    (tmp_path / "elsewhere" / "records").mkdir(parents=True)
    (tmp_path / "elsewhere" / "ledger").mkdir()
    (board / PENDING).symlink_to(tmp_path / "elsewhere")
    code, _, err = cli("leaderboard", "validate", board)
    assert code == 2
    assert "a publication was interrupted" in err
    with pytest.raises(Refused, match="delete it"):
        accept(changed, board, why="new")


def test_a_board_that_cannot_be_written_is_one_line(changed, tmp_path):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(BgbenchError, match="cannot publish on"):
        accept(changed, tmp_path / "file")
