"""The control `reference` draws from one half of the replicas, and is judged by the other."""

import numpy as np
import pytest
import torch

import bgbench
from bgbench import BgbenchError
from bgbench.evaluation.bench import open_bench
from bgbench.reports.replay import replay
from bgbench.runs.cells import execute
from bgbench.runs.planning import resolve
from bgbench.runs.records import read_arrays
from bgbench.runs.request import RunRequest
from bgbench.runs.runfolder import RunFolder
from bgbench.testing import Wide


@pytest.fixture
def run(tmp_path, make_reference, monkeypatch):
    make_reference(tmp_path, "AA")
    monkeypatch.setenv("BGBENCH_REFERENCES", str(tmp_path))
    request = RunRequest.from_keywords("reference", only=["AA"], seeds=1, budget=1000)
    return RunFolder.create(tmp_path / "run", resolve(request, "none"))


def frames_of(x):
    return {frame.tobytes() for frame in np.ascontiguousarray(x)}


def test_the_frames_that_it_is_judged_by_are_not_those_that_it_draws(run):
    """It was judged by the very frames that it drew, and lay below what exact draws can reach."""
    (cell,) = run.plan.cells
    whole = bgbench.find_reference(bgbench.peptide("AA"))
    record = execute(cell, run)
    assert record.status == "ok", record.error
    assert record.reference["half"] == "second"
    assert record.reference["sha256"] == whole.sha256
    judged_by = open_bench(cell).reference
    drawn = read_arrays(run.arrays_path(cell), record.arrays)["x"]
    assert len(drawn) == judged_by.n_samples == whole.n_samples // 2
    assert len(frames_of(drawn)) == len(drawn), "no frame is drawn twice before all are drawn once"
    assert not frames_of(drawn) & frames_of(judged_by.x.numpy())
    assert frames_of(drawn) <= frames_of(whole.x.numpy())
    # All of one half against all of the other is the floor's own comparison.
    assert record.metrics["torus_w2"] == pytest.approx(record.floors["torus_w2"], rel=0.5)
    assert replay(run) == []


def test_records_of_before_are_judged_by_the_whole_reference_they_were_judged_by(run):
    (cell,) = run.plan.cells
    whole = bgbench.find_reference(bgbench.peptide("AA"))
    assert open_bench(cell, judged_by={"sha256": whole.sha256}).reference.n_samples == whole.n_samples
    assert not open_bench(cell.model_copy(update={"sampler": "md"})).judged_by_half


def test_a_sampler_that_draws_from_the_reference_is_a_control():
    with pytest.raises(BgbenchError, match="what draws from the reference is a control; set control=True"):
        bgbench.SamplerPlugin("cheat", "", lambda options: Wide([1.0] * 3), draws_from_reference=True)


def test_halves_of_one_replica_are_runs_of_it():
    x = torch.arange(8.0)[:, None, None].expand(8, 2, 3)
    reference = bgbench.Reference("AA", x, torch.zeros(8), torch.zeros(8), {"grade": "gold"})
    assert [half.x[:, 0, 0].tolist() for half in reference.halves(1)] == [[0, 1, 4, 5], [2, 3, 6, 7]]
