"""Results out of bgbench: tables, trajectories and figures for other programs."""

import io
import json
import sys

import mdtraj
import numpy as np
import pandas
import pytest
import torch

import bgbench
from bgbench import BgbenchError, Ensemble, peptide
from bgbench.reports.exports import export, resample_frames
from bgbench.reports.results import as_latex, frame_of, summary_of, write_results
from bgbench.runs.cells import execute
from bgbench.runs.estimates import read_estimate
from bgbench.runs.planning import resolve
from bgbench.runs.request import RunRequest
from bgbench.runs.runfolder import RunFolder


@pytest.fixture(scope="module")
def run(tmp_path_factory, made_up):
    """AA by the prior, weighted and judged by a made-up reference."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BGBENCH_REFERENCES", str(made_up))
        request = RunRequest.from_keywords("prior", only=["AA"], budget=40, seeds=2, estimator="snis")
        folder = RunFolder.create(tmp_path_factory.mktemp("runs") / "prior", resolve(request, "none"))
        for cell in folder.plan.cells:
            record = execute(cell, folder)
            assert record.status == "ok", record.error
        yield folder


def test_a_row_a_cell_holds_every_number(run):
    frame = frame_of([run])
    assert list(frame["seed"]) == [0, 1]
    for record, (_, row) in zip(run.records(), frame.iterrows(), strict=True):
        assert row["torus_w2"] == record.metrics["torus_w2"]
        assert row["floor.torus_w2"] == record.floors["torus_w2"]
        assert row["skill.torus_w2"] == record.skills["torus_w2"]
        assert (row["evaluations"], row["status"], bool(row["run_here"])) == (40, "ok", True)
    assert frame.equals(bgbench.load_run(run.path).to_dataframe())


@pytest.mark.parametrize(
    ("format", "read"),
    [
        ("csv", lambda data: pandas.read_csv(io.BytesIO(data))),
        ("json", lambda data: pandas.DataFrame(json.loads(data))),
        ("parquet", lambda data: pandas.read_parquet(io.BytesIO(data))),
    ],
)
def test_tables_are_read_back(format, read, run):
    frame, again = frame_of([run]), read(write_results([run], format))
    assert list(again.columns) == list(frame.columns)
    numbers = [name for name in frame.columns if frame[name].dtype.kind == "f" and frame[name].notna().all()]
    assert "torus_w2" in numbers
    for name in numbers:
        assert np.allclose(again[name].astype(float), frame[name], rtol=1e-12), name


def test_tables_for_papers_have_means_beside_floors(run):
    heads, rows = summary_of([run])
    assert [row[0] for row in rows] == ["prior", "noise floor"]
    column = next(k for k, head in enumerate(heads) if head.startswith("torus_w2"))
    mean = np.mean([record.metrics["torus_w2"] for record in run.records()])
    floor = np.mean([record.floors["torus_w2"] for record in run.records()])
    assert (rows[0][column], rows[1][column]) == (f"{mean:.3g}", f"{floor:.3g}")
    assert rows[0][2] == "2 of 2"
    text = write_results([run], "markdown").decode()
    assert text.splitlines()[2].startswith("| prior | snis | 2 of 2 | ")
    assert r"energy\_w2 (kT) $\downarrow$" in write_results([run], "latex").decode()


def test_latex_has_as_many_columns_as_heads():
    lines = as_latex(["a", "b_c", "d"], [["1", "2 %", "–"]]).splitlines()
    assert lines[0] == r"\begin{tabular}{lrr}"
    assert lines[2] == r"a & b\_c & d \\"
    assert lines[4] == r"1 & 2 \% & -- \\"


@pytest.mark.parametrize("format", ["xtc", "pdb"])
def test_exported_frames_are_those_of_the_cell(format, run, tmp_path):
    files = export(run, "AA", format, seed=1, target=tmp_path / "out")
    ensemble = read_estimate(run, run.records()[1]).ensemble
    frames = mdtraj.load(str(files.frames), top=str(files.topology))
    assert files.frames.name == f"AA-s1.{format}"
    assert frames.n_frames == files.n_samples == 40
    assert np.allclose(frames.xyz, ensemble.x.numpy(), atol=1.1e-3)
    assert np.allclose(np.load(files.weights), ensemble.weights.numpy())
    assert [atom.name for atom in frames.topology.atoms][:2] == [a.name for a in peptide("AA").atoms][:2]


def test_exported_frames_come_in_again_as_samples(run, made_up, tmp_path, monkeypatch):
    monkeypatch.setenv("BGBENCH_REFERENCES", str(made_up))
    files = export(run, "AA", "xtc", target=tmp_path)
    result = bgbench.score(files.frames, files.topology, weights=files.weights, out=tmp_path / "scored")
    (record,) = result
    first = run.records()[0]
    assert record.status == "ok", record.error
    assert record.cell.estimator == "stored-weights"
    assert record.metrics["ess"] == pytest.approx(first.metrics["ess"], rel=1e-6)
    assert record.metrics["torus_w2"] == pytest.approx(first.metrics["torus_w2"], rel=0.05)
    assert "table" in result._repr_html_()
    assert "data:image/png;base64," in result._repr_html_()


def test_resampled_frames_have_the_numbers_of_their_weights():
    weights = torch.tensor([0.5, 0.3, 0.2, 0.0], dtype=torch.float64)
    ensemble = Ensemble(torch.zeros(4, 1, 3), torch.arange(4.0), weights.log())
    drawn = resample_frames(ensemble, 1000)
    assert torch.bincount(drawn.u.long(), minlength=4).tolist() == [500, 300, 200, 0]
    assert len(set(drawn.log_w.tolist())) == 1
    with pytest.raises(BgbenchError, match="--resample must be at least 1, got 0"):
        resample_frames(ensemble, 0)


def test_commands_write_tables_frames_and_figures(run, tmp_path, cli):
    code, out, _ = cli("results", run.path)
    assert (code, len(out.splitlines())) == (0, 3)
    assert cli("results", run.path, "--format", "parquet")[0] == 2
    assert cli("results", run.path, "--format", "parquet", "--out", tmp_path / "r.parquet")[0] == 0
    assert len(pandas.read_parquet(tmp_path / "r.parquet")) == 2
    code, out, _ = cli("export", run.path, "AA", "--resample", "10", "--out", tmp_path)
    assert code == 0
    assert "10 frames: " in out
    assert "weights" not in out
    code, out, _ = cli("figures", run.path, "--format", "svg", "--out", tmp_path / "figures")
    assert code == 0
    written = sorted((tmp_path / "figures").iterdir())
    assert len(written) == len(out.splitlines()) >= 4
    assert all(path.read_text().startswith("<?xml") and path.suffix == ".svg" for path in written)
    assert cli("curve", run.path, "--figure", tmp_path / "curves.pdf")[0] == 0
    assert (tmp_path / "curves.pdf").read_bytes().startswith(b"%PDF")


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (
            ("results", "RUN", "--format", "excel"),
            "--format must be one of csv, parquet, json, latex",
        ),
        (("export", "RUN", "GS"), "has no record of 'GS'; it has: AA"),
        (("export", "RUN", "AA", "--seed", "7"), "has no record of AA with seed 7; it has 0, 1"),
        (("export", "RUN", "AA", "--format", "gro"), "--format must be one of xtc, pdb, h5, got 'gro'"),
        (("figures", "RUN", "--only", "GS"), "--only GS: no finished cell of"),
        (("curve", "RUN", "--figure", "curves.jpg"), "its ending must be one of .png, .svg, .pdf"),
        (("score", "missing.xtc"), "missing.xtc does not exist"),
    ],
)
def test_mistakes_are_one_line(words, complaint, run, cli, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, _, said = cli(*(run.path if word == "RUN" else word for word in words))
    assert code == 2
    assert complaint in said
    assert said.count("\n") == 1


def test_a_figure_is_the_same_file_each_time(run, tmp_path):
    from bgbench.reports.figures import draw_cell

    record = run.records()[0]
    first, again = (draw_cell(run, record, tmp_path / name, "svg") for name in ("a", "b"))
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in again]
    assert len(first) >= 4


def test_h5_without_pytables_is_refused_before_anything_is_written(run, cli, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tables", None)
    code, _, said = cli("export", run.path, "AA", "--format", "h5", "--out", tmp_path / "out")
    assert code == 2
    assert ".h5 files need PyTables" in said
    assert not (tmp_path / "out").exists()
