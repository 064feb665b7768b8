"""More than sixty tampered submissions: each is refused, for the right reason, in little memory."""

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from bgbench.leaderboard.entries import open_entry
from bgbench.leaderboard.problems import Refused
from bgbench.leaderboard.recompute import samples
from bgbench.leaderboard.rules import REASONS
from bgbench.leaderboard.validate import validate


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


def test_frames_of_the_reference_are_no_samples(submission):
    """Copied frames are recognised by their bits, unless the entry says that it is a control."""
    from bgbench.evaluation.bench import open_bench

    opened = open_entry(submission)
    bench = open_bench(opened.records[0].cell)
    stored = {"x": bench.reference.x[:50].numpy()}
    (problem,) = samples(opened.records[0], stored, bench, False)
    assert problem.reason == "copied"
    assert not list(samples(opened.records[0], stored, bench, True))


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
