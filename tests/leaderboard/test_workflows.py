"""The workflows run no submitted code, with tokens that can do no harm."""

import re
import subprocess
from pathlib import Path

import pytest
import yaml

FOLDER = Path(__file__).parent.parent.parent / ".github" / "workflows"
FILES = sorted(FOLDER.glob("*.yml"))


def loaded(name):
    return yaml.safe_load((FOLDER / f"leaderboard-{name}.yml").read_text())


def steps(workflow):
    return [step for job in workflow["jobs"].values() for step in job["steps"]]


def test_all_are_there():
    names = ["leaderboard-publish.yml", "leaderboard-validate.yml", "slow.yml"]
    assert [path.name for path in FILES] == names


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_actions_are_pinned_and_tokens_are_given_job_by_job(path):
    workflow = yaml.safe_load(path.read_text())
    assert workflow["permissions"] == {}
    for step in steps(workflow):
        if "uses" in step:
            assert re.fullmatch(r"actions/[a-z-]+@[0-9a-f]{40}", step["uses"])
        if step.get("uses", "").startswith("actions/checkout"):
            assert step["with"]["persist-credentials"] is False
    for job in workflow["jobs"].values():
        assert job["timeout-minutes"] <= 90
        writes = {name for name, kind in job["permissions"].items() if kind == "write"}
        assert writes <= {"pages", "id-token"}


def test_nothing_of_a_pull_request_is_executed():
    workflow = loaded("validate")
    # YAML reads the key `on` as true.
    assert set(workflow[True]) == {"pull_request"}
    assert workflow["jobs"]["validate"]["permissions"] == {"contents": "read"}
    refs = {
        step["with"]["path"]: step["with"]["ref"]
        for step in steps(workflow)
        if "path" in step.get("with", {})
    }
    assert refs == {"trusted": "${{ github.event.pull_request.base.sha }}", "submitted": "${{ github.sha }}"}
    for step in steps(workflow):
        if "pip" in step.get("run", "") or "bgbench" in step.get("run", ""):
            assert step["working-directory"] == "trusted"
            assert "${{" not in step["run"], "text of a pull request could become shell"
    (command,) = [step["run"] for step in steps(workflow) if step.get("run", "").startswith("bgbench")]
    assert (
        command
        == 'bgbench leaderboard validate ../submitted/leaderboard --against leaderboard --by "$ACCOUNT"'
    )


@pytest.mark.parametrize(
    ("change", "passes"),
    [
        ("leaderboard/records/mine/run.json", True),
        ("leaderboard/ledger/mine-001.json", True),
        ("leaderboard/rules.md", False),
        ("bgbench/records/__init__.py", False),
        (".github/workflows/leaderboard-validate.yml", False),
    ],
)
def test_a_submission_that_changes_anything_else_is_refused(tmp_path, change, passes):
    (command,) = [step["run"] for step in steps(loaded("validate")) if "diff -rq" in step.get("run", "")]
    for side in ("trusted", "submitted"):
        (tmp_path / side / "leaderboard" / "records" / "old").mkdir(parents=True)
        (tmp_path / side / "README.md").write_text("the same")
    path = tmp_path / "submitted" / change
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("new")
    done = subprocess.run(["bash", "-e", "-c", command], cwd=tmp_path, capture_output=True, check=False)
    assert (done.returncode == 0) is passes


def test_what_is_published_was_validated_first():
    commands = [step.get("run", "") for step in loaded("publish")["jobs"]["build"]["steps"]]
    validated = commands.index("bgbench leaderboard validate leaderboard")
    built = next(k for k, command in enumerate(commands) if command.startswith("bgbench leaderboard build"))
    assert validated < built
    assert set(loaded("publish")[True]) == {"push", "workflow_dispatch"}
