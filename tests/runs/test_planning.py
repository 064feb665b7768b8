"""A request is resolved once into a plan, and a run is resumed only as it was planned."""

import inspect
import json
import sys

import pytest

import bgbench
from bgbench import BgbenchError
from bgbench.evaluation.cell import Cell
from bgbench.runs.planning import resolve
from bgbench.runs.request import KEYWORDS, RunRequest
from bgbench.runs.resuming import NOT_COMPARED, completed, differences
from bgbench.runs.runfolder import Inputs, Plan, RunFolder, new_plan

OPTIONS = {"width": "0.1", "estimator.cut": "psis", "temperature": "350"}


@pytest.fixture
def plan(make_cell):
    """Two systems and two seeds."""
    cells = [
        make_cell(system=name, seed=seed, options={"width": "1"}) for name in ("AA", "DI") for seed in (0, 1)
    ]
    return new_plan(cells, "hash", "none", Inputs(references={"AA": "a", "DI": "d"}))


OTHER = {str: "other", int: 7, float: 1.5, dict[str, str]: {"width": "2"}}
"""Another value of each type that cells and plans have."""


@pytest.mark.parametrize("name", Cell.model_fields)
def test_every_field_of_a_cell_is_compared(plan, name):
    changed = plan.cells[0].model_copy(update={name: OTHER[Cell.model_fields[name].annotation]})
    (difference, *_) = differences(plan, plan.model_copy(update={"cells": [changed, *plan.cells[1:]]}))
    assert difference.field.partition(".")[0] == name


@pytest.mark.parametrize("name", sorted(set(Plan.model_fields) - NOT_COMPARED - set(Cell.model_fields)))
def test_every_other_field_of_a_plan_is_compared(plan, name):
    kind = Plan.model_fields[name].annotation
    changed = Inputs(references={"AA": "other", "DI": "d"}) if kind is Inputs else OTHER[kind]
    (difference,) = differences(plan, plan.model_copy(update={name: changed}))
    assert difference.field == ("inputs.references.AA" if kind is Inputs else name)


def test_a_plan_equals_itself_and_one_with_a_cell_less_differs(plan):
    assert differences(plan, plan) == []
    fewer = plan.model_copy(update={"cells": plan.cells[:3]})
    assert [difference.field for difference in differences(plan, fewer)] == ["cells"]


def test_a_request_that_leaves_all_open_stands_for_the_plan_it_resumes(make_cell):
    cell = make_cell(
        seed=3, budget=7, temperature=350.0, estimator="snis", protocol="paper@1", options={"width": "1"},
        estimator_options={"cut": "psis"},
    )  # fmt: skip
    plan = new_plan([cell, cell.model_copy(update={"seed": 4})], "hash", "none")
    request = completed(RunRequest(sampler="prior"), plan)
    assert (request.first_seed, request.seeds, request.budget) == (3, 2, 7)
    assert (request.temperature, request.estimator, request.protocol) == (350.0, "snis", "paper@1")
    assert (request.options, request.estimator_options) == ({"width": "1"}, {"cut": "psis"})
    one = completed(RunRequest(sampler="prior", options={"height": "2"}, budget=9), plan)
    assert one.options == {"width": "1", "height": "2"}
    assert one.budget == 9


def test_options_in_words_become_fields_of_the_request():
    request = RunRequest.from_keywords("md", options={**OPTIONS, "step": 2}, seeds=None)
    assert request.options == {"width": "0.1", "step": "2"}
    assert request.estimator_options == {"cut": "psis"}
    assert request.temperature == 350.0
    assert request.seeds is None


def test_every_field_of_a_request_is_a_keyword_of_run():
    keywords = set(inspect.signature(bgbench.run).parameters) - {"sampler", "observer", "unknown"}
    assert keywords == KEYWORDS


@pytest.mark.parametrize(
    ("keywords", "complaint"),
    [
        ({"temperature": 350}, r"no keyword 'temperature'; write options=\{'temperature': '350'\}"),
        ({"seed": 7}, "no keyword 'seed'; did you mean 'seeds'?"),
        ({"num_seeds": 3}, "did you mean 'seeds'?"),
        ({"temperatur": 350}, "write options={'temperature': '350'}"),
        ({"estimator_options": {}}, r"write options=\{'estimator.NAME': 'VALUE'\}"),
        ({"qqq": 1}, "its keywords are budget, "),
        ({"budget": "many"}, "budget='many' is not valid: input should be a valid integer"),
        ({"only": "AA"}, "only='AA' is not valid"),
        ({"options": ["width=1"]}, "options must map names to values"),
        ({"budget": 0}, "--budget must be at least 1, got 0"),
        ({"first_seed": -1}, "--first-seed must be at least 0, got -1"),
        ({"options": {"temperature": "0"}}, "--set temperature must be positive, got 0"),
        ({"options": {"temperature": "warm"}}, "'warm' is not a temperature in K"),
        ({"options": {"temperature": "inf"}}, "--set temperature must be finite"),
        ({"resume": True}, "--resume needs to know which run"),
        ({"retry_failed": True}, "--retry-failed has no effect without --resume; add --resume"),
        ({"budget": True}, "budget=True is not a number"),
        ({"seeds": True}, "seeds=True is not a number"),
        ({"first_seed": False}, "first_seed=False is not a number"),
        ({"workers": True}, "workers=True is not a number"),
        ({"timeout": True}, "timeout=True is not a number"),
        ({"only": []}, r"only=\[\] names no system; leave it out to run all"),
        ({"scheduler": "tcp://h:1", "workers": 2}, "--workers 2 has no effect with --scheduler"),
        ({"cluster": "slurm", "workers": 0}, "--workers 0 runs cells in this process and --cluster in jobs"),
        *(
            (
                {"tracking_uri": word},
                f"--tracking-uri '{word}': write none to mirror nothing, or ./{word} for",
            )
            for word in ("None", "no", "off", "FALSE", "null")
        ),
    ],
)
def test_an_impossible_request_is_refused_with_the_value_and_a_way_out(keywords, complaint):
    with pytest.raises(BgbenchError, match=complaint):
        bgbench.run("prior", **keywords)


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("--budget", 20, "--budget", 30), "--budget is there twice and has one value only"),
        (("--out", "a", "--out", "b"), "--out is there twice"),
        (("--set", "width=0.1", "--set", "width=0.2"), "--set width is there twice, as '0.1' and as '0.2'"),
        (("--set", "temperature=300", "--set", "temperature=320"), "--set temperature is there twice"),
    ],
)
def test_an_option_with_two_values_is_refused(cli, words, complaint):
    code, _, err = cli("run", "prior", "--workers", 0, *words)
    assert code == 2
    assert complaint in err


def test_options_of_every_command_are_refused_when_repeated(cli):
    for words in (
        ("audit", "prior", "--seed", 1, "--seed", 2),
        ("data", "simulate", "AA", "--frames", 1, "--frames", 2),
        ("compare", "r", "--figure", "a.png", "--figure", "b.png"),
        ("leaderboard", "build", "--out", "a", "--out", "b"),
    ):
        code, _, err = cli(*words)
        assert code == 2
        assert f"bgbench: {words[-2]} is there twice" in err
    code, _, err = cli("train", "verse", "--config", "a", "--set", "config=b")
    assert (code, "--config a and --set config=b: leave one of them out" in err) == (2, True)


def test_resuming_what_is_no_run_starts_none(cli, tmp_path):
    words = ("run", "prior", "--only", "AA", "--budget", 20, "--workers", 0, "--tracking-uri", "none")
    (tmp_path / "empty").mkdir()
    for name in ("nowhere", "empty"):
        code, _, err = cli(*words, "--out", tmp_path / name, "--resume")
        assert code == 2
        assert f"{name} holds no run; name the folder of the run with --out, or leave out" in err.replace(
            "\n", " "
        )
    assert [path.name for path in tmp_path.iterdir()] == ["empty"]
    assert not list((tmp_path / "empty").iterdir())


def test_resuming_with_another_temperature_is_refused_and_without_options_goes_on(cli, tmp_path):
    arguments = ["run", "prior", "--out", tmp_path / "R", "--workers", 0, "--tracking-uri", "none", "--quiet"]
    assert cli(*arguments, "--only", "AA", "--budget", 20, "--set", "temperature=320")[0] == 0
    before = (tmp_path / "R" / "cells" / "AA-s0.json").read_bytes()
    code, _, err = cli(*arguments, "--resume", "--set", "temperature=350")
    assert code == 2
    assert "was planned with temperature 320, not 350" in err
    assert cli(*arguments, "--resume")[0] == 0
    assert cli(*arguments, "--resume", "--only", "AA", "--set", "temperature=320")[0] == 0
    assert (tmp_path / "R" / "cells" / "AA-s0.json").read_bytes() == before


def test_a_suite_file_that_changed_stops_a_resume(own_references, tmp_path):
    suite = tmp_path / "tiny@1.yaml"
    suite.write_text("systems: [AA]\nenergy: batched\nbudget: 20\nseeds: 1\n")
    arguments = {"out": tmp_path / "R", "workers": 0, "tracking_uri": "none"}
    bgbench.run("prior", suite=str(suite), **arguments)
    suite.write_text("# a comment\nsystems: [AA]\nenergy: batched\nbudget: 20\nseeds: 1\n")
    with pytest.raises(BgbenchError, match="planned with suite_sha256"):
        bgbench.run("prior", suite=str(suite), resume=True, **arguments)
    bgbench.run("prior", resume=True, **arguments)


def test_a_plan_keeps_the_schema_of_its_file(tmp_path):
    request = RunRequest(sampler="prior", only=("AA",), budget=20, seeds=1)
    folder = RunFolder.create(tmp_path / "R", resolve(request, "none"))
    stored = json.loads((folder.path / "run.json").read_text())
    assert list(stored) == [
        "schema_version", "id", "sampler", "suite", "suite_sha256", "estimator", "protocol", "budget",
        "cells", "created", "tracking_uri", "inputs", "sources",
    ]  # fmt: skip
    assert list(stored["cells"][0]) == [
        "sampler", "estimator", "protocol", "suite", "system", "budget", "seed", "temperature", "energy",
        "options", "estimator_options",
    ]  # fmt: skip


def test_runs_that_start_in_the_same_second_get_folders_of_their_own(tmp_path, monkeypatch):
    from bgbench import api

    class Frozen(api.datetime):
        @classmethod
        def now(cls, tz=None):
            return cls(2026, 1, 1)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(api, "datetime", Frozen)
    plan = resolve(RunRequest(sampler="prior", only=("AA",)), "none")
    names = [api.new_folder(plan).name for _ in range(3)]
    stem = "20260101-000000-prior-dipeptides-mini@1"
    assert names == [stem, f"{stem}-2", f"{stem}-3"]


@pytest.mark.usefixtures("without_figures")
def test_a_worker_imports_nothing_from_the_working_folder(tmp_path, analytic_suite, monkeypatch):
    (tmp_path / "random.py").write_text("raise RuntimeError('not mine')\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [place for place in sys.path if place not in ("", ".")])
    [record] = bgbench.run(
        "prior", suite=analytic_suite, only=["analytic:harmonic"], workers=1, out="R", tracking_uri="none"
    )
    assert record.status == "ok", record.error


def test_a_run_is_not_resumed_with_edited_code_and_the_way_back_is_named(
    cli, analytic_suite, tmp_path, monkeypatch
):
    """Of a checkout, whose code anybody may have edited since."""
    words = ("run", "prior", "--suite", analytic_suite, "--out", tmp_path / "run", "--workers", 0)
    assert cli(*words, "--only", "analytic:harmonic", "--tracking-uri", "none")[0] == 0
    run = RunFolder.open(tmp_path / "run")
    (record,) = run.records()
    git = {"commit": "0123456789abcdef", "dirty": True}
    run.replace_records([record.model_copy(update={"provenance": {**record.provenance, "git": git}})])
    monkeypatch.setattr("bgbench.runs.planning.code_sha256", lambda package: "edited")
    code, _, err = cli("run", "prior", "--out", tmp_path / "run", "--resume")
    assert code == 2
    assert f"{tmp_path / 'run'} was planned with other code of " in err
    assert (
        "results would mix; any edit of its files counts; go back to the bgbench_controls of the plan (c"
        in err
    )
    assert "(commit 0123456789ab and changes that were not committed), or start a new run with another" in err
