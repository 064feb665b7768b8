"""Packing runs: what goes in, what is reported, what is refused."""

import itertools
import json
import shutil
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch

from bgbench import peptide
from bgbench.authoring.check import CheckReport
from bgbench.core.files import write_json
from bgbench.leaderboard.board import accept, validate_board
from bgbench.leaderboard.details import facts, laws_of
from bgbench.leaderboard.entries import open_entry
from bgbench.leaderboard.problems import Refused
from bgbench.leaderboard.reproduce import reproduce
from bgbench.leaderboard.site import build
from bgbench.leaderboard.submit import public, submit
from bgbench.leaderboard.tables import tables_of
from bgbench.leaderboard.validate import validate
from bgbench.runs.runfolder import RunFolder
from bgbench.testing import check

SAID = {"authors": ["Nobody"], "licence": "CC-BY-4.0"}


@pytest.fixture
def run(runs, tmp_path):
    return shutil.copytree(runs["verse"], tmp_path / "run")


def test_a_sound_run_is_packed_and_recomputed(packed):
    report = validate(packed["verse"])
    assert report.problems == ()
    assert report.verdict.tier == "recomputed"
    assert set(report.verdict.cells.values()) == {"recomputed"}
    assert report.verdict.energies > 6 * 32
    assert report.verdict.energy_difference < 0.05


def test_nothing_private_is_packed(runs, packed):
    names = {path.name for path in packed["verse"].rglob("*")}
    assert not {"mlflow.db", ".lock", "figures"} & names
    plan = json.loads((packed["verse"] / "run.json").read_text())
    assert plan["tracking_uri"] == ""
    everything = "".join(path.read_text() for path in packed["verse"].rglob("*.json"))
    assert str(runs["verse"]) not in everything


def test_the_command_line_packs_and_tells_what_is_public(cli, runs, tmp_path):
    code, out, err = cli(
        "leaderboard",
        "submit",
        runs["prior"],
        "--to",
        tmp_path,
        "--author",
        "Nobody",
        "--note",
        "a control",
    )
    assert code == 0, err
    assert "this will be public" in out
    for word in (
        "authors: Nobody",
        "CC-BY-4.0",
        "bgbench==",
        "machine:",
        "device: cpu, float32",
        "card:",
        "arrays: in the folder",
    ):
        assert word in out
    (folder,) = tmp_path.iterdir()
    assert folder.name == "prior-none-tiny-1-bgbench-1-100"
    assert open_entry(folder).entry.control, "prior is registered as a control"
    code, out, _ = cli("leaderboard", "validate", folder)
    assert code == 0
    assert "sound" in out
    assert "recomputed" in out


def test_an_author_is_asked_for(cli, runs, tmp_path):
    code, _, err = cli("leaderboard", "submit", runs["prior"], "--to", tmp_path)
    assert code == 2
    assert "--author" in err


def test_a_run_that_is_refused_does_not_keep_others_back(cli, runs, tmp_path):
    absent, to = tmp_path / "absent", tmp_path / "to"
    arguments = ("--to", to, "--author", "Nobody")
    code, out, err = cli("leaderboard", "submit", absent, runs["prior"], *arguments)
    assert code == 2
    assert f"bgbench: {absent}: " in err
    (folder,) = to.iterdir()
    assert f"packed: {folder}" in out


def refused(run, to, reason, **said):
    with pytest.raises(Refused) as caught:
        submit(run, to, {**SAID, **said})
    assert caught.value.problems[0].reason == reason, caught.value
    assert not to.exists() or not list(to.iterdir()), "a refused submission leaves nothing behind"


def test_an_incomplete_run_is_refused(run, tmp_path):
    (run / "cells" / "GS-s1.json").unlink()
    refused(run, tmp_path / "to", "incomplete")


def test_an_edited_record_is_refused(run, tmp_path):
    path = run / "cells" / "GS-s1.json"
    record = json.loads(path.read_text())
    record["metrics"]["torus_w2"] *= 0.9
    path.write_text(json.dumps(record))
    refused(run, tmp_path / "to", "metrics")


def test_a_damaged_record_is_refused(run, tmp_path):
    (run / "cells" / "GS-s1.json").write_text("{")
    refused(run, tmp_path / "to", "schema")


def test_changed_arrays_are_refused(run, tmp_path):
    shutil.copy(run / "arrays" / "GS-s0.npz", run / "arrays" / "GS-s1.npz")
    refused(run, tmp_path / "to", "hash")


def test_two_seeds_are_too_few(make_run, tmp_path):
    refused(make_run("prior", tmp_path / "run", seeds=2), tmp_path / "to", "incomplete")


def test_one_system_is_not_a_suite(make_run, tmp_path):
    refused(make_run("prior", tmp_path / "run", only=("AA",)), tmp_path / "to", "incomplete")


CARD = {"name": "NVIDIA H100 80GB HBM3", "precision": "TF32", "driver": "550.54.15", "cuda": "13.0"}


def test_what_computed_is_shown_and_of_older_records_the_machine(packed, monkeypatch):
    """`host.gpu` is a card that is there: a run on the CPU beside it did not compute on it."""
    files = open_entry(packed["verse"])

    def shown(*devices):
        records = []
        for record, device in zip(files.records, itertools.cycle(devices), strict=False):
            host = {**record.provenance["host"], "gpu": "NVIDIA H100 80GB HBM3", "cpu": "Xeon"}
            provenance = {**record.provenance, "host": {**host, "torch_threads": 2}, "device": device}
            records.append(record.model_copy(update={"provenance": provenance}))
        changed = replace(files, records=tuple(records))
        (table,) = tables_of([changed])
        (row,) = table.rows
        page = {name: value for name, value in facts(row, table) if name in ("machine", "device")}
        lines = [line for line in public(changed) if line.startswith(("machine:", "device:"))]
        assert lines == [f"{name}: {value}" for name, value in page.items()]
        return page

    cpu = {"device": "cpu", "precision": "float32", "task_device": "cpu"}
    one, two = ({**CARD, "device": f"cuda:{k}", "task_device": f"cuda:{k}"} for k in range(2))
    assert shown(cpu) == {"machine": "Xeon, 2 threads", "device": "cpu, float32"}
    card = "NVIDIA H100 80GB HBM3, TF32, driver 550.54.15"
    assert shown(one, two)["device"] == f"cuda:0, {card}; cuda:1, {card}"
    assert shown({**cpu, "task_device": "cuda:0"})["device"] == "cpu, float32, not on cuda:0 as it could have"
    assert shown({}) == {"machine": "Xeon, GPU NVIDIA H100 80GB HBM3, 2 threads"}


def test_an_unknown_licence_is_refused(run, tmp_path):
    refused(run, tmp_path / "to", "licence", licence="all mine")


def test_arrays_published_elsewhere_are_recomputed_only_where_they_are_at_hand(runs, tmp_path):
    opened = submit(runs["verse"], tmp_path, {**SAID, "name": "far"}, arrays_url="https://example.org/verse/")
    assert not list((opened.folder / "arrays").iterdir())
    assert opened.entry.remote["AA-s0"].url == "https://example.org/verse/AA-s0.npz"
    assert validate(opened.folder).verdict.tier == "reported"
    assert validate(opened.folder, runs["verse"] / "arrays").verdict.tier == "recomputed"


def test_arrays_may_stay_with_the_authors(runs, tmp_path):
    opened = submit(runs["verse"], tmp_path / "to", {**SAID, "name": "kept"}, arrays_url="")
    assert not list((opened.folder / "arrays").iterdir())
    assert opened.entry.remote["AA-s0"].url == ""
    assert any("kept by the authors" in line for line in public(opened))
    assert validate(opened.folder, runs["verse"] / "arrays").verdict.tier == "recomputed"
    accept(opened.folder, tmp_path / "board")
    assert open_entry(tmp_path / "board" / "records" / "kept").tier == "reported"
    assert not any(validate_board(tmp_path / "board").values())
    build(tmp_path / "board", tmp_path / "site")
    assert "AA-s0, kept by the authors" in (tmp_path / "site" / "entries" / "kept.html").read_text()


def test_arrays_that_are_gone_are_said_to_be(run, tmp_path):
    (run / "arrays" / "AA-s0.npz").unlink()
    for url in (None, "https://example.org/prior"):
        with pytest.raises(Refused) as caught:
            submit(run, tmp_path / "to", {**SAID, "name": "gone"}, arrays_url=url)
        assert [problem.reason for problem in caught.value.problems] == ["hash"]
    opened = submit(run, tmp_path / "to", {**SAID, "name": "gone"}, arrays_url="")
    assert opened.entry.remote["AA-s0"].size is None
    assert any(f"but 1 of {len(opened.records)}, which are gone" in line for line in public(opened))
    verdict = validate(opened.folder, run / "arrays").verdict
    assert verdict.tier == verdict.cells["AA-s0"] == "reported"
    assert verdict.cells["AA-s1"] == "recomputed"
    for path in run.glob("arrays/*.npz"):
        path.unlink()
    without = submit(run, tmp_path / "without", {**SAID, "name": "gone"}, arrays_url="")
    assert f"arrays: all {len(without.records)} are gone: tier reported" in public(without)
    accept(opened.folder, tmp_path / "board")
    build(tmp_path / "board", tmp_path / "site")
    assert "AA-s0, not kept" in (tmp_path / "site" / "entries" / "gone.html").read_text()


def test_the_command_of_an_entry_names_its_first_seed(packed):
    opened = open_entry(packed["verse"])
    assert "--first-seed" not in opened.command
    cells = [cell.model_copy(update={"seed": cell.seed + 5}) for cell in opened.plan.cells]
    later = replace(opened, plan=opened.plan.model_copy(update={"cells": cells}))
    assert later.command.endswith("--seeds 3 --first-seed 5")


def test_arrays_are_kept_or_published_not_both(cli, runs):
    words = ["submit", str(runs["verse"]), "--author", "A", "--no-arrays", "--arrays-url", "https://a.org"]
    code, _, err = cli("leaderboard", *words)
    assert code == 2
    assert "leave one of them out" in err


def test_several_runs_are_packed_under_their_own_names(cli, runs, tmp_path):
    words = ["submit", str(runs["verse"]), str(runs["prior"]), "--author", "A", "--to", str(tmp_path / "to")]
    code, out, err = cli("leaderboard", *words)
    assert code == 0, err
    assert sorted(path.name.partition("-")[0] for path in (tmp_path / "to").iterdir()) == ["prior", "verse"]
    assert out.count("this will be public") == 2
    code, _, err = cli("leaderboard", *words, "--name", "mine")
    assert code == 2
    assert "is for one run" in err


def test_a_failed_cell_is_published_as_what_it_is(run, tmp_path):
    """A cell that crashed keeps its row; its entry has no means and no rank."""
    from bgbench.leaderboard.tables import tables_of

    path = run / "cells" / "GS-s1.json"
    record = json.loads(path.read_text())
    record |= {
        "status": "crash",
        "error": "ValueError: <class 'int'>",
        "metrics": {},
        "floors": {},
        "skills": {},
    }
    record |= {"arrays": None, "card": {}, "reference": {}, "leakage": "unknown"}
    path.write_text(json.dumps(record))
    (run / "arrays" / "GS-s1.npz").unlink()
    (run / "curve.json").unlink(missing_ok=True)
    opened = submit(run, tmp_path / "to", SAID)
    assert opened.missing == [("GS-s1", "crash: ValueError: <class 'int'>")]
    (row,) = tables_of([opened])[0].rows
    assert not row.ranked
    assert not row.ranks
    assert not row.intervals


@pytest.fixture(scope="module")
def elsewhere(make_run, tmp_path_factory):
    """A run of samples that were made elsewhere, on the tiny suite."""
    folder = tmp_path_factory.mktemp("elsewhere")
    for name in ("AA", "GS"):
        system = peptide(name)
        noise = torch.randn(120, system.n_atoms, 3, generator=torch.Generator().manual_seed(2))
        np.savez(folder / f"{name}.npz", x=(system.positions + 0.01 * noise).numpy())
    return make_run("samples", folder / "run", options={"file": folder, "top": "system"})


def test_samples_that_were_made_elsewhere_have_a_tier_of_their_own(elsewhere, runs, packed, tmp_path, cli):
    entry = submit(elsewhere, tmp_path, {**SAID, "name": "elsewhere"})
    board = tmp_path / "board"
    event = accept(entry.folder, board)
    accept(packed["prior"], board)
    assert event.tier == "samples-only"
    published = open_entry(board / "records" / "elsewhere")
    assert published.tier == published.verdict.tier == "samples-only"
    assert set(published.verdict.cells.values()) == {"recomputed"}
    (table,) = tables_of([open_entry(path) for path in (board / "records").iterdir()])
    ranks = {row.name: (row.ranked, bool(row.ranks)) for row in table.rows}
    assert ranks == {"prior": (True, True), "elsewhere": (False, False)}
    claims = published.verdict.model_copy(update={"tier": "recomputed"})
    write_json(board / "records" / "elsewhere" / "verdict.json", claims)
    (problem,) = validate(board / "records" / "elsewhere").problems
    assert problem.text == "claims recomputed for samples that were made elsewhere"
    assert open_entry(board / "records" / "elsewhere").tier == "samples-only"
    with pytest.raises(Refused, match="its samples were made elsewhere; nothing can be run again"):
        reproduce("elsewhere", board, runs["prior"])
    figure = tmp_path / "comparison.svg"
    code, out, _ = cli("compare", elsewhere, runs["prior"], "--metric", "torus_w2", "--figure", figure)
    assert code == 0
    assert "samples: samples made elsewhere, never ranked: their cost is not known" in out


def report_on(run, **changes):
    """A report of `bgbench check` as it would be of the sampler of a run."""
    plan = RunFolder.open(run).plan
    distribution, _, version = plan.inputs.plugins["sampler"].rpartition(" ")
    finding = {"law": "test_a", "topic": "units", "why": "", "change": ""}
    fields = {
        "name": plan.sampler,
        "kind": "samplers",
        "distribution": distribution,
        "version": version,
        "code_sha256": next(iter(plan.inputs.code.values())),
        "options": {},
        "versions": {},
        "seconds": 1.0,
        "findings": [
            {**finding, "verdict": "passed", "message": ""},
            {**finding, "verdict": "failed", "message": "an Å is no nm, raised <class 'KeyError'>"},
        ],
    }
    return CheckReport.model_validate({**fields, **changes})


def test_the_report_of_the_laws_is_packed_and_shown(runs, tmp_path):
    files = submit(runs["verse"], tmp_path, {**SAID, "name": "with-laws"}, check=report_on(runs["verse"]))
    assert open_entry(files.folder).check == files.check
    shown = "1 of 2 hold, 0 skipped; units: an Å is no nm, raised <class 'KeyError'>"
    assert laws_of(files) == shown
    assert f"laws: {shown}" in public(files)
    board = tmp_path / "board"
    accept(files.folder, board)
    build(board, tmp_path / "site")
    page = (tmp_path / "site" / "entries" / "with-laws.html").read_text()
    assert "1 of 2 hold, 0 skipped; units: an Å is no nm, raised &lt;class" in page


def test_an_entry_without_a_report_says_so(packed):
    assert laws_of(open_entry(packed["verse"])) == "not reported"


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"name": "prose"}, "it is of 'prose' (samplers), not of 'verse'"),
        ({"kind": "energies"}, "it is of 'verse' (energies)"),
        ({"version": "9.9"}, "9.9, the run of bgbench"),
        ({"code_sha256": "0" * 64}, "code was another than that of the run"),
        ({"options": {"weights": "mine"}}, "its options are {'weights': 'mine'}, those of the run {}"),
    ],
)
def test_a_report_of_something_else_is_refused(changes, complaint, runs, submission):
    write_json(submission / "check.json", report_on(runs["verse"], **changes))
    problems = validate(submission).problems
    assert [problem.reason for problem in problems] == ["check"]
    assert complaint in problems[0].text


def test_the_command_line_runs_the_laws(cli, runs, tmp_path, monkeypatch):
    monkeypatch.setattr("bgbench.testing.check", partial(check, seconds=0.0, fresh_process=False))
    code, printed, _ = cli(
        "leaderboard", "submit", runs["prior"], "--to", tmp_path, "--author", "A", "--check"
    )
    assert code == 0
    assert "  laws: 0 of 0 hold, " in printed
    [folder] = [path for path in tmp_path.iterdir() if path.is_dir()]
    assert open_entry(folder).check.name == "prior"
