"""More than sixty tampered submissions: each is refused, for the right reason, in little memory."""

import importlib.util
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation
from scipy.stats import hypergeom

from bgbench.estimators.weights import CUTS, cut_weights
from bgbench.evaluation.bench import open_bench
from bgbench.leaderboard.copies import too_many
from bgbench.leaderboard.entries import open_entry
from bgbench.leaderboard.normalisation import far_apart
from bgbench.leaderboard.problems import Refused
from bgbench.leaderboard.recompute import energies, log_z_of, reference_copies, subset_size, weights
from bgbench.leaderboard.rules import FOUND, REASONS
from bgbench.leaderboard.validate import validate
from bgbench.systems.chirality import is_wrong


def load():
    spec = importlib.util.spec_from_file_location("tampering", Path(__file__).parent / "tampering.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


tampered = load()
COSTLY = 1_000
"""MB of memory that the validator stays under."""


def problems_of(folder):
    try:
        return validate(folder).problems
    except Refused as refused:
        return refused.problems


def test_there_are_sixty_of_them():
    assert len(tampered.TAMPERINGS) >= 60
    assert {reason for reason, _ in tampered.TAMPERINGS.values()} <= set(REASONS)


@pytest.mark.parametrize("name", list(tampered.TAMPERINGS))
def test_refused_for_the_right_reason(name, submission):
    reason, tamper = tampered.TAMPERINGS[name]
    tamper(submission)
    problems = problems_of(submission)
    assert problems, "accepted"
    assert {problem.reason for problem in problems} == {reason}, [str(problem) for problem in problems[:5]]


def test_an_untouched_submission_is_sound(submission):
    assert problems_of(submission) == ()


def test_markup_cannot_hide_in_the_folders_name(submission):
    target = submission.parent / "<b>verse"
    submission.rename(target)
    assert problems_of(target)[0].reason == "path"


def test_a_submission_that_is_a_link_is_refused(submission, tmp_path):
    link = tmp_path / "link"
    link.symlink_to(submission)
    assert problems_of(link)[0].reason == "layout"


@pytest.fixture(scope="module")
def cell(packed):
    """A record of an importance sampler, its arrays, and the bench that judges it."""
    opened = open_entry(packed["verse"])
    record = opened.records[0]
    with np.load(opened.run.arrays_path(record.cell)) as stored:
        return record, dict(stored), open_bench(record.cell)


def turned(x, rng):
    rotations = Rotation.random(len(x), random_state=rng).as_matrix()
    return (np.einsum("nij,naj->nai", rotations, x) + rng.normal(size=(len(x), 1, 3))).astype(np.float32)


def test_copies_of_the_reference_are_no_samples_however_they_lie(cell):
    """To the bit, turned and moved, with equal atoms exchanged, with noise."""
    record, _, bench = cell
    rng = np.random.default_rng(0)
    x = bench.reference.x[:50].numpy()
    hydrogens = [k for k, atom in enumerate(bench.system.atoms) if atom.element == "H"]
    exchanged = turned(x, rng)
    exchanged[:, hydrogens] = exchanged[:, hydrogens[::-1]]
    noisy = turned(x, rng) + 1e-3 * rng.normal(size=x.shape).astype(np.float32)
    for copied in (x, turned(x, rng), exchanged, noisy):
        (problem,) = too_many(reference_copies({"x": copied}, bench), record.cell.name)
        assert problem.reason == "copied"


def test_draws_of_its_own_are_no_copies(cell):
    _, stored, bench = cell
    assert not list(too_many(reference_copies(stored, bench), "AA-s0"))
    one = stored["x"].copy()
    one[0] = bench.reference.x[3].numpy()
    (copied,) = reference_copies({"x": one}, bench)
    assert copied == (1, len(one), "the reference")
    assert not list(too_many([copied], "AA-s0")), "one of a hundred may be"


@pytest.mark.parametrize("cut", CUTS)
def test_weights_under_every_cut_follow_from_u_and_log_q(cell, cut):
    """Fitted weights passed as `psis`, and under other cuts wherever they were lowered."""
    record, stored, bench = cell
    own = {**record.cell.estimator_options, "cut": cut}
    record = record.model_copy(update={"cell": record.cell.model_copy(update={"estimator_options": own})})
    honest = cut_weights(torch.from_numpy(-stored["u"] - stored["log_q"]), cut).numpy()
    assert not list(weights(record, {**stored, "log_w": honest}, bench))
    fitted = honest - np.linspace(0.0, 1.0, len(honest))
    zeroed = np.where(np.arange(len(honest)) == np.argsort(honest)[5], -np.inf, honest)
    for log_w in (fitted, zeroed):
        (problem,) = weights(record, {**stored, "log_w": log_w}, bench)
        assert problem.reason == "weights"
    without = {name: values for name, values in stored.items() if name != "log_q"}
    (problem,) = weights(record, {**without, "log_w": honest}, bench)
    assert "without log q" in problem.text


def test_a_weight_of_zero_needs_a_cause(cell):
    """Wrong chirality is one, as the protocol says, and a bad energy; being unwanted is none."""
    record, stored, bench = cell
    log_w = -stored["u"] - stored["log_q"]
    mirrored = {**stored, "x": stored["x"].copy(), "log_w": log_w.copy()}
    mirrored["x"][4] *= -1
    mirrored["log_w"][4] = -np.inf
    assert not list(weights(record, mirrored, bench))
    mirrored["log_w"][4] = log_w[4]
    assert len(list(weights(record, mirrored, bench))) == 1
    plain = record.model_copy(update={"cell": record.cell.model_copy(update={"estimator": "none"})})
    equal = {**stored, "log_w": np.where(np.arange(len(log_w)) < 9, -np.inf, 0.0)}
    (problem,) = weights(plain, equal, bench)
    assert "without a cause" in problem.text


def test_one_false_energy_in_a_thousand_is_found():
    """By the exact probability (hypergeometric), for every size of ensemble."""
    for n in (2, 100, 999, 1_000, 1_999, 5_000, 10_000, 123_456, 1_000_000):
        false = max(1, n // 1_000)
        assert hypergeom(n, false, subset_size(n)).pmf(0) <= 1 - FOUND + 1e-9, n
        assert subset_size(n) <= n


def test_a_second_try_looks_at_the_same_energies(cell):
    _, stored, bench = cell
    looked = []
    energy = SimpleNamespace(energy=lambda x: looked.append(x) or bench.energy.energy(x))
    watched = replace(bench, energy=energy)
    for seed in ("ab" * 32, "ab" * 32, "cd" * 32):
        assert not energies(stored, watched, seed).fault
    assert torch.equal(looked[0], looked[1])


def test_log_q_made_up_for_each_seed_gives_each_its_own_log_z(cell):
    """log q = −u and a constant makes all weights even, as those of a perfect sampler are."""
    record, stored, bench = cell
    x = np.where(is_wrong(bench.system, torch.from_numpy(stored["x"])).numpy()[:, None, None], -1, 1)
    values = {}
    for seed, z in enumerate((-45.0, -45.5, -46.0)):
        made_up = {**stored, "x": stored["x"] * x, "log_q": -stored["u"] - z}
        values[f"AA-s{seed}"] = log_z_of(record, made_up, bench)
    assert far_apart(values)[:2] == ("AA-s0", "AA-s2")
    plain = record.model_copy(update={"cell": record.cell.model_copy(update={"estimator": "none"})})
    assert log_z_of(plain, stored, bench) is None


MEASURE = """
import sys
from pathlib import Path
from bgbench.leaderboard.problems import Refused
from bgbench.leaderboard.validate import validate
from bgbench.runs.process import peak_memory
for folder in sys.argv[1:]:
    try:
        problems = validate(Path(folder)).problems
    except Refused as refused:
        problems = refused.problems
    print(problems[0].reason if problems else "sound")
print(peak_memory())
"""
HEAVY = (
    "a_zip_bomb",
    "json_without_end",
    "a_huge_record",
    "json_nested_without_end",
    "a_header_that_claims_a_terabyte",
)


@pytest.mark.slow
def test_the_validator_stays_under_a_gigabyte(packed, tmp_path):
    """A sound submission and the heaviest of the tampered ones, in a process of their own."""
    folders, wanted = [packed["verse"]], ["sound"]
    for name in HEAVY:
        folder = Path(shutil.copytree(packed["verse"], tmp_path / name))
        reason, tamper = tampered.TAMPERINGS[name]
        tamper(folder)
        folders.append(folder)
        wanted.append(reason)
    words = [sys.executable, "-c", MEASURE, *map(str, folders)]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    *reasons, peak = done.stdout.split()
    assert reasons == wanted
    assert float(peak) < COSTLY
