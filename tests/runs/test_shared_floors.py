"""Floors are measured once a run, whoever measures them, and to the last digit the same."""

import pytest

import bgbench
from bgbench.evaluation.floors import known_floors
from bgbench.evaluation.protocols import Protocol
from bgbench.runs import shared_floors as floors
from bgbench.runs.shared_floors import shared_floors

KEY = ("floor 0", "bgbench@1", "abc", 10, 10)
VALUES = {"torus_w2": 0.1 + 0.2, "energy_w2": 1 / 3}


@pytest.fixture(autouse=True)
def forgotten():
    known_floors.cache_clear()
    yield
    known_floors.cache_clear()


@pytest.fixture
def kept(tmp_path):
    """A run folder in which another process has kept a floor."""
    with shared_floors(tmp_path):
        known_floors()[KEY] = VALUES
    known_floors.cache_clear()
    return tmp_path


def test_what_one_process_measured_another_knows_to_the_last_digit(kept):
    with shared_floors(kept):
        assert known_floors() == {KEY: VALUES}


def test_floors_of_another_platform_and_damaged_files_are_not_used(kept, monkeypatch):
    (path,) = kept.glob("floors/*.json")
    with monkeypatch.context() as patch:
        patch.setattr(floors, "_platform", lambda: "another")
        with shared_floors(kept):
            assert known_floors() == {}
    for text in ("{", "[]", "{}"):
        path.write_text(text)
        with shared_floors(kept):
            assert known_floors() == {}


def test_a_second_cell_of_a_system_measures_no_floor_again(own_references, tmp_path, timeless, monkeypatch):
    suite = tmp_path / "one@1.yaml"
    suite.write_text("systems: [AA]\nenergy: batched\nbudget: 60\nseeds: 2\n")
    asked = {"out": tmp_path / "run", "workers": 0, "tracking_uri": "none"}
    before = bgbench.run("prior", suite=str(suite), **asked)
    assert all(record.floors for record in before)
    measured = []
    monkeypatch.setattr(Protocol, "_against", lambda *words: measured.append(words))
    known_floors.cache_clear()
    (tmp_path / "run" / "cells" / "AA-s1.json").unlink()
    after = bgbench.run("prior", resume=True, **asked)
    assert measured == []
    assert timeless(after) == timeless(before)
