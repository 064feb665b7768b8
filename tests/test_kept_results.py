"""The controls stand where controls must, in the records kept for the README."""

from pathlib import Path

import pytest

from bgbench.metrics.names import WITH_FLOOR
from bgbench.reports.compare import compare
from bgbench.runs.runfolder import RunFolder

KEPT = Path(__file__).parent.parent / "benchmarks" / "results"
SUITE = {"AA", "DI", "HM", "WS"}


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
    found = compare(controls, metric)
    assert set(found.systems) == SUITE
    assert found.pairs[0].difference.high < 0
    best, deleted = found.ranks.values()
    assert best == (1, 1)
    assert deleted == (2, 2)
