"""A run ends soon after its last record, whatever its tracker does, and says what to do then."""

import math
import time
from contextlib import closing

import pytest

import bgbench
from bgbench.runs import mirroring
from bgbench.runs.mirroring import LATE, Mirror
from bgbench.runs.runfolder import RunFolder, new_plan
from bgbench.runs.tracking import LONGEST, Answer, send_new


@pytest.fixture
def folder(tmp_path, make_cell):
    return RunFolder.create(tmp_path / "run", new_plan([make_cell()], "hash", "notebook://asleep"))


class Silent:
    """A tracking process that never answers, and says until when it was waited for."""

    made = 0

    def __init__(self, folder, uri):
        self.alive = True
        Silent.made += 1

    def send(self, deadline):
        while time.monotonic() < deadline():
            time.sleep(0.01)
        self.alive = False
        return Answer(LATE)

    def close(self):
        assert not self.alive


@pytest.fixture
def silent(monkeypatch):
    monkeypatch.setattr(mirroring, "TrackingProcess", Silent)
    monkeypatch.setattr(mirroring, "LAST", 0.3)
    Silent.made = 0


def test_one_deadline_holds_for_what_is_being_sent_and_for_what_is_left(folder, silent):
    """A sending that hangs while the run goes on is waited for once, and none is begun afterwards."""
    mirror = Mirror(folder)
    with mirror.feeding():
        mirror.new_record()
        while not Silent.made:
            time.sleep(0.01)
        assert mirror._deadline == math.inf, "while cells run, a tracker may take its time"
    mirror.send_last()
    assert Silent.made == 1
    assert LATE in mirror.complaint
    assert f"`bgbench track {folder.path}`" in mirror.complaint


def test_where_cells_run_in_this_process_the_deadline_starts_with_the_last_sending(folder, silent):
    mirror = Mirror(folder)
    mirror.send_last()
    assert Silent.made == 1
    assert mirror.complaint.count("bgbench track") == 1


def test_a_process_that_does_not_answer_is_ended(troubles, folder, monkeypatch):
    monkeypatch.setattr(mirroring, "LAST", 0.5)
    with closing(Mirror(folder)) as mirror:
        mirror.send_last()
        assert mirror._process is None
    assert LATE in mirror.complaint


def test_what_a_tracker_says_is_one_short_line(folder, monkeypatch):
    page = "<html>\n" + "no entry\n" * 50_000

    def fails(folder, uri, sent):
        raise ValueError("x" * 50_000)

    for mirror, field in ((lambda *_: page, "notice"), (fails, "error")):
        plugin = bgbench.TrackerPlugin("page", "for tests", mirror)
        monkeypatch.setattr("bgbench.runs.tracking.tracker_for", lambda uri, plugin=plugin: plugin)
        text = getattr(send_new(folder.path, "page://", {}), field)
        assert "\n" not in text
        assert 300 < len(text) < LONGEST + 30


def test_what_a_tracker_has_to_say_reaches_the_user(folder, monkeypatch):
    class Talks(Silent):
        def send(self, deadline):
            self.alive = False
            return Answer(notice="the store was moved")

    monkeypatch.setattr(mirroring, "TrackingProcess", Talks)
    mirror = Mirror(folder)
    mirror.send_last()
    assert (mirror.notices, mirror.complaint) == (["the store was moved"], "")
