"""Break-even number of systems, from curves with known answers."""

import math

import pytest

from bgbench.breakeven import seconds_to, systems_until
from bgbench.curves import Point


def points(*pairs):
    return [Point(10**k, seconds, {"d": error}, {}) for k, (seconds, error) in enumerate(pairs)]


def test_time_to_an_error_is_interpolated_on_logarithmic_axes():
    walk = points((1.0, 1.0), (10.0, 0.1), (100.0, 0.01))
    assert seconds_to(walk, "d", 0.1) == pytest.approx(10.0)
    assert seconds_to(walk, "d", 10**-1.5) == pytest.approx(10**1.5)
    assert seconds_to(walk, "d", 2.0) == 1.0
    assert seconds_to(walk, "d", 0.001) is None


def test_training_is_paid_by_the_seconds_saved():
    mine, walk = points((1.0, 0.5), (2.0, 0.1)), points((1.0, 1.0), (12.0, 0.1), (50.0, 0.05))
    assert systems_until(1.0, mine, walk, "d") == (pytest.approx(360.0), False)


def test_a_walk_that_never_gets_there_gives_an_upper_bound():
    mine, walk = points((2.0, 0.01)), points((1.0, 1.0), (12.0, 0.1))
    assert systems_until(1.0, mine, walk, "d") == (pytest.approx(360.0), True)


def test_a_slower_sampler_never_pays():
    mine, walk = points((20.0, 0.5)), points((1.0, 1.0), (12.0, 0.1))
    assert systems_until(1.0, mine, walk, "d") == (math.inf, False)


def test_without_the_metric_there_is_no_answer():
    assert systems_until(1.0, points((1.0, 1.0)), points((1.0, 1.0)), "other") is None
