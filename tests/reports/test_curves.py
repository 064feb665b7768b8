"""Error against cost, from stored samples alone."""

import io
import json
import shutil

import numpy as np
import pytest
from rich.console import Console

import bgbench
from bgbench import BgbenchError
from bgbench.core.files import write_json
from bgbench.reports.curves import checkpoints, curve, draw_curves, first_part, steps_of
from bgbench.reports.figures import draw_cell
from bgbench.runs.estimates import read_estimate
from bgbench.runs.runfolder import RunFolder, new_plan


@pytest.fixture(scope="module")
def references(tmp_path_factory, make_reference):
    """Half of the frames is larger than the budget of the runs."""
    folder = tmp_path_factory.mktemp("references")
    for name in ("AA", "GS"):
        make_reference(folder, name, 240)
    return folder


@pytest.fixture(scope="module")
def finished(tmp_path_factory, references):
    """Runs of the control `reference` at two budgets: not to be changed, but copied."""
    folder = tmp_path_factory.mktemp("finished")
    suite = folder / "tiny@1.yaml"
    suite.write_text("systems: [AA, GS]\nenergy: batched\nbudget: 110\nseeds: 1\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BGBENCH_REFERENCES", str(references))
        patch.setattr("bgbench.api.draw_figures", lambda *words: None)
        for budget in (110, 105):
            bgbench.run(
                "reference", suite=str(suite), out=folder / str(budget), budget=budget, workers=0,
                tracking_uri="none",
            )  # fmt: skip
    return folder


@pytest.fixture
def run(tmp_path, finished, references, monkeypatch):
    """Copies of the finished runs, and their references."""
    monkeypatch.setenv("BGBENCH_REFERENCES", str(references))

    def make(name="run", budget=110):
        return RunFolder.open(shutil.copytree(finished / str(budget), tmp_path / name))

    return make


def test_checkpoints_are_powers_of_ten_and_the_budget():
    assert checkpoints(10_000) == [100, 1_000, 10_000]
    assert checkpoints(250) == [100, 250]
    assert checkpoints(7) == [7]


def test_the_last_point_is_the_run_itself(run):
    folder = run()
    points = curve(folder)
    assert [point.evaluations for point in points] == [100, 110]
    for name in ("torus_w2", "energy_w2"):
        recorded = [record.metrics[name] for record in folder.records()]
        assert points[-1].metrics[name] == pytest.approx(np.mean(recorded))
    assert 0 < points[0].seconds <= points[1].seconds


def test_a_cell_that_asked_for_no_energy_has_its_last_point_at_once(run):
    folder = run()
    for record in folder.records():
        free = record.model_copy(update={"budget": record.budget.model_copy(update={"used": 0})})
        write_json(folder.record_path(record.cell), free)
    first, last = curve(folder)
    assert first.metrics == last.metrics


def test_progress_hears_every_score_and_none_of_a_stored_curve(run, cli, tmp_path, monkeypatch):
    """`curve` and `report` were silent for minutes the first time."""
    folder, heard = run(), []
    assert steps_of(folder) == 4, "two cells, at 100 and at 110 evaluations"
    curve(folder, heard.append)
    assert heard == [f"reference {name}-s0 at {n}" for n in (100, 110) for name in ("AA", "GS")]
    assert steps_of(folder) == 0
    heard.clear()
    curve(folder, heard.append)
    assert heard == []
    for command, option, name in (("curve", "--figure", "c.png"), ("report", "--out", "r.html")):
        (folder.path / "curve.json").unlink()
        terminal = Console(file=io.StringIO(), force_terminal=True, width=200)
        monkeypatch.setattr("bgbench.cli.runs.err", terminal)
        assert cli(command, folder.path, option, tmp_path / name)[0] == 0
        shown = terminal.file.getvalue()
        assert "scoring reference GS-s0 at 110" in shown, command
        assert "4/4" in shown or "3/4" in shown, command


def test_the_first_part_keeps_the_order(run):
    folder = run()
    whole = read_estimate(folder, folder.records()[0])
    part = first_part(whole, 0.5)
    assert part.ensemble.n_samples == 55
    assert bool((part.ensemble.x == whole.ensemble.x[:55]).all())


def test_a_curve_is_kept_until_the_records_change(run):
    folder = run()
    first = curve(folder)
    path = folder.path / "curve.json"
    stored = json.loads(path.read_text())
    stored["points"][0]["seconds"] = 12345.0
    path.write_text(json.dumps(stored))
    assert curve(folder)[0].seconds == 12345.0
    path.write_text(json.dumps({**stored, "records": ["another"]}))
    assert curve(folder) == first


def test_the_figure_refuses_unlike_runs(run, tmp_path):
    folders = [run("a"), run("b", budget=105)]
    with pytest.raises(BgbenchError, match=r"the budget is 110 evaluations in .* and 105 evaluations in "):
        draw_curves(folders, ["torus_w2"], tmp_path / "c.png")
    assert draw_curves(folders[:1], ["torus_w2"], tmp_path / "c.png").stat().st_size > 5000


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("{", "Invalid JSON"),
        ("[]", "should be an object"),
        ('{"records": []}', "points: Field required"),
        ('{"records": [], "points": [{"metrics": []}]}', "points.0.evaluations: Field required"),
        (
            '{"records": [], "points": [{"evaluations": 1, "seconds": NaN, "metrics": {}, "floors": {}}]}',
            "points.0.seconds",
        ),
        ("[" * 100_000, "recursion limit"),
    ],
)
def test_a_damaged_curve_is_one_line_that_says_what_to_do(text, fault, tmp_path, make_cell, cli):
    folder = RunFolder.create(tmp_path / "run", new_plan([make_cell()], "hash"))
    (folder.path / "curve.json").write_text(text)
    code, _, err = cli("curve", folder.path, "--figure", tmp_path / "c.png")
    assert code == 2
    assert err.count("\n") == 1
    assert fault in err
    assert "curve.json is damaged" in err
    assert "delete it, and it is computed again" in err


def test_a_run_is_not_judged_on_another_reference_than_its_own(run, cli, tmp_path, monkeypatch):
    folder = run()
    monkeypatch.delenv("BGBENCH_REFERENCES")
    other = "AA-s0 was judged on another reference of AA"
    for command in ("curve", "replay"):
        words = ["--figure", tmp_path / "curves.png"] if command == "curve" else []
        code, printed, complaint = cli(command, folder.path, *words)
        assert code == 2
        assert other in complaint
        assert "recorded as" not in printed
    assert not (folder.path / "curve.json").exists()
    with pytest.raises(BgbenchError, match=other):
        draw_cell(folder, folder.records()[0])


def test_a_run_that_cannot_be_written_has_a_curve_all_the_same(run, monkeypatch):
    folder = run()

    def refused(self, curve):
        raise BgbenchError("cannot write curve.json: Read-only file system; choose another folder")

    monkeypatch.setattr(RunFolder, "write_curve", refused)
    assert [point.evaluations for point in curve(folder)] == [100, 110]
