"""Two references of one system: measured against each other, and named when a run uses one of them."""

import re
import shutil

import numpy as np
import pytest
import torch

from bgbench import peptide
from bgbench.core.resources import data_path
from bgbench.evaluation.protocols import get_protocol
from bgbench.evaluation.suites import load_suite
from bgbench.references.providers import reference_path
from bgbench.references.store import read_reference
from bgbench.reports.agreement import Gap, measure_gaps, read_pair


def test_a_made_up_reference_lies_above_the_floors(own_references, cli):
    code, printed, _ = cli("data", "compare", "AA")
    assert code == 0
    assert "AA: made up, 120 frames, " in printed
    assert "against batched, 10000 frames, gold" in printed
    lines = [line for line in printed.splitlines() if line.startswith("  ")]
    assert {line.split()[0] for line in lines} >= {"energy_w2", "torus_w2", "mode_weights"}
    assert all("floors" in line for line in lines)
    assert next(line for line in lines if "mode_weights" in line).endswith(": above the floors")
    assert "'above the floors': the same where a bound is missing" in printed


def test_one_reference_in_two_halves_lies_within_its_floors():
    """Floors are means of such distances: none is twice as large."""
    system = peptide("AA")
    whole = read_reference(data_path("references") / "AA.npz", system)
    parts = []
    for k in (0, 1):
        # A tenth of the frames, of every replica: transport costs their square.
        mask = (whole.replica % 2 == k) & (torch.arange(whole.n_samples) // 16 % 10 == 0)
        parts.append(
            type(whole)(
                whole.system, whole.x[mask], whole.u[mask], whole.replica[mask], whole.certificate, whole.tica
            )
        )
    distances = measure_gaps(system, parts[0], parts[1], get_protocol("bgbench@1"))
    assert {gap.metric for gap in distances} >= {"energy_w2", "torus_w2", "tica_w2"}
    assert all(gap.value < 2 * max(gap.floors) for gap in distances)
    assert all(
        bound > floor for gap in distances for bound, floor in zip(gap.bounds, gap.floors, strict=True)
    )


@pytest.mark.parametrize(
    ("value", "bounds", "words"),
    [
        (0.30, (0.4, 0.5), "floors 0.2 (0.4) and 0.3 (0.5): within the floors"),
        (0.45, (0.4, 0.5), "floors 0.2 (0.4) and 0.3 (0.5): not distinguishable"),
        (0.51, (0.4, 0.5), "floors 0.2 (0.4) and 0.3 (0.5): apart"),
        (0.51, (0.6, 0.5), "floors 0.2 (0.6) and 0.3 (0.5): not distinguishable"),
        (0.51, (None, 0.5), "floors 0.2 (no bound) and 0.3 (0.5): above the floors"),
        (0.30, (None, None), "floors 0.2 (no bound) and 0.3 (no bound): within the floors"),
    ],
)
def test_apart_is_above_the_bounds_of_both(value, bounds, words):
    assert str(Gap("torus_w2", value, (0.2, 0.3), bounds)) == f"torus_w2 {value:.3g}, {words}"


def test_floors_of_both_are_along_the_tics_of_the_second(own_references, cli):
    """The made-up reference has no TICA model of its own."""
    code, printed, _ = cli("data", "compare", "AA")
    assert code == 0
    assert re.search(
        r"^  tica_w2 [\d.]+, floors [\d.]+ \(no bound\) and [\d.]+ \([\d.]+\): ", printed, re.MULTILINE
    )


def test_a_tica_model_of_another_size_is_reported(tmp_path, cli):
    path = tmp_path / "AA.npz"
    with np.load(data_path("references") / "AA.npz") as stored:
        arrays = {**stored, "tica_mean": np.zeros(5), "tica_projection": np.zeros((5, 2))}
    np.savez(path, **arrays)
    code, printed, complaint = cli("data", "compare", "AA", "--with", tmp_path)
    assert (code, printed) == (2, "")
    assert "a TICA model of shapes (5,)" in complaint


def test_a_reference_is_not_compared_with_itself(tmp_path, cli):
    shutil.copy(data_path("references") / "AA.npz", tmp_path)
    code, _, complaint = cli("data", "compare", "AA", "--with", str(tmp_path))
    assert code == 2
    assert "the same file" in complaint


def test_without_a_second_reference_there_is_nothing_to_compare(tmp_path, cli, monkeypatch):
    monkeypatch.setenv("BGBENCH_REFERENCES", str(tmp_path))
    code, _, complaint = cli("data", "compare", "AA")
    assert code == 2
    assert "AA.npz does not exist; simulate AA, fetch it, or give --with FOLDER" in complaint


def test_the_folder_given_comes_first(own_references, tmp_path):
    system = peptide("AA")
    other = tmp_path / "other"
    other.mkdir()
    shutil.copy(data_path("references") / "AA.npz", other)
    first, second = read_pair(system, other)
    assert first.n_samples == 10_000
    assert second.n_samples == 120
    assert not torch.equal(first.x[0], second.x[0])


@pytest.mark.parametrize("own", [True, False])
def test_a_run_says_when_it_uses_a_reference_of_ones_own(own, tmp_path, cli, request):
    if own:
        request.getfixturevalue("own_references")
    suite = tmp_path / "one@1.yaml"
    suite.write_text("systems: [AA]\nenergy: batched\nbudget: 60\nseeds: 1\n")
    words = ("run", "prior", "--suite", suite, "--workers", "0", "--out", tmp_path / "run")
    code, printed, _ = cli(*words, "--tracking-uri", "none")
    assert code == 0
    assert ("AA: judged against a reference of your own" in printed) == own


def test_of_another_force_field_no_reference_is_packaged(tmp_path, cli, own_references, make_reference):
    """A cut-off is part of the target: the run needs a reference of its own, and none is packaged."""
    suite = tmp_path / "one@1.yaml"
    target = "forcefield: {name: short, cutoff: 1}"
    suite.write_text(f"systems: [AA]\nenergy: batched\nbudget: 60\nseeds: 1\n{target}\n")
    words = (
        "run",
        "prior",
        "--suite",
        suite,
        "--workers",
        0,
        "--tracking-uri",
        "none",
        "--out",
        tmp_path / "r",
    )
    code, _, printed = cli(*words)
    assert code == 2
    assert "no reference for AA at 310 K with the force field 'short' of one@1 is at hand" in printed
    short = load_suite(str(suite)).forcefield
    make_reference(own_references / reference_path("AA", 310.0, short).parent, "AA", forcefield=short)
    code, printed, _ = cli(*words)
    assert code == 0
    assert "of your own" not in printed
