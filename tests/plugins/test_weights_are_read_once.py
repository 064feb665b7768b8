"""Weights are read once when a run is planned and once a cell, whoever asks for card, hash or network."""

import ctypes
import os
import shutil
import struct
import sys

import pytest

import bgbench
from bgbench.data import data_path

IN_CLOSE_NOWRITE, IN_OPEN = 0x10, 0x20
EVENT = struct.Struct("iIII")


class Openings:
    """Counts how often anybody opens a file, with Linux's inotify: nobody's reader can hide.

    Openings in a row that are not closed in between would be one event; whoever reads a file closes it.
    """

    def __init__(self, path):
        libc = ctypes.CDLL(None, use_errno=True)
        self._fd = libc.inotify_init1(os.O_NONBLOCK)
        assert libc.inotify_add_watch(self._fd, os.fsencode(path), IN_OPEN | IN_CLOSE_NOWRITE) > 0

    def count(self):
        """Openings since the last count."""
        try:
            events = os.read(self._fd, 1 << 20)
        except BlockingIOError:
            return 0
        masks, start = [], 0
        while start < len(events):
            _, mask, _, length = EVENT.unpack_from(events, start)
            masks.append(mask)
            start += EVENT.size + length
        return sum(bool(mask & IN_OPEN) for mask in masks)


@pytest.mark.skipif(sys.platform != "linux", reason="inotify is Linux's")
def test_every_opening_is_counted(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"weights")
    openings = Openings(path)
    assert openings.count() == 0
    for _ in range(3):
        path.read_bytes()
    assert openings.count() == 3


@pytest.mark.skipif(sys.platform != "linux", reason="inotify is Linux's")
@pytest.mark.parametrize("sampler", ["prose", "verse", "tbg"])
def test_weights_are_read_once_a_cell(sampler, own_references, without_figures, tmp_path):
    weights = tmp_path / "own.safetensors"
    shutil.copyfile(data_path("weights", f"{sampler}-mini.safetensors"), weights)
    suite = tmp_path / "two@1.yaml"
    suite.write_text("systems: [AA, GS]\nenergy: batched\nbudget: 4\nseeds: 1\n")
    openings = Openings(weights)
    # An estimated density is not audited; the audit of an exact one takes TBG minutes.
    options = {"weights": str(weights)} | (
        {"tolerance": "1e-2", "trace": "hutchinson"} if sampler == "tbg" else {}
    )
    run = bgbench.run(
        sampler,
        suite=str(suite),
        estimator="none",
        options=options,
        out=tmp_path / "run",
        workers=0,
        tracking_uri="none",
    )
    cells = len(run.records)
    assert cells == 2
    assert all(record.card["weights_sha256"] for record in run.records), [r.error for r in run.records]
    assert openings.count() == 1 + cells
