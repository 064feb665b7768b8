"""OpenMM's thread and its caller share a core while they step, and may go anywhere afterwards."""

import os
import subprocess
import sys
import threading

import pytest

from bgbench_md import onecore
from bgbench_md.onecore import OneCore

pytestmark = pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="cores are chosen on Linux only")


@pytest.fixture
def pool():
    """A thread that waits, as OpenMM's does."""
    end = threading.Event()
    waiting = threading.Thread(target=end.wait)
    waiting.start()
    yield {waiting.native_id}
    end.set()
    waiting.join()


def cores(*ids: int) -> list[set[int]]:
    return [os.sched_getaffinity(thread) for thread in ids]


def test_threads_share_one_core_after_a_span_and_are_let_go(pool, monkeypatch):
    monkeypatch.setattr(onecore, "SPAN", 0.0)
    allowed, here = os.sched_getaffinity(0), threading.get_native_id()
    core = OneCore(pool)
    core.renew()
    assert cores(*pool) == cores(here)
    assert len(os.sched_getaffinity(here)) == 1
    core.release()
    assert cores(here, *pool) == [allowed, allowed]


def test_a_core_that_others_use_too_is_left(pool, monkeypatch):
    monkeypatch.setattr(onecore, "SPAN", 0.0)
    allowed = os.sched_getaffinity(0)
    core = OneCore(pool)
    core.renew()
    monkeypatch.setattr(onecore, "OWN", 2.0)
    core.renew()
    assert cores(*pool) == [allowed]


def test_without_a_pool_nothing_is_held(monkeypatch):
    monkeypatch.setattr(onecore, "SPAN", 0.0)
    allowed = os.sched_getaffinity(0)
    core = OneCore(set())
    core.renew()
    assert os.sched_getaffinity(0) == allowed


def test_a_walk_gives_its_cores_back(monkeypatch):
    """In a process of its own, so that another test's threads do not count."""
    code = (
        "import os, torch, bgbench; from bgbench_md import onecore; from bgbench_md.langevin import WALKS\n"
        "onecore.SPAN = 0.0; allowed = os.sched_getaffinity(0); system = bgbench.peptide('GG')\n"
        "walk = WALKS['openmm'](system, system.positions, 1); walk.advance(2)\n"
        "print(len(walk._core._threads), len(os.sched_getaffinity(0))); walk.release()\n"
        "print(os.sched_getaffinity(0) == allowed)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["2", "1", "True"]
