"""Standard output holds what a command prints, whatever plugins and their libraries write there."""

import json
import os
import subprocess
import sys

import pytest

NOISY = """
import os
import bgbench

print("printed while it was imported")


class Noisy(bgbench.AbstractSampler):
    def sample(self, task, n_samples):
        os.write(1, b"written by a library\\n")
        return bgbench.Proposal(task.system.positions + 0.1 * torch_noise(task, n_samples))


def torch_noise(task, n):
    import torch

    return torch.randn(n, task.system.n_atoms, 3, generator=task.generator)


def build(options):
    print("printed while it was built")
    os.write(1, b"written by a library while it was built\\n")
    return Noisy()


@bgbench.hookimpl
def bgbench_samplers():
    print("printed by a hook")
    return [bgbench.SamplerPlugin(name="noisy", summary="for tests", build=build, estimator="none")]
"""


@pytest.fixture(scope="module")
def noisy(tmp_path_factory):
    """Calls the command line with a plugin installed that prints wherever it can."""
    site = tmp_path_factory.mktemp("site")
    (site / "bgbench_noisy.py").write_text(NOISY)
    info = site / "bgbench_noisy-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: bgbench-noisy\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[bgbench]\nnoisy = bgbench_noisy\n")
    path = os.pathsep.join([str(site), os.environ.get("PYTHONPATH", "")])

    def call(*words, **streams):
        return subprocess.run(
            [sys.executable, "-m", "bgbench", *map(str, words)],
            **(streams or {"capture_output": True}),
            text=True,
            check=False,
            env={**os.environ, "PYTHONPATH": path},
        )

    return call


@pytest.fixture(scope="module")
def noisy_run(noisy, tmp_path_factory):
    """A run of the noisy sampler in this process, its folder, and what it printed."""
    folder = tmp_path_factory.mktemp("noisy")
    suite = folder / "one@1.yaml"
    suite.write_text('systems: ["analytic:harmonic"]\nenergy: analytic\nbudget: 40\nseeds: 1\n')
    words = ("run", "noisy", "--suite", suite, "--workers", "0", "--tracking-uri", "none")
    return folder / "run", noisy(*words, "--out", folder / "run")


def test_a_table_in_a_file_holds_nothing_of_what_plugins_and_libraries_write(noisy_run):
    path, done = noisy_run
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("noisy · none")
    assert done.stdout.splitlines()[-1] == f"records, arrays and figures: {path}"
    assert "printed" not in done.stdout
    assert "written by" not in done.stdout
    for noise in ("imported", "a hook", "was built", "written by a library\n", "library while"):
        assert noise in done.stderr, noise


def test_a_list_in_a_file_is_a_list(noisy):
    done = noisy("list", "samplers")
    assert "noisy" in done.stdout
    assert "printed" not in done.stdout
    assert "printed while it was imported" in done.stderr


@pytest.fixture
def no_reader():
    """The end of a pipe whose reader has left."""
    read, write = os.pipe()
    os.close(read)
    yield write
    os.close(write)


@pytest.mark.parametrize("words", [(), ("--json",)])
def test_a_reader_who_leaves_changes_neither_exit_code_nor_standard_error(noisy, noisy_run, no_reader, words):
    done = noisy("show", noisy_run[0], *words, stdout=no_reader, stderr=subprocess.PIPE)
    assert done.returncode == 0
    assert "Error" not in done.stderr
    done = noisy("show", "nowhere", *words, stdout=no_reader, stderr=no_reader)
    assert done.returncode == 2


def test_a_run_whose_reader_leaves_goes_on(noisy, noisy_run, no_reader, tmp_path):
    suite = noisy_run[0].with_name("one@1.yaml")
    words = ("run", "prior", "--suite", suite, "--seeds", 2, "--workers", 0)
    ends = ("--tracking-uri", "none", "--out", tmp_path / "run")
    done = noisy(*words, *ends, stdout=no_reader, stderr=no_reader)
    assert done.returncode == 0
    assert len(list((tmp_path / "run" / "cells").glob("*.json"))) == 2


def test_a_working_folder_that_is_gone_is_said(tmp_path):
    folder = tmp_path / "gone"
    folder.mkdir()
    script = 'cd "$1" && rmdir "$1" && exec "$2" -m bgbench list samplers'
    done = subprocess.run(
        ["sh", "-c", script, "sh", str(folder), sys.executable], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "bgbench: the working folder does not exist any more; change to another one with cd\n"
    )


def test_json_is_whole_where_there_is_no_standard_error(noisy_run):
    path, _ = noisy_run
    words = [sys.executable, "-m", "bgbench", "show", str(path), "--json"]
    done = subprocess.run(
        ["sh", "-c", 'exec "$@" 2>&-', "sh", *words], capture_output=True, text=True, check=False
    )
    assert json.loads(done.stdout)["cells"][0]["status"] == "ok"
