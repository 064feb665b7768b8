"""Headline runs in parts: seeds added to what is kept make the run of all of them."""

import importlib
from pathlib import Path

import pytest

import bgbench
from bgbench.curves import curve
from bgbench.runfolder import RunFolder

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
    with pytest.raises(SystemExit, match="it has some of them"):
        headline.join(later, kept)


def test_seeds_of_another_run_are_refused(headline, tmp_path):
    kept = tmp_path / "kept"
    headline.take(made(tmp_path / "first" / "reference", seeds=1), kept)
    with pytest.raises(SystemExit, match=r"cannot take the seeds of .*: budget"):
        headline.join(made(tmp_path / "later" / "reference", seeds=1, first_seed=1, budget=300), kept)
