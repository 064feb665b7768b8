"""Headline runs in parts: seeds added to what is kept make the run of all of them."""

import errno
import importlib
import os
import shutil
from pathlib import Path

import pytest

import bgbench
from bgbench import BgbenchError
from bgbench.core.files import write_json
from bgbench.reports.curves import curve
from bgbench.runs.provenance import provenance, versions
from bgbench.runs.runfolder import RunFolder

ROOT = Path(__file__).parent.parent


@pytest.fixture
def headline(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return importlib.import_module("headline")


@pytest.fixture(scope="module")
def references(tmp_path_factory, make_reference):
    """Small references, whose halves are larger than the budget of the runs."""
    folder = tmp_path_factory.mktemp("references")
    for name in ("AA", "DI"):
        make_reference(folder, name, 2 * BUDGET + 20)
    return folder


@pytest.fixture(autouse=True)
def small_references(references, without_figures, monkeypatch):
    monkeypatch.setenv("BGBENCH_REFERENCES", str(references))


@pytest.fixture(scope="module")
def parts(references, tmp_path_factory):
    """Runs of the seeds 0 and 1, each in a folder of its own: not to be changed, but copied."""
    folder = tmp_path_factory.mktemp("parts")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BGBENCH_REFERENCES", str(references))
        patch.setattr("bgbench.api.draw_figures", lambda *words: None)
        for name, seed in (("first", 0), ("later", 1)):
            run_reference(folder / name / "reference", seeds=1, first_seed=seed)
    return folder


BUDGET = 110


def run_reference(path, **choices):
    defaults = {
        "suite": "dipeptides-mini",
        "only": ("AA", "DI"),
        "budget": BUDGET,
        "workers": 0,
        "tracking_uri": "none",
    }
    bgbench.run("reference", **{**defaults, "out": path, **choices})
    return path


def test_added_seeds_make_the_run_of_all_of_them(headline, parts, tmp_path):
    whole = RunFolder.open(run_reference(tmp_path / "whole" / "reference", seeds=3))
    store = tmp_path / "kept"
    headline.keep_run(shutil.copytree(parts / "first" / "reference", tmp_path / "first" / "reference"), store)
    later = run_reference(tmp_path / "later" / "reference", seeds=2, first_seed=1)
    headline.add_seeds(later, store)
    joined = RunFolder.open(store / "reference")
    assert joined.plan.model_dump(exclude={"created", "tracking_uri"}) == whole.plan.model_dump(
        exclude={"created", "tracking_uri"}
    )
    assert [record.metrics for record in joined.records()] == [record.metrics for record in whole.records()]
    for ours, theirs in zip(curve(joined), curve(whole), strict=True):
        assert ours.metrics == pytest.approx(theirs.metrics)
        assert ours.floors == pytest.approx(theirs.floors)
    with pytest.raises(SystemExit, match="seeds that it has"):
        headline.add_seeds(later, store)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"budget": 115}, "the budget is 110 evaluations in it and 115"),
        ({"options": {"variant": "mode-deleted"}}, "options"),
    ],
)
def test_seeds_of_another_run_are_refused(headline, parts, tmp_path, changes, named):
    store = tmp_path / "kept"
    headline.keep_run(shutil.copytree(parts / "first" / "reference", tmp_path / "first" / "reference"), store)
    with pytest.raises(SystemExit, match=f"cannot take the seeds of .*: {named}"):
        headline.add_seeds(
            run_reference(tmp_path / "later" / "reference", seeds=1, first_seed=1, **changes), store
        )


def test_seeds_are_added_to_what_is_kept_and_only_once(headline, monkeypatch, capsys):
    words = ["headline.py", "tetrapeptides30", "--first-seed", "1", "--seeds", "2", "--samplers", "md"]
    monkeypatch.setattr("sys.argv", [*words, "--commands"])
    headline.main()
    assert "--first-seed 1" in capsys.readouterr().out
    monkeypatch.setattr("sys.argv", [*words, "--protocol", "paper@1"])
    monkeypatch.setattr(headline, "KEPT", Path("/nowhere"))
    with pytest.raises(SystemExit, match="begin without --first-seed"):
        headline.main()


def test_a_smaller_budget_has_a_table_of_its_own_with_tbg(headline, monkeypatch, capsys):
    words = ["headline.py", "tetrapeptides30", "--budget", "100", "--only", "GGRS", "GCDE"]
    monkeypatch.setattr("sys.argv", [*words, "--commands"])
    headline.main()
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[2] for line in lines if "tbg" in line] == ["tbg"]
    assert all("--budget 100 --only GGRS --only GCDE" in line for line in lines)
    assert all("runs/headline/tetrapeptides30-100/" in line for line in lines)
    key = headline.key_of_arguments(headline.arguments())
    assert key == ("tetrapeptides30", "bgbench@1", 100, ("GCDE", "GGRS"))
    assert key.name == "tetrapeptides30-100"
    assert key.markers[0].endswith("tetrapeptides30 --budget 100 --only GCDE GGRS -->")


@pytest.mark.slow
def test_kept_runs_of_other_systems_are_not_replaced(headline, tmp_path, monkeypatch):
    monkeypatch.setattr(headline, "KEPT", tmp_path / "kept")
    run = run_reference(tmp_path / "runs" / "reference", seeds=1)
    headline.keep_run(run, tmp_path / "kept" / "dipeptides-mini-110")
    words = ["headline.py", "dipeptides-mini", "--budget", "110", "--seeds", "1", "--samplers", "reference"]
    for more, systems in (([], "the whole suite"), (["--only", "AA"], "AA")):
        monkeypatch.setattr("sys.argv", [*words, *more])
        with pytest.raises(SystemExit, match=f"is of AA DI, not of {systems}; move .*-110 away first"):
            headline.main()
    monkeypatch.setattr("sys.argv", [*words, "--only", "DI", "AA"])
    with pytest.raises(
        SystemExit, match=r"no place for the table; put <!-- .* --budget 110 --only AA DI -->"
    ):
        headline.main()
    assert headline.open_runs(tmp_path / "kept" / "dipeptides-mini-110")


@pytest.mark.slow
def test_kept_seeds_are_not_run_again(headline, tmp_path, monkeypatch):
    headline.keep_run(
        run_reference(tmp_path / "first" / "reference", seeds=2), tmp_path / "kept" / "dipeptides-mini"
    )
    monkeypatch.setattr(headline, "KEPT", tmp_path / "kept")

    def due(first, seeds):
        words = ["headline.py", "dipeptides-mini", "--first-seed", first, "--seeds", seeds]
        monkeypatch.setattr("sys.argv", words)
        return headline.seeds_are_missing(headline.arguments(), "reference")

    assert not due("1", "1")
    assert due("2", "2")
    with pytest.raises(SystemExit, match=r"has seeds \[1\] already; ask for \[2\] alone"):
        due("1", "2")


def test_a_table_without_a_place_in_a_page_stops_it_before_hours_of_runs(headline, tmp_path, monkeypatch):
    monkeypatch.setattr("sys.argv", ["headline.py", "dipeptides-mini", "--out", str(tmp_path)])
    with pytest.raises(SystemExit, match=r"no place for the table; put <!-- headline: .*dipeptides-mini -->"):
        headline.main()
    assert not list(tmp_path.iterdir())


def test_a_kept_file_is_the_old_one_or_the_new_one_whatever_stops_adding_seeds(
    headline, parts, tmp_path, monkeypatch
):
    store, runs = tmp_path / "kept", shutil.copytree(parts, tmp_path / "parts")
    headline.keep_run(runs / "first" / "reference", store)
    later = runs / "later" / "reference"
    before = (store / "reference.jsonl").read_bytes()

    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(BgbenchError, match="No space left"):
            headline.add_seeds(later, store)
    assert [path.name for path in store.iterdir()] == ["reference.jsonl"]
    assert (store / "reference.jsonl").read_bytes() == before
    headline.add_seeds(later, store)
    joined = RunFolder.open(store / "reference")
    assert [record.cell.name for record in joined.records()] == ["AA-s0", "AA-s1", "DI-s0", "DI-s1"]


@pytest.fixture
def stale(parts, tmp_path):
    """A finished run whose first record has a wrong metric, and its records as they were."""
    run = RunFolder.open(shutil.copytree(parts / "first" / "reference", tmp_path / "reference"))
    curve(run)
    before = run.records()
    changed = before[0].model_copy(update={"metrics": {**before[0].metrics, "torus_w2": 7.0}})
    write_json(run.record_path(changed.cell), changed)
    return run, before


@pytest.mark.parametrize("in_one_file", [False, True])
def test_judged_again_a_run_has_the_numbers_of_today(stale, monkeypatch, in_one_file):
    run, before = stale
    if in_one_file:  # its arrays stay in the folder of its name
        run.keep(run.path.with_name("reference.jsonl"))
        shutil.rmtree(run.path / "cells")
        (run.path / "run.json").unlink()
        run = RunFolder.open(run.path)
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    importlib.import_module("rejudge").rejudge(run.path)
    for old, new in zip(before, run.records(), strict=True):
        assert new.metrics["torus_w2"] == pytest.approx(old.metrics["torus_w2"])
        assert new.provenance == old.provenance
        assert new.diagnostics["rejudged"] == {"bgbench": versions()["bgbench"], **provenance()["git"]}
    assert run.read_curve() is None
