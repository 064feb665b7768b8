"""Break-even number of systems, from curves with known answers."""

import math
from pathlib import Path
from types import SimpleNamespace

import pytest

from bgbench.cli.runs import print_break_even
from bgbench.reports import breakeven
from bgbench.reports import page as pages
from bgbench.reports.breakeven import BreakEven, Payback, break_even, seconds_to, systems_until
from bgbench.reports.curves import Point
from bgbench.reports.headings import is_control


def points(*pairs):
    return [Point(10**k, seconds, {"d": error}, {}) for k, (seconds, error) in enumerate(pairs)]


def test_time_to_an_error_is_interpolated_on_logarithmic_axes():
    walk = points((1.0, 1.0), (10.0, 0.1), (100.0, 0.01))
    assert seconds_to(walk, "d", 0.1) == pytest.approx(10.0)
    assert seconds_to(walk, "d", 10**-1.5) == pytest.approx(10**1.5)
    assert seconds_to(walk, "d", 2.0) == 1.0
    assert seconds_to(walk, "d", 0.001) == math.inf
    assert seconds_to(points((0.0, 1.0), (10.0, 0.1)), "d", 0.5) == 10.0, "no time before: the checkpoint's"


def test_training_is_paid_by_the_seconds_saved():
    mine, walk = points((1.0, 0.5), (2.0, 0.1)), points((1.0, 1.0), (12.0, 0.1), (50.0, 0.05))
    assert systems_until(1.0, mine, walk, "d") == Payback(pytest.approx(360.0), 0.1)


def test_a_walk_that_gets_as_good_and_no_later_is_never_paid_back():
    walk = points((1.0, 1.0), (12.0, 0.1))
    assert systems_until(1.0, points((20.0, 0.5)), walk, "d") == Payback(math.inf, 0.5)
    assert systems_until(1.0, points((12.0, 0.1)), walk, "d") == Payback(math.inf, 0.1)


def test_a_curve_that_rises_again_counts_from_where_it_was_lowest():
    mine, walk = points((1.0, 0.5), (2.0, 0.1), (100.0, 0.2)), points((1.0, 1.0), (12.0, 0.1))
    assert systems_until(1.0, mine, walk, "d") == Payback(pytest.approx(360.0), 0.1)


def test_a_walk_that_never_gets_there_is_compared_at_its_own_lowest_error():
    walk = points((1.0, 1.0), (14.0, 0.2), (15.0, 0.3))
    mine = points((1.0, 0.4), (4.0, 0.1), (100.0, 0.001))
    assert systems_until(1.0, mine, walk, "d") == Payback(pytest.approx(3600 / 12), 0.2)


def test_a_slower_run_that_ends_better_is_paid_back_where_it_is_as_good():
    """As Verse against MD on tetrapeptides: as good at its first checkpoint as MD at its last."""
    mine, walk = points((0.3, 2.0), (3.0, 1.4), (30.0, 1.0)), points((1.7, 2.7), (17.3, 2.2))
    assert systems_until(2.55, mine, walk, "d") == Payback(pytest.approx(540), 2.2, at_most=True)


def test_nothing_is_known_if_the_walk_neither_gets_there_nor_is_slower():
    mine, walk = points((5.0, 0.5), (50.0, 0.1)), points((1.0, 1.0), (4.0, 0.7))
    assert systems_until(1.0, mine, walk, "d") == Payback(None, 0.7)


def test_nothing_is_known_if_the_walk_is_better_from_its_first_checkpoint_on():
    mine, walk = points((2.0, 0.5)), points((12.0, 0.1))
    assert systems_until(1.0, mine, walk, "d") == Payback(None, 0.5)
    assert systems_until(1.0, points((12.0, 0.5)), walk, "d") == Payback(math.inf, 0.5), "slower for sure"


def test_without_the_metric_there_is_no_answer():
    assert systems_until(1.0, points((1.0, 1.0)), points((1.0, 1.0)), "other") is None


@pytest.mark.parametrize(
    ("back", "words"),
    [
        (Payback(540.2, 2.2279), "2.55 h of training are paid back after 540 systems"),
        (
            Payback(3211.0, 2.2279, at_most=True),
            "2.55 h of training are paid back after 3,211 systems or sooner",
        ),
        (Payback(math.inf, 2.2279), "2.55 h of training are never paid back"),
        (Payback(None, 2.2279), "when 2.55 h of training are paid back is not known"),
    ],
)
def test_the_sentence_says_at_which_error(back, words):
    pair = BreakEven("verse", "md", "torus_w2", 2.55, back)
    assert pair.sentence == f"verse: {words} (against md, where both reach torus_w2 2.23 rad)"


@pytest.fixture
def runs(monkeypatch):
    """Stand-ins for finished runs with curves of torus-W2: trained `verse`, `md`, and the two controls."""
    curves = {
        "verse": points((1.0, 0.5), (2.0, 0.1)),
        "md": points((1.0, 1.0), (12.0, 0.1)),
        "reference": points((0.1, 0.05)),
        "prior": points((0.1, 0.05)),
    }

    def curve(folder, progress):
        points = curves[folder.plan.sampler]
        return [Point(p.evaluations, p.seconds, {"torus_w2": p.metrics["d"]}, {}) for p in points]

    monkeypatch.setattr(breakeven, "curve", curve)
    monkeypatch.setattr(breakeven, "refuse_unlike", lambda folders: None)
    return {name: run(name, hours=1.0 if name == "verse" else 0.0) for name in curves}


def run(sampler, hours):
    record = SimpleNamespace(card={"training_hours": hours}, status="ok")
    plan = SimpleNamespace(sampler=sampler, estimator="none")
    return SimpleNamespace(plan=plan, path=Path(sampler), records=lambda: [record])


def test_controls_are_no_rivals(runs):
    assert [(pair.sampler, pair.other) for pair in break_even(list(runs.values()), "torus_w2")] == [
        ("verse", "md")
    ]
    assert break_even([runs["verse"], runs["reference"], runs["prior"]], "torus_w2") == []


def test_a_sampler_that_is_not_installed_is_no_control():
    assert not is_control("gone")
    assert is_control("reference")


def test_there_is_no_break_even_by_a_metric_that_is_no_error(runs):
    assert break_even([runs["verse"], runs["md"]], "ess") == []


def test_compare_prints_a_line_a_pair(runs, capsys):
    print_break_even(list(runs.values()), ["ess", "torus_w2"])
    assert capsys.readouterr().out == (
        "  verse: 1 h of training are paid back after 360 systems "
        "(against md, where both reach torus_w2 0.1 rad)\n"
    )


def test_the_report_says_the_same(runs, monkeypatch):
    monkeypatch.setattr(pages, "refuse_unlike", lambda folders: None)
    monkeypatch.setattr(pages, "_curves", lambda folders, progress: "a picture")
    monkeypatch.setattr(pages, "caveats", lambda runs: [])
    monkeypatch.setattr(pages, "_common", lambda folders: [])
    together = pages._together([runs["verse"], runs["md"]])
    page = pages._environment().get_template("report.html.j2").render(title="", runs=[], **together)
    assert (
        "<p>verse: 1 h of training are paid back after 360 systems "
        "(against md, where both reach torus_w2 0.1 rad).</p>" in page
    )
