"""What a run says while it goes on: bars on a terminal, a line for each cell in a log."""

import io

import pytest
from rich.console import Console

from bgbench.cli.progress import CellLog, LiveObserver, QuietObserver
from bgbench.runs.records import Budget, Record

TWO_CELLS = ("run", "prior", "--estimator", "snis", "--workers", "0", "--tracking-uri", "none")


@pytest.fixture
def make_record(make_cell):
    def make(status="ok", error="", **changes):
        return Record(
            id="0", cell=make_cell(**changes), status=status, error=error, budget=Budget(limit=100, used=100)
        )

    return make


def test_a_log_gets_a_line_when_a_run_starts_and_one_for_each_finished_cell(cli, tmp_path):
    suite = tmp_path / "two@1.yaml"
    suite.write_text('systems: ["analytic:harmonic"]\nenergy: analytic\nbudget: 40\nseeds: 2\n')
    code, _, err = cli(*TWO_CELLS, "--suite", suite, "--out", tmp_path / "run")
    assert code == 0
    first, second, third = err.splitlines()
    where = f"bgbench: 2 cells of 40 evaluations, into {tmp_path / 'run'}"
    assert first == f"{where}; the time left is estimated after the first"
    assert second.startswith("bgbench: analytic_harmonic-s0: ok; 1 of 2 cells, about ")
    assert third == "bgbench: analytic_harmonic-s1: ok; 2 of 2 cells"


def test_a_quiet_run_prints_no_line(cli, tmp_path):
    suite = tmp_path / "one@1.yaml"
    suite.write_text('systems: ["analytic:harmonic"]\nenergy: analytic\nbudget: 40\nseeds: 1\n')
    assert cli(*TWO_CELLS, "--suite", suite, "--out", tmp_path / "run", "--quiet") == (0, "", "")


def test_a_terminal_gets_a_line_for_a_failed_cell_only(make_record):
    """Bars count the others."""
    screen = io.StringIO()
    observer = LiveObserver(Console(file=screen, force_terminal=True))
    observer.finished(make_record())
    assert screen.getvalue() == ""
    observer.finished(make_record("crash", "the worker died"))
    assert "AA-s0: crash: the worker died" in screen.getvalue()


def test_what_is_left_follows_from_the_cells_so_far(make_record):
    log = CellLog(4, begun=10.0)
    assert log.line(make_record(), 40.0) == "AA-s0: ok; 1 of 4 cells, about 90 s left"
    assert log.line(make_record(seed=1), 310.0) == "AA-s1: ok; 2 of 4 cells, about 5 min left"
    assert log.line(make_record("timeout", "passed the limit of 9 s"), 310.0) == (
        "AA-s0: timeout: passed the limit of 9 s; 3 of 4 cells, about 100 s left"
    )
    assert log.line(make_record(), 400.0) == "AA-s0: ok; 4 of 4 cells"


def test_a_quiet_observer_prints_notices_as_they_are():
    screen = io.StringIO()
    QuietObserver(Console(file=screen, highlight=False)).notice("[AA] is damaged")
    assert screen.getvalue() == "bgbench: [AA] is damaged\n"
