"""SLURM job arrays, with a stand-in for `sbatch` that runs a script's tasks one after another."""

import os
import subprocess
import sys

import pytest

from bgbench.core.errors import BgbenchError
from bgbench.runs.arrays import memory_in_mib, read_array, run_task, script
from bgbench.runs.clusters import Slurm
from bgbench.runs.runfolder import RunFolder

SBATCH = """#!{python}
# `sbatch --parsable SCRIPT`: notes the job. Its tasks run when `run_array` says so.
import pathlib, sys
assert sys.argv[1] == "--parsable", sys.argv
here = pathlib.Path(__file__).parent
(here / "submitted").write_text(sys.argv[2])
if (here / "broken").exists():
    sys.exit("sbatch: error: invalid partition specified: nowhere")
print("4711;cluster")
"""

SQUEUE = """#!{python}
import pathlib, sys
assert sys.argv[1:] == ["--noheader", "--jobs", "4711"], sys.argv
if (pathlib.Path(__file__).parent / "queued").exists():
    print("4711_[0-1] bgbench R")
"""

RUN = ("run", "prior", "--only", "AA", "--only", "DI", "--seeds", 2, "--budget", 20, "--tracking-uri", "none")
ARRAY = (*RUN, "--cluster", "slurm-array", "--workers", 3)


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    """A folder on PATH with stand-ins for SLURM's commands."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name, text in (("sbatch", SBATCH), ("squeue", SQUEUE)):
        (folder / name).write_text(text.replace("{python}", sys.executable))
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)
    return folder


def directives(text):
    """The #SBATCH lines of a script."""
    lines = [line.removeprefix("#SBATCH --") for line in text.splitlines() if line.startswith("#SBATCH --")]
    return dict(line.split("=", 1) for line in lines)


@pytest.mark.slow
def test_an_array_is_submitted_run_and_collected(slurm, cli, tmp_path, timeless):
    out = tmp_path / "run"
    code, _, err = cli(*ARRAY, "--out", out, "--set", "cluster.queue=short", "--set", "cluster.memory=2GiB")
    assert code == 0, err
    text = " ".join(err.split())
    assert "job 4711 is submitted: 3 tasks run 4 cells" in text
    assert f"`bgbench run prior --out {out} --resume`" in text
    script_text = (slurm / "submitted").read_text()
    head = directives((out / "slurm-array.sh").read_text())
    assert script_text == str(out / "slurm-array.sh")
    assert (head["array"], head["partition"], head["mem"]) == ("0-2", "short", "2048M")
    planned = [cell.name for cell in RunFolder.open(out).plan.cells]
    assert sorted(name for task in read_array(out).tasks for name in task) == sorted(planned)

    # While the job is in the queue, nobody runs its cells a second time.
    (slurm / "queued").touch()
    code, _, err = cli("run", "prior", "--out", out, "--resume", "--workers", 0)
    assert code == 2
    assert "job 4711 of" in err
    assert "scancel 4711" in err
    (slurm / "queued").unlink()

    environment = {**os.environ, "SLURM_ARRAY_TASK_ID": "0"}
    subprocess.run(["sh", str(out / "slurm-array.sh")], env=environment, check=True)
    done = {record.cell.name for record in RunFolder.open(out).records()}
    assert done == set(read_array(out).tasks[0])
    assert len(done) == 2

    # What the other tasks left is run by --resume, and all records are those of any other run.
    code, printed, err = cli("run", "prior", "--out", out, "--resume", "--workers", 0)
    assert code == 0, err
    assert "AA" in printed
    assert cli(*RUN, "--out", tmp_path / "here", "--workers", 0)[0] == 0
    there, here = (RunFolder.open(folder).records() for folder in (out, tmp_path / "here"))
    assert [record.metrics for record in there] == [record.metrics for record in here]


def test_a_refused_script_is_one_line_and_resume_submits_it_again(slurm, cli, tmp_path):
    out = tmp_path / "run"
    (slurm / "broken").touch()
    code, _, err = cli(*ARRAY, "--out", out)
    assert code == 2
    assert "invalid partition specified: nowhere; correct --set cluster.KEY=VALUE" in " ".join(err.split())
    assert read_array(out).job == ""
    (slurm / "broken").unlink()
    code, _, err = cli("run", "prior", "--out", out, "--resume", "--cluster", "slurm-array", "--workers", 1)
    assert code == 0, err
    assert read_array(out).job == "4711"
    assert len(read_array(out).tasks) == 1


def test_a_task_that_is_not_there_is_refused(slurm, cli, tmp_path):
    out = tmp_path / "run"
    assert cli(*ARRAY, "--out", out)[0] == 0
    with pytest.raises(BgbenchError, match="has no task 3"):
        run_task(out, 3)
    (out / "array.json").write_text("{}")
    with pytest.raises(BgbenchError, match=r"array\.json is damaged"):
        run_task(out, 0)


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (
            ("--set", "cluster.interface=ib0"),
            "cluster.interface=ib0 has no effect with --cluster slurm-array",
        ),
        (("--set", "cluster.memory=much"), "cluster.memory=much: write an amount of memory"),
        (("--set", "cluster.que=short"), "did you mean 'cluster.queue'?"),
    ],
)
def test_wrong_options_are_refused_before_anything_is_written(slurm, cli, tmp_path, words, complaint):
    code, _, err = cli(*ARRAY, *words, "--out", tmp_path / "run")
    assert code == 2
    assert complaint in err
    assert not (tmp_path / "run").exists()
    assert not (slurm / "submitted").exists()


def test_without_sbatch_it_is_refused(cli, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    code, _, err = cli(*ARRAY, "--out", tmp_path / "run")
    assert code == 2
    assert "--cluster slurm-array needs sbatch on PATH" in err


def test_the_script_asks_for_what_the_options_say(tmp_path):
    job = Slurm(account="me", cores=4, gpu=1, directives="--nice=5; --exclusive", prologue="module load x")
    text = script(job, tmp_path / "my run", 7)
    head = directives(text.replace("--exclusive", "--exclusive="))
    assert head["array"] == "0-6"
    assert (head["account"], head["cpus-per-task"], head["gres"]) == ("me", "4", "gpu:1")
    assert head["nice"] == "5"
    assert "partition" not in head
    assert "\nmodule load x\n" in text
    assert f"bgbench.runs.arrays '{tmp_path}/my run' \"$SLURM_ARRAY_TASK_ID\"" in text
    assert memory_in_mib("1 MiB") == 1
