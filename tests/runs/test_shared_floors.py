"""Floors are measured once a run, whoever measures them, and to the last digit the same."""

import json
from dataclasses import replace

import pytest

import bgbench
from bgbench import BgbenchError, peptide
from bgbench.evaluation import evaluate as page
from bgbench.evaluation.floors import FloorKey, Floors
from bgbench.evaluation.protocols import get_protocol
from bgbench.runs import cells, shared_floors
from bgbench.runs.shared_floors import read_floors, write_floors

KEY = FloorKey(0, "bgbench@1", "abc", 10, 10)
CONTROL = FloorKey(None, "bgbench@1", "abc", 10, 10)
VALUES = {"torus_w2": 0.1 + 0.2, "energy_w2": 1 / 3}


def floors_of(scores):
    return Floors(get_protocol("bgbench@1"), peptide("AA"), None, scores)


@pytest.fixture
def run_folder(tmp_path):
    """A run folder for which another process has measured a floor and a control."""
    write_floors(tmp_path, floors_of({KEY: VALUES, CONTROL: VALUES}))
    return tmp_path


def test_what_one_process_measured_another_knows_to_the_last_digit(run_folder):
    assert read_floors(run_folder) == {KEY: VALUES, CONTROL: VALUES}


def test_files_are_as_older_versions_wrote_them(run_folder):
    contents = [json.loads(path.read_bytes()) for path in run_folder.glob("floors/*.json")]
    assert sorted(content["key"][0] for content in contents) == ["control", "floor 0"]
    for content in contents:
        assert content["key"][1:] == ["bgbench@1", "abc", 10, 10]
        assert content["values"] == VALUES


def test_what_is_saved_already_is_not_written_again(run_folder):
    before = {path: path.stat().st_mtime_ns for path in run_folder.glob("floors/*.json")}
    more = replace(KEY, split=1)
    write_floors(run_folder, floors_of({KEY: VALUES, more: VALUES}))
    assert set(read_floors(run_folder)) == {KEY, CONTROL, more}
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_floors_of_a_reference_without_a_hash_are_nobody_elses(tmp_path):
    write_floors(tmp_path, floors_of({replace(KEY, reference_sha256=""): VALUES}))
    assert read_floors(tmp_path) == {}


def test_floors_of_another_platform_and_damaged_files_are_not_used(run_folder, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(shared_floors, "hash_platform", lambda: "another")
        assert read_floors(run_folder) == {}
    platform = shared_floors.hash_platform()
    for path in run_folder.glob("floors/*.json"):
        path.unlink()
    damaged = run_folder / "floors" / "0.json"
    keys = ([], ["floor x", "a", "b", 1, 1], ["floor 0"], 3)
    texts = ["{", "[]", "{}", *(json.dumps({"key": k, "platform": platform, "values": {}}) for k in keys)]
    for text in texts:
        damaged.write_text(text)
        assert read_floors(run_folder) == {}, text
    write_floors(run_folder, floors_of({KEY: VALUES}))
    assert read_floors(run_folder) == {KEY: VALUES}


@pytest.fixture
def run_prior(own_references, without_figures, tmp_path):
    """Runs the prior on two seeds of AA; with `resume` it goes on."""
    suite = tmp_path / "one@1.yaml"
    suite.write_text("systems: [AA]\nenergy: batched\nbudget: 60\nseeds: 2\n")
    options = {"out": tmp_path / "run", "workers": 0, "tracking_uri": "none"}

    def run(resume=False):
        return bgbench.run("prior", **({"resume": True} if resume else {"suite": str(suite)}), **options)

    return run


def test_a_second_cell_of_a_system_measures_no_floor_again(run_prior, tmp_path, timeless, monkeypatch):
    measured, score = [], Floors._score
    monkeypatch.setattr(Floors, "_score", lambda self, key: measured.append(key) or score(self, key))
    before = run_prior()
    assert all(record.floors for record in before)
    assert len(measured) == len(set(measured))
    (tmp_path / "run" / "cells" / "AA-s1.json").unlink()
    measured.clear()
    after = run_prior(resume=True)
    assert measured == []
    assert timeless(after) == timeless(before)


def test_floors_are_saved_also_where_the_cell_fails_after_judging(run_prior, tmp_path, monkeypatch):
    def fail(*words):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(page, "diagnose", fail)
        with pytest.raises(KeyboardInterrupt):
            run_prior()
    assert not list((tmp_path / "run" / "cells").glob("*.json"))
    saved = {json.loads(path.read_bytes())["key"][0] for path in (tmp_path / "run" / "floors").glob("*.json")}
    assert saved == {"control", "floor 0", "floor 1", "floor 2", "floor 3"}
    monkeypatch.setattr(Floors, "_score", None)
    assert {record.status for record in run_prior(resume=True)} == {"ok"}


def test_floors_that_cannot_be_saved_end_no_cell(run_prior, monkeypatch):
    def full(*words):
        raise BgbenchError("cannot write: no space left on device")

    monkeypatch.setattr(cells, "write_floors", full)
    assert {record.status for record in run_prior()} == {"ok"}
