"""Headline runs in parts: seeds added to what is kept make the run of all of them."""

import importlib
from pathlib import Path

import pytest

import bgbench
from bgbench.core.files import write_json
from bgbench.reports.curves import curve
from bgbench.runs.provenance import provenance, versions
from bgbench.runs.runfolder import RunFolder

ROOT = Path(__file__).parent.parent


@pytest.fixture
def headline(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return importlib.import_module("headline")


def made(path, **choices):
    found = {
        "suite": "dipeptides-mini",
        "only": ("AA", "DI"),
        "budget": 200,
        "workers": 0,
        "tracking_uri": "none",
    }
    bgbench.run("reference", **{**found, "out": path, **choices})
    return path


def test_added_seeds_make_the_run_of_all_of_them(headline, tmp_path):
    whole = RunFolder.open(made(tmp_path / "whole" / "reference", seeds=3))
    kept = tmp_path / "kept"
    headline.take(made(tmp_path / "first" / "reference", seeds=1), kept)
    later = made(tmp_path / "later" / "reference", seeds=2, first_seed=1)
    headline.join(later, kept)
    joined = RunFolder.open(kept / "reference")
    assert joined.plan.model_dump(exclude={"created", "tracking_uri"}) == whole.plan.model_dump(
        exclude={"created", "tracking_uri"}
    )
    assert [record.metrics for record in joined.records()] == [record.metrics for record in whole.records()]
    for ours, theirs in zip(curve(joined), curve(whole), strict=True):
        assert ours.metrics == pytest.approx(theirs.metrics)
        assert ours.floors == pytest.approx(theirs.floors)
    with pytest.raises(SystemExit, match="seeds that it has"):
        headline.join(later, kept)


@pytest.mark.parametrize(
    ("changes", "named"),
    [({"budget": 300}, "budget"), ({"options": {"variant": "mode-deleted"}}, "options")],
)
def test_seeds_of_another_run_are_refused(headline, tmp_path, changes, named):
    kept = tmp_path / "kept"
    headline.take(made(tmp_path / "first" / "reference", seeds=1), kept)
    with pytest.raises(SystemExit, match=f"cannot take the seeds of .*: {named}"):
        headline.join(made(tmp_path / "later" / "reference", seeds=1, first_seed=1, **changes), kept)


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
    asked = headline.kind(headline.arguments())
    assert asked == ("tetrapeptides30", "bgbench@1", 100, ("GCDE", "GGRS"))
    assert headline.markers(*asked)[0].endswith("tetrapeptides30 --budget 100 --only GCDE GGRS -->")


def test_kept_runs_of_other_systems_are_not_replaced(headline, tmp_path, monkeypatch):
    monkeypatch.setattr(headline, "KEPT", tmp_path / "kept")
    run = made(tmp_path / "runs" / "reference", seeds=1)
    headline.take(run, tmp_path / "kept" / "dipeptides-mini-200")
    words = ["headline.py", "dipeptides-mini", "--budget", "200", "--seeds", "1", "--samplers", "reference"]
    for more, told in (([], "the whole suite"), (["--only", "AA"], "AA")):
        monkeypatch.setattr("sys.argv", [*words, *more])
        with pytest.raises(SystemExit, match=f"is of AA DI, not of {told}; move .*-200 away first"):
            headline.main()
    monkeypatch.setattr("sys.argv", [*words, "--only", "DI", "AA"])
    with pytest.raises(SystemExit, match=r"no place for it; put <!-- .* --budget 200 --only AA DI -->"):
        headline.main()
    assert headline.opened(tmp_path / "kept" / "dipeptides-mini-200")


def test_kept_seeds_are_not_run_again(headline, tmp_path, monkeypatch):
    headline.take(made(tmp_path / "first" / "reference", seeds=2), tmp_path / "kept" / "dipeptides-mini")
    monkeypatch.setattr(headline, "KEPT", tmp_path / "kept")

    def due(first, seeds):
        words = ["headline.py", "dipeptides-mini", "--first-seed", first, "--seeds", seeds]
        monkeypatch.setattr("sys.argv", words)
        return headline.seeds_to_come(headline.arguments(), "reference")

    assert not due("1", "1")
    assert due("2", "2")
    with pytest.raises(SystemExit, match=r"has seeds \[1\] already; ask for \[2\] alone"):
        due("1", "2")


def test_a_table_without_a_place_in_the_readme_stops_it_before_hours_of_runs(headline, tmp_path, monkeypatch):
    monkeypatch.setattr("sys.argv", ["headline.py", "dipeptides-mini", "--out", str(tmp_path)])
    with pytest.raises(SystemExit, match=r"no place for it; put <!-- headline: .*dipeptides-mini -->"):
        headline.main()
    assert not list(tmp_path.iterdir())


def test_judged_anew_a_run_has_the_numbers_of_today(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    run = RunFolder.open(made(tmp_path / "reference", seeds=1))
    curve(run)
    before = run.records()
    stale = before[0].model_copy(update={"metrics": {**before[0].metrics, "torus_w2": 7.0}})
    write_json(run.record_path(stale.cell), stale)
    importlib.import_module("rejudge").rejudge(run.path)
    for old, new in zip(before, run.records(), strict=True):
        assert new.metrics["torus_w2"] == pytest.approx(old.metrics["torus_w2"])
        assert new.provenance == old.provenance
        assert new.diagnostics["rejudged"] == {"bgbench": versions()["bgbench"], **provenance()["git"]}
    assert not (run.path / "curve.json").exists()
