"""Kept runs are whole, and their controls stand where controls must."""

from pathlib import Path

import pytest

from bgbench.metrics.names import WITH_FLOOR
from bgbench.reports.compare import compare
from bgbench.runs.runfolder import RunFolder

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"
KEPT = BENCHMARKS / "results"
FILES = sorted(BENCHMARKS.glob("*/**/*.jsonl"))
SUITE = {"AA", "DI", "HM", "WS"}


@pytest.mark.parametrize("file", FILES, ids=lambda path: str(path.relative_to(BENCHMARKS).with_suffix("")))
def test_a_kept_run_is_whole_and_written_again_it_is_the_same_to_the_byte(file, tmp_path):
    run = RunFolder.open(file)
    assert run.missing() == []
    run.keep(tmp_path / file.name)
    assert (tmp_path / file.name).read_bytes() == file.read_bytes()


def test_nothing_is_kept_as_a_folder_of_records():
    assert len(FILES) == 32
    assert sum(len(RunFolder.open(file).records()) for file in FILES) == 1296
    assert not list(BENCHMARKS.rglob("run.json"))


@pytest.fixture(scope="module")
def controls():
    return [RunFolder.open(KEPT / name) for name in ("reference", "mode-deleted")]


@pytest.mark.parametrize("metric", WITH_FLOOR)
def test_reference_draws_sit_inside_the_floor_on_every_system(metric, controls):
    records = controls[0].records()
    assert {record.cell.system for record in records} == SUITE
    for record in records:
        assert record.metrics[metric] <= record.diagnostics["floor_bounds"][metric], record.cell.name


@pytest.mark.parametrize("metric", WITH_FLOOR)
def test_a_deleted_mode_ranks_below_by_every_metric(metric, controls):
    comparison = compare(controls, metric)
    assert set(comparison.systems) == SUITE
    assert comparison.pairs[0].difference.these[1] < 0
    assert comparison.ranks == {}, "controls are never ranked"
    assert "reference (reference), reference (mode-deleted): a control, never ranked" in comparison.notes
