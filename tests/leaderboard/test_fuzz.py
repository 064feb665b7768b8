"""Whatever bytes a stranger sends: read, or refused in a sentence; never a traceback."""

import io
import json
import os
import shutil
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bgbench.leaderboard.archives import read_archive
from bgbench.leaderboard.checks import STAGES, well_formed
from bgbench.leaderboard.entries import open_entry
from bgbench.leaderboard.guarded import read_json, read_model
from bgbench.leaderboard.problems import Problem, Refused
from bgbench.leaderboard.site import build
from bgbench.runs.records import Record

OWN = Path(__file__).parent.parent.parent / "leaderboard" / "records" / "prior-1000" / "cells" / "AA-s0.json"
MANY = int(os.environ.get("BGBENCH_FUZZ", "0"))
"""Inputs of each test, to fuzz for longer by hand; the default is what CI has time for."""

SMALL = settings(
    max_examples=MANY or 60, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck)
)
LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
VALUES = st.recursive(
    LEAVES, lambda v: st.lists(v, max_size=3) | st.dictionaries(st.text(max_size=4), v, max_size=3)
)


@pytest.fixture
def file(tmp_path):
    return tmp_path / "AA-s0.npz"


def archive(header=None):
    stream = io.BytesIO()
    np.savez_compressed(stream, x=np.zeros((3, 4, 3), "<f4"), u=np.zeros(3), log_w=np.zeros(3))
    return stream.getvalue()


@SMALL
@given(
    st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), max_size=12), st.floats(0, 1)
)
def test_archives_with_changed_bytes(file, changes, kept):
    data = bytearray(archive())
    for place, byte in changes:
        data[int(place * len(data))] = byte
    file.write_bytes(bytes(data[: max(1, int((0.5 + kept / 2) * len(data)))]))
    with suppress(Refused):
        read_archive(file, "x")


@SMALL
@given(
    st.binary(max_size=120)
    | st.text("{}'(),:0123456789 descrfortan_ohpTuFlse<i48", max_size=120).map(str.encode)
)
def test_any_npy_header(file, header):
    import zipfile

    with zipfile.ZipFile(file, "w") as stream:
        stream.writestr("x.npy", b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header)
    with suppress(Refused):
        read_archive(file, "x")


@SMALL
@given(st.binary(max_size=60) | st.text(max_size=60).map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_any_text_as_json(file, data):
    file.write_bytes(data)
    with suppress(Refused):
        read_json(file)


def paths(value, path=()):
    yield path
    if isinstance(value, dict):
        for key, item in value.items():
            yield from paths(item, (*path, key))


RECORD = json.loads(OWN.read_text())
PATHS = [path for path in paths(RECORD) if path]


@settings(SMALL, max_examples=MANY or 150)
@given(st.sampled_from(PATHS), VALUES)
def test_any_value_in_any_field_of_a_record(file, path, value):
    record = json.loads(OWN.read_text())
    place = record
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    file.write_text(json.dumps(record))
    with suppress(Refused):
        problems = well_formed(SimpleNamespace(records=(read_model(file, Record),)))
        assert all(isinstance(problem, Problem) for problem in problems)


JSON_FILES = ("entry.json", "run.json", "verdict.json", "cells/AA-s0.json", "cells/DI-s1.json")


@pytest.fixture(scope="module")
def entries(tmp_path_factory):
    """Two entries of the board whose own numbers are those of the repository, without arrays."""
    board = tmp_path_factory.mktemp("fuzzed") / "board"
    for name in ("prior-1000", "verse-1000"):
        shutil.copytree(
            OWN.parents[2] / name, board / "records" / name, ignore=shutil.ignore_patterns("arrays")
        )
    return board


@settings(SMALL, max_examples=MANY or 40)
@given(st.data())
def test_what_passes_the_checks_of_records_can_be_shown(entries, data):
    """Any value in any field of any file of an entry: refused, or its pages are built."""
    folder = entries / "records" / "verse-1000"
    path = folder / data.draw(st.sampled_from(JSON_FILES))
    before = path.read_bytes()
    value = json.loads(before)
    place = data.draw(st.sampled_from([p for p in paths(value) if p]))
    inner = value
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = data.draw(VALUES)
    try:
        path.write_text(json.dumps(value))
        with suppress(Refused):
            files = open_entry(folder)
            if not any(True for stage in STAGES for check in stage for _ in check(files)):
                build(entries, entries.parent / "site", pictures=False)
    finally:
        path.write_bytes(before)


@SMALL
@given(st.text(max_size=40), st.text(max_size=40))
def test_a_refusal_is_one_line_without_commands(where, text):
    line = str(Problem("json", where, text))
    assert len(line.splitlines()) == 1
    assert "::" not in line
    assert "##[" not in line
    assert line.isprintable()
