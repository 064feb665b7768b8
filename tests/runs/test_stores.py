"""Runs in one file: read like run folders, replaced as a whole, and refused where they are damaged."""

import json

import pytest

import bgbench
from bgbench import BgbenchError
from bgbench.core.files import write_json
from bgbench.reports.compare import labels
from bgbench.reports.curves import curve
from bgbench.runs.runfolder import RunFolder
from bgbench.runs.stores import Curve, CurvePoint

POINT = CurvePoint(evaluations=100, seconds=0.1 + 0.2, metrics={"ess": 1 / 3}, floors={})


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run folder of two cells, with its curve."""
    out = tmp_path_factory.mktemp("runs") / "sampled"
    choices = {"suite": "dipeptides-mini", "only": ("AA",), "budget": 100, "seeds": 2}
    bgbench.run("reference", **choices, workers=0, tracking_uri="none", out=out)
    folder = RunFolder.open(out)
    folder.write_curve(Curve(records=[record.id for record in folder.records()], points=[POINT]))
    return folder


@pytest.fixture
def file(finished, tmp_path):
    finished.keep(tmp_path / "sampled.jsonl")
    return tmp_path / "sampled.jsonl"


def edit_line(file, number, change):
    lines = file.read_text().splitlines()
    fields = json.loads(lines[number])
    change(fields)
    lines[number] = json.dumps(fields)
    file.write_text("\n".join(lines) + "\n")


@pytest.mark.parametrize("ending", [".jsonl", ""])
def test_a_run_in_one_file_is_the_run_in_its_folder(finished, file, ending):
    folder = RunFolder.open(file.with_name(f"sampled{ending}"))
    assert folder.plan == finished.plan
    assert folder.records() == finished.records()
    assert [record.model_dump_json() for record in folder.records()] == [
        record.model_dump_json() for record in finished.records()
    ]
    assert curve(folder) == curve(finished)
    assert folder.missing() == []
    assert labels([folder]) == labels([finished])


def test_a_line_is_the_plan_and_each_other_line_a_record(finished, file):
    head, *records = map(json.loads, file.read_text().splitlines())
    assert head["plan"] == json.loads((finished.path / "run.json").read_text())
    assert [record["cell"]["seed"] for record in records] == [0, 1]
    assert records[0] == json.loads((finished.path / "cells" / "AA-s0.json").read_text())


def test_the_command_line_reads_it_like_a_folder(file, cli):
    for words in (["show", file], ["show", file.with_suffix("")]):
        code, printed, _ = cli(*words)
        assert code == 0
        assert printed.count("AA") >= 2
    code, _, complaint = cli("replay", file)
    assert code == 2
    assert "a run kept in one file has no arrays" in complaint


def test_replaced_records_stand_in_the_plans_order_and_the_curve_is_gone(file):
    folder = RunFolder.open(file)
    second = folder.records()[1]
    folder.replace_records([second.model_copy(update={"error": "changed"})])
    assert [record.error for record in folder.records()] == ["", "changed"]
    assert [record.cell.seed for record in folder.records()] == [0, 1]
    assert folder.read_curve() is None
    stranger = second.cell.model_copy(update={"seed": 7})
    with pytest.raises(BgbenchError, match="AA-s7 is not a cell of"):
        folder.replace_records([second.model_copy(update={"cell": stranger})])


def test_a_folders_replaced_records_lose_its_curve_too(file, tmp_path):
    archive = RunFolder.open(file)
    folder = RunFolder.create(tmp_path / "again", archive.plan)
    folder.write_curve(Curve(records=["x"], points=[POINT]))
    folder.replace_records(archive.records())
    assert folder.records() == archive.records()
    assert folder.read_curve() is None


def test_a_written_curve_leaves_the_records_alone(file):
    folder = RunFolder.open(file)
    before = file.read_bytes().splitlines()[1:]
    folder.write_curve(Curve(records=["x"], points=[]))
    assert folder.read_curve() == Curve(records=["x"], points=[])
    assert file.read_bytes().splitlines()[1:] == before


@pytest.mark.parametrize(
    ("number", "change", "sentence"),
    [
        (1, lambda fields: fields.update(status="fine"), "line 2 of .* is not a valid record: status"),
        (2, lambda fields: fields["cell"].update(seed=0), "line 3 of .* of AA-s0, which is there twice"),
        (2, lambda fields: fields["cell"].update(seed=9), "line 3 of .* of AA-s9, which is not in the plan"),
    ],
)
def test_damaged_lines_are_named_with_what_to_do(file, number, change, sentence):
    edit_line(file, number, change)
    folder = RunFolder.open(file)
    records, damaged = folder.readable()
    assert len(records) == len(damaged) == 1
    with pytest.raises(BgbenchError, match=f"{sentence}.*; get the file again from where it is kept"):
        folder.records()
    before = file.read_bytes()
    with pytest.raises(BgbenchError, match=sentence):
        folder.replace_records(records)
    assert file.read_bytes() == before


def test_damaged_plans_are_refused(file, tmp_path):
    edit_line(file, 0, lambda fields: fields["plan"].update(budget=0))
    with pytest.raises(BgbenchError, match=r"the plan of .*sampled\.jsonl is damaged: .* greater than"):
        RunFolder.open(file)
    edit_line(file, 0, lambda fields: fields.update(schema_version=2))
    with pytest.raises(BgbenchError, match=r"the first line of .* is damaged: schema_version"):
        RunFolder.open(file)
    for text in ("", "no JSON\n"):
        file.write_text(text)
        with pytest.raises(BgbenchError, match=r"the first line of .* is damaged"):
            RunFolder.open(file)
    with pytest.raises(BgbenchError, match="holds no run"):
        RunFolder.open(tmp_path / "nothing.jsonl")
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(BgbenchError, match="holds no run"):
        RunFolder.open(tmp_path / "notes.txt")


def test_a_folder_of_the_name_comes_first(file, finished):
    """It is the run that goes on; the file is what was kept of it."""
    folder = RunFolder.create(file.with_suffix(""), finished.plan)
    assert RunFolder.open(file.with_suffix("")).records() == []
    assert len(RunFolder.open(file).records()) == 2
    assert folder.missing() == list(finished.plan.cells)


def test_what_a_file_cannot_hold_is_refused(finished, tmp_path):
    other = RunFolder.create(tmp_path / "other", finished.plan.model_copy(update={"suite_sha256": "0" * 64}))
    with pytest.raises(BgbenchError, match="another dipeptides-mini@1 than the registered one"):
        other.keep(tmp_path / "other.jsonl")
    with pytest.raises(BgbenchError, match=r"let its name end in \.jsonl"):
        finished.keep(tmp_path / "sampled.json")
    assert [path.name for path in tmp_path.iterdir()] == ["other"]


@pytest.mark.parametrize(
    "text", ["{", "[1]", '{"records": [], "points": [{"evaluations": 1}]}', '{"points": []}']
)
def test_a_damaged_curve_is_one_sentence(finished, tmp_path, cli, text):
    folder = RunFolder.create(tmp_path / "run", finished.plan)
    for record in finished.records():
        write_json(folder.record_path(record.cell), record)
    (folder.path / "curve.json").write_text(text)
    code, _, complaint = cli("curve", folder.path, "--figure", tmp_path / "curve.png")
    assert code == 2
    assert "curve.json is damaged" in complaint
    assert "delete it" in complaint
    assert len(complaint.splitlines()) == 1
