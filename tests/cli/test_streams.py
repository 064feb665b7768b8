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

    def call(*words):
        return subprocess.run(
            [sys.executable, "-m", "bgbench", *map(str, words)],
            capture_output=True,
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


def test_json_is_whole_where_there_is_no_standard_error(noisy_run):
    path, _ = noisy_run
    words = [sys.executable, "-m", "bgbench", "show", str(path), "--json"]
    done = subprocess.run(
        ["sh", "-c", 'exec "$@" 2>&-', "sh", *words], capture_output=True, text=True, check=False
    )
    assert json.loads(done.stdout)["cells"][0]["status"] == "ok"
