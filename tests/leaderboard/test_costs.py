"""Which untrained entry training is paid back against, and what the board says of it."""

import math

import pytest

from bgbench.leaderboard.costs import PaidBack, Untrained, paid_back
from bgbench.leaderboard.views import _back
from bgbench.reports.breakeven import Payback
from bgbench.reports.curves import Point


def points(*pairs):
    return [Point(10**k, seconds, {"d": error}, {}) for k, (seconds, error) in enumerate(pairs)]


MINE = points((1.0, 0.5), (2.0, 0.1))
SLOW = Untrained("slow", points((1.0, 1.0), (12.0, 0.1)))
SLOWER = Untrained("slower", points((1.0, 1.0), (102.0, 0.1)))
AS_GOOD = Untrained("as-good", points((0.1, 0.2), (0.2, 0.1)))
SHORT = Untrained("short", points((0.1, 1.0), (0.2, 0.4)))
"""Ends at 0.4 before MINE is there: what it would need for 0.1 nobody knows."""


@pytest.mark.parametrize(
    ("others", "expected"),
    [
        ([SLOW, SLOWER, AS_GOOD, SHORT], ("slower", Payback(pytest.approx(36.0), 0.1))),
        ([AS_GOOD, SLOW], ("slow", Payback(pytest.approx(360.0), 0.1))),
        ([AS_GOOD, SHORT], ("short", Payback(None, 0.4))),
        ([AS_GOOD], ("as-good", Payback(math.inf, 0.1))),
        ([], None),
        ([Untrained("none", [])], None),
    ],
)
def test_the_soonest_counts_and_never_is_the_last_resort(others, expected):
    assert paid_back(1.0, MINE, others, "d") == expected


def test_who_was_not_trained_has_nothing_to_pay_back():
    assert paid_back(0.0, MINE, [SLOW], "d") is None


@pytest.mark.parametrize(
    ("back", "text", "key"),
    [
        (Payback(540.2, 2.2279), "540", "540.2"),
        (Payback(540.2, 2.2279, at_most=True), "≤ 540", "540.2"),
        (Payback(math.inf, 2.2279), "never", "1e300"),
        (Payback(None, 2.2279), "not known", ""),
    ],
)
def test_the_page_says_against_whom_and_at_which_error(back, text, key):
    assert _back(PaidBack("md-10000", back)) == {
        "text": text,
        "sort": key,
        "against": "against md at 2.23 rad",
    }


def test_a_dash_where_there_is_nobody_to_beat():
    assert _back(None) == {"text": "–", "sort": "", "against": ""}
