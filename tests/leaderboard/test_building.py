"""The pages of an entry are built before it is taken, by a process with limits."""

import pytest

from bgbench.leaderboard import building, site
from bgbench.leaderboard.entries import open_entry

BUILD = building.build_limited
"""The one with a process of its own, which other tests go without (`conftest`)."""


@pytest.fixture(scope="module")
def laid_out(published, tmp_path_factory):
    files = open_entry(published / "records" / "prior")
    board = tmp_path_factory.mktemp("alone") / "board"
    building.lay_out(files, files.verdict, board)
    return board


def test_pages_of_the_entry_and_its_twin(laid_out, tmp_path):
    assert BUILD(laid_out, tmp_path / "site") == ""
    pages = sorted(path.name for path in (tmp_path / "site" / "entries").glob("*.html"))
    assert pages == [f"{building.TWIN}.html", "prior.html"]
    assert list((tmp_path / "site" / "pictures" / "prior").glob("*.png"))
    assert not (tmp_path / "site" / "pictures" / building.TWIN).exists()


def test_pages_that_take_too_long_or_too_much_are_refused(laid_out, tmp_path):
    assert "not built in 0.01 s" in BUILD(laid_out, tmp_path / "site", seconds=0.01)
    fault = BUILD(laid_out, tmp_path / "site", size=1_000)
    assert fault.startswith("its pages cannot be built: ")


def test_what_no_page_can_show_is_refused_by_the_check(published, monkeypatch):
    files = open_entry(published / "records" / "prior")
    assert list(building.unbuildable(files, files.verdict)) == []

    def fail(*_, **__):
        raise ZeroDivisionError("float division by zero")

    monkeypatch.setattr(site, "tables_of", fail)
    (problem,) = building.unbuildable(files, files.verdict)
    assert (problem.reason, problem.where) == ("site", "prior")
    assert "division by zero" in problem.text
