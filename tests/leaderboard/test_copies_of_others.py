"""Conformers of other entries and seeds, names that read like others, log Z that seeds do not share."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from bgbench.leaderboard import board as boards
from bgbench.leaderboard.board import accept, guard
from bgbench.leaderboard.borrowed import borrowed, published_twice
from bgbench.leaderboard.confusables import alike
from bgbench.leaderboard.copies import too_many
from bgbench.leaderboard.entries import open_entry
from bgbench.leaderboard.normalisation import LogZ, far_apart, trusted_log_z
from bgbench.leaderboard.problems import Refused


@pytest.fixture
def theirs(published):
    return open_entry(published / "records" / "verse")


def of_another_sampler(files):
    """The same entry, as a sampler of somebody else would have made it."""
    return replace(files, plan=files.plan.model_copy(update={"sampler": "mine"}))


def turn(path, rng):
    with np.load(path) as stored:
        arrays = {name: stored[name].copy() for name in stored.files}
    rotations = Rotation.random(len(arrays["x"]), random_state=rng).as_matrix()
    arrays["x"] = (np.einsum("nij,naj->nai", rotations, arrays["x"]) + 3.0).astype(np.float32)
    np.savez_compressed(path, **arrays)


def test_the_conformers_of_another_entry_are_found_though_they_are_turned(theirs, packed, tmp_path, rng):
    mine = Path(shutil.copytree(packed["verse"], tmp_path / "mine"))
    for path in (mine / "arrays").glob("*.npz"):
        turn(path, rng)
    copied = borrowed(of_another_sampler(open_entry(mine)), [theirs])
    assert {name: [(c.source, c.fraction) for c in found] for name, found in copied.items()} == {
        record.cell.name: [("verse", 1.0)] for record in theirs.records
    }
    (problem,) = too_many(copied["AA-s0"], "AA-s0")
    assert (problem.reason, problem.where) == ("copied", "arrays/AA-s0.npz")
    assert "100.0% are copies of conformers of verse" in problem.text


def test_one_sampler_may_judge_its_draws_in_two_ways(theirs, packed):
    assert borrowed(open_entry(packed["verse"]), [theirs]) == {}


def test_one_seed_passed_off_as_another_is_found(packed, tmp_path, rng):
    mine = Path(shutil.copytree(packed["prior"], tmp_path / "mine"))
    assert borrowed(open_entry(mine), []) == {}
    shutil.copy(mine / "arrays" / "GS-s0.npz", mine / "arrays" / "GS-s2.npz")
    turn(mine / "arrays" / "GS-s2.npz", rng)
    assert [(c.source, c.fraction) for c in borrowed(open_entry(mine), [])["GS-s2"]] == [
        ("its own GS-s0", 1.0)
    ]


def test_walkers_of_all_seeds_may_begin_at_one_start(packed, tmp_path):
    """As `md` on the board does: a tenth of its conformers are the start, in every seed."""
    mine = Path(shutil.copytree(packed["prior"], tmp_path / "mine"))
    for seed in range(3):
        path = mine / "arrays" / f"GS-s{seed}.npz"
        with np.load(path) as stored:
            arrays = {name: stored[name].copy() for name in stored.files}
        arrays["x"][:10] = np.load(mine / "arrays" / "GS-s0.npz")["x"][99]
        np.savez_compressed(path, **arrays)
    copied = borrowed(open_entry(mine), [])
    assert [(c.number, c.of) for c in copied["GS-s2"]] == [(1, 91), (1, 91)]
    assert not list(too_many(copied["GS-s2"], "GS-s2"))


def test_samplers_that_differ_have_no_conformers_in_common(published):
    verse, prior = (open_entry(published / "records" / name) for name in ("verse", "prior"))
    assert borrowed(verse, [prior]) == {}


def test_the_records_of_another_entry_are_published_once(theirs, packed, board, tmp_path):
    assert [p.reason for p in published_twice(open_entry(packed["verse"]), [theirs])] == ["copied"]
    mine = Path(shutil.copytree(packed["verse"], tmp_path / "mine"))
    with pytest.raises(Refused, match="holds the records of verse"):
        accept(mine, board)
    assert guard(board) == []


def test_what_was_published_first_is_nobodys_copy(board):
    assert [files.name for files in boards._others(board, "verse")] in ([], ["prior"])
    assert {files.name for files in boards._others(board, "mine")} == {"verse", "prior"}
    first, second = sorted(("verse", "prior"), key=lambda n: len(boards._others(board, n)))
    assert [files.name for files in boards._others(board, second)] == [first]


@pytest.mark.parametrize("name", ["pr1or", "prlor", "pri0r", "prior-", "prior.", "pr10r"])
def test_a_name_that_reads_like_a_published_one_is_refused(name, board, packed, tmp_path):
    mine = Path(shutil.copytree(packed["prior"], tmp_path / name))
    with pytest.raises(Refused, match="reads like prior") as caught:
        accept(mine, board)
    assert [problem.reason for problem in caught.value.problems] == ["name"]
    shutil.copytree(board / "records" / "prior", board / "records" / name)
    event = json.loads((board / "ledger" / "prior-001.json").read_text())
    late = {**event, "entry": name, "date": "2999-01-01T00:00:00+00:00"}
    (board / "ledger" / f"{name}-001.json").write_text(json.dumps(late))
    assert ("name", name) in {(problem.reason, problem.where) for problem in guard(board)}


def test_numbers_and_endings_tell_names_apart():
    names = ["verse-1000", "verse-paper-1000", "tbg-1000", "mode-deleted-1000"]
    for name in ("verse-10000", "verse-100", "verse-1001", "verse2-1000", "remd-1000"):
        assert alike(name, names) is None


def test_seeds_of_a_true_density_share_their_log_z(rng):
    """Of 200 entries of three seeds with lognormal weights none is refused."""
    for _ in range(200):
        seeds = {f"AA-s{k}": trusted_log_z(0.6 * rng.normal(size=1_000) - 45.0) for k in range(3)}
        assert None not in seeds.values()
        assert far_apart(seeds) is None


def test_log_z_that_is_made_up_is_far_apart():
    assert far_apart({"AA-s0": LogZ(-45.0, 0.01), "AA-s1": LogZ(-46.0, 0.01)})[:2] == ("AA-s0", "AA-s1")


def test_log_z_of_few_effective_points_says_nothing(rng):
    assert trusted_log_z(9.0 * rng.normal(size=1_000)) is None
    assert trusted_log_z(np.full(99, -45.0)) is None
