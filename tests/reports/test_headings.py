"""What tables say of how far weights can be trusted."""

import pytest

from bgbench.reports.headings import Trust, errors_known
from bgbench.runs.records import Budget, Record


@pytest.fixture
def record(make_cell):
    def make(tail=None, points=None, forward=None, estimator="snis", status="ok"):
        diagnostics = {} if points is None else {"effective_points": points}
        diagnostics |= {} if forward is None else {"forward": {"ess_forward": forward}}
        cell = make_cell(estimator=estimator)
        fields = {"metrics": {"pareto_k": tail}, "diagnostics": diagnostics}
        return Record(id="x", cell=cell, status=status, budget=Budget(limit=60, used=1), **fields)

    return make


@pytest.mark.parametrize(
    ("tail", "points", "known"),
    [(0.7, 100.0, True), (0.71, 5000.0, False), (0.2, 99.0, False), (None, 500.0, True), (None, None, True)],
)
def test_errors_are_known_where_the_tail_is_light_and_points_are_many(record, tail, points, known):
    assert errors_known(record(tail, points)) is known


def test_the_tail_of_equal_weights_says_nothing(record):
    assert errors_known(record(0.9, 500.0, estimator="mcmc"))


def test_trust_is_a_fraction_and_two_medians_over_finished_cells(record):
    cells = [record(0.9, 10.0, 0.1), record(0.3, 200.0, 0.5), record(0.2, 300.0, 0.4), record(0.8, 1.0)]
    trust = Trust.of([*cells, record(3.0, 1.0, 0.0, status="crash")])
    assert trust == Trust(heavy=0.5, points=105.0, forward=0.4)
    assert Trust.of([record(0.9, 10.0, estimator="mcmc")]) == Trust(None, 10.0, None)
    assert Trust.of([]) == Trust(None, None, None)
