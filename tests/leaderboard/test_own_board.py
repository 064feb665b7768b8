"""The board in this repository: whole, recomputed where arrays are here, small. `entries.sh` makes it."""

from pathlib import Path

import pytest

from bgbench.leaderboard.board import entry_folders, guard, validate_board
from bgbench.leaderboard.entries import open_entry
from bgbench.leaderboard.rules import FEWEST_SEEDS

ROOT = Path(__file__).parent.parent.parent
BOARD = ROOT / "leaderboard"
ENTRIES = [open_entry(folder) for folder in entry_folders(BOARD)]
BYTES = 60_000_000


def test_nothing_published_vanished_or_moved():
    assert guard(BOARD) == []


def test_samplers_and_controls_are_there():
    samplers = {opened.plan.sampler for opened in ENTRIES if not opened.entry.control}
    controls = {opened.plan.sampler for opened in ENTRIES if opened.entry.control}
    assert {"verse", "prose", "md", "remd"} <= samplers
    assert {"reference", "prior"} <= controls


@pytest.mark.parametrize("opened", ENTRIES, ids=lambda opened: opened.name)
def test_every_entry_is_complete(opened):
    assert len({cell.seed for cell in opened.plan.cells}) >= FEWEST_SEEDS
    assert opened.missing == []


@pytest.mark.parametrize("opened", ENTRIES, ids=lambda opened: opened.name)
def test_entries_are_recomputed_or_name_the_arrays_that_are_not_here(opened):
    if opened.plan.suite == "dipeptides-mini@1":
        assert opened.tier in ("recomputed", "reproduced")
        return
    assert opened.plan.suite == "tetrapeptides30@1"
    assert opened.tier == "reported"
    hashes = {name: item.sha256 for name, item in opened.entry.remote.items()}
    assert hashes == {record.cell.name: record.arrays.sha256 for record in opened.records}


def test_all_entries_together_are_small():
    assert sum(path.stat().st_size for path in BOARD.rglob("*") if path.is_file()) < BYTES


def test_the_script_names_every_entry_once():
    script = (BOARD / "entries.sh").read_text()
    names = [line.split()[1] for line in script.splitlines() if line.startswith("entry ")]
    assert len(set(names)) == len(names) >= 8
    assert {"verse", "prose", "tbg", "md", "remd", "reference", "prior"} <= set(names)
    for opened in ENTRIES:
        label = opened.name.rpartition("-")[0]
        assert label.removesuffix("-paper").removesuffix("-tetrapeptides30") in names
        assert label.endswith("-paper") == (opened.plan.protocol == "paper@1")


@pytest.mark.slow
def test_every_number_whose_arrays_are_here_is_recomputed_once_more():
    assert not any(validate_board(BOARD).values())
