"""Exact transport against POT's dense solver, and its certificate against numpy."""

import warnings

import numpy as np
import ot
import pytest

from bgbench import BgbenchError
from bgbench.metrics import transport
from bgbench.metrics.transport import Dual, Problem, exact_transport


def dense_cost(a, b, wa, wb, periodic):
    gap = np.abs(a[:, None] - b[None])
    if periodic:
        gap = np.mod(gap, 2 * np.pi)
        gap = np.minimum(gap, 2 * np.pi - gap)
    wa = np.ones(len(a)) if wa is None else wa
    wb = np.ones(len(b)) if wb is None else wb
    return ot.emd2(wa / wa.sum(), wb / wb.sum(), (gap**2).sum(-1), numItermax=10**7)


@pytest.fixture(params=["dense", "sparse"])
def solver(request, monkeypatch):
    """Both routes; the sparse one forced on small problems."""
    if request.param == "sparse":
        monkeypatch.setattr(transport, "DENSE", 400)
    return request.param


@pytest.mark.parametrize("periodic", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(("n", "m", "d"), [(90, 90, 2), (120, 70, 4), (60, 150, 1)])
def test_equals_the_dense_solver(solver, rng, periodic, weighted, n, m, d):
    a, b = 2 * rng.standard_normal((n, d)), 2 * rng.standard_normal((m, d)) + 0.3
    wa = np.exp(1.5 * rng.standard_normal(n)) if weighted else None
    wb = rng.random(m) if weighted else None
    cost = exact_transport(a, b, wa, wb, periodic)
    assert cost.cost == pytest.approx(dense_cost(a, b, wa, wb, periodic), rel=1e-9)
    assert cost.certificate["violation"] < 1e-7
    assert abs(cost.certificate["gap"]) < 1e-9


def test_sparse_certificate_is_true(monkeypatch, rng):
    """The dual it ends with is feasible on every arc, checked without its own pricing."""
    monkeypatch.setattr(transport, "DENSE", 400)
    a, b = rng.standard_normal((150, 3)), rng.standard_normal((140, 3)) + 0.5
    problem = Problem(a, b, np.full(150, 1 / 150), np.full(140, 1 / 140), 0.0)
    solution = transport._solve(problem, transport.DENSE)
    u, v = solution.dual
    slack = ((a[:, None] - b[None]) ** 2).sum(-1) - u[:, None] - v[None]
    assert slack.min() > -1e-8
    assert u.mean() + v.mean() == pytest.approx(solution.cost, rel=1e-9)


def test_a_plan_that_cannot_be_proved_is_refused(monkeypatch, rng):
    """A solver that stops early: its plan costs too much, and its cost is not reported."""
    monkeypatch.setattr(transport, "DENSE", 400)
    true = transport._sparse

    def early(problem, arcs, dual):
        cost, dual = true(problem, arcs, dual)
        return cost * 1.01, Dual(dual.u, dual.v)

    monkeypatch.setattr(transport, "_sparse", early)
    with pytest.raises(BgbenchError, match=r"ends at a cost of .*can be proved"):
        exact_transport(rng.standard_normal((150, 3)), rng.standard_normal((140, 3)) + 0.5)


def test_a_solver_that_gives_up_is_refused_with_its_reason(solver, rng, monkeypatch):
    """Two steps are too few: POT warns, and says so in its log."""
    monkeypatch.setattr(transport, "ITERATIONS", 2)
    a, b = rng.standard_normal((90, 2)), rng.standard_normal((90, 2))
    with (
        pytest.warns(UserWarning, match="numItermax"),
        pytest.raises(BgbenchError, match="was not solved: num"),
    ):
        exact_transport(a, b)


def test_a_deprecation_in_the_solver_fails_no_cell(solver, rng, monkeypatch):
    emd, emd2 = ot.emd, ot.emd2

    def deprecated(function):
        def call(*words, **options):
            warnings.warn("spelt otherwise from now on", DeprecationWarning, stacklevel=1)
            return function(*words, **options)

        return call

    monkeypatch.setattr(ot, "emd", deprecated(emd))
    monkeypatch.setattr(ot, "emd2", deprecated(emd2))
    a, b = rng.standard_normal((90, 2)), rng.standard_normal((90, 2))
    with pytest.warns(DeprecationWarning, match="spelt otherwise"):
        cost = exact_transport(a, b).cost
    monkeypatch.undo()
    assert cost == pytest.approx(dense_cost(a, b, None, None, False), rel=1e-9)


def test_ties_duplicates_and_collinear_points(solver, rng):
    grid = np.repeat(np.arange(10.0), 6)[:, None]
    b = rng.permutation(grid) + 1.0
    assert exact_transport(grid, b).cost == pytest.approx(dense_cost(grid, b, None, None, False), rel=1e-9)
    assert exact_transport(grid, grid).cost == pytest.approx(0.0, abs=1e-12)


def test_copies_of_a_point_are_one_point_of_their_weight(solver, rng):
    """What resampling by a few heavy weights gives: the problem is as large as its distinct points."""
    few, b = rng.standard_normal((4, 3)), rng.standard_normal((200, 3))
    a = few[rng.integers(0, 4, 300)]
    w = rng.random(300)
    cost = exact_transport(a, b, w)
    assert cost.cost == pytest.approx(dense_cost(a, b, w, None, False), rel=1e-9)
    assert cost.certificate["arcs"] <= 4 * 200
    assert exact_transport(b, a, None, w).cost == pytest.approx(cost.cost, rel=1e-9)
    assert exact_transport(np.zeros((5, 2)), np.ones((3, 2))).cost == pytest.approx(2.0)


def test_zero_weights_are_left_out_and_symmetry_holds(solver, rng):
    a, b = rng.standard_normal((80, 2)), rng.standard_normal((70, 2))
    w = np.where(np.arange(80) < 50, 1.0, 0.0)
    assert exact_transport(a, b, w).cost == pytest.approx(exact_transport(a[:50], b).cost, rel=1e-9)
    assert exact_transport(a, b, w).cost == pytest.approx(exact_transport(b, a, None, w).cost, rel=1e-9)


def test_triangle_inequality(solver, rng):
    clouds = [rng.standard_normal((60, 2)) + shift for shift in (0.0, 0.5, 1.5)]
    distance = {
        (i, j): np.sqrt(exact_transport(clouds[i], clouds[j]).cost) for i, j in ((0, 1), (1, 2), (0, 2))
    }
    assert distance[0, 2] <= distance[0, 1] + distance[1, 2] + 1e-12


@pytest.mark.parametrize(
    ("a", "b", "w", "complaint"),
    [
        (np.full((3, 2), np.nan), np.zeros((3, 2)), None, "NaN"),
        (np.zeros((0, 2)), np.zeros((3, 2)), None, "n ≥ 1"),
        (np.zeros((3, 2)), np.zeros((3, 1)), None, "dimensions"),
        (np.zeros((3, 2)), np.zeros((3, 2)), np.array([1.0, -1.0, 1.0]), "none negative"),
        (np.zeros((3, 2)), np.zeros((3, 2)), np.zeros(3), "all zero"),
    ],
)
def test_bad_clouds_are_refused(a, b, w, complaint):
    with pytest.raises(ValueError, match=complaint):
        exact_transport(a, b, w)
