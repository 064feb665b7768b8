"""A stranger's plugin, installed from its folder: one of each kind, and each is really used."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from distributed import LocalCluster

from bgbench.core.plugins import Plugins, plugins
from bgbench.evaluation.protocols import get_protocol
from bgbench.references.store import read_reference
from bgbench.runs.distributions import code_sha256
from bgbench.runs.runfolder import RunFolder
from bgbench.systems.peptides import peptide

FOLDER = Path(__file__).parent.parent / "example_plugin"
PIP = [sys.executable, "-m", "pip", "install", "-q", "--no-deps"]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The example distribution in a folder on the path: here and in every child process."""
    folder = tmp_path_factory.mktemp("site")
    subprocess.run([*PIP, "--target", str(folder), str(FOLDER)], check=True, capture_output=True)
    return folder


@pytest.fixture
def installed(site):
    """Makes the plugins of a folder those that are installed."""
    with pytest.MonkeyPatch.context() as patch:

        def install(folder):
            forget()
            patch.syspath_prepend(folder)
            patch.setenv("PYTHONPATH", str(folder), prepend=os.pathsep)
            plugins.cache_clear()

        install(site)
        yield install
        forget()
    plugins.cache_clear()


def forget():
    """The modules of the plugin, which are imported again from wherever they are next."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "bgbench_example"]:
        del sys.modules[name]
    code_sha256.cache_clear()


RUN = ("run", "example-sampler", "--suite", "example-suite", "--set", "width=0.009")


@pytest.mark.parametrize("workers", [0, 1])
def test_one_run_uses_what_a_stranger_registered_of_every_kind(installed, cli, tmp_path, workers):
    out, place = tmp_path / "run", tmp_path / "tracked"
    code, printed, err = cli(
        *RUN, "--protocol", "example@1", "--estimator", "example-estimator", "--set", "estimator.power=0.5",
        "--tracking-uri", f"example://{place}", "--out", out, "--workers", workers,
    )  # fmt: skip
    assert code == 0, err
    assert "displacement (nm) ↓" in printed
    record = json.loads((out / "cells" / "example_water-s0.json").read_text())
    assert record["status"] == "ok"
    assert record["card"]["name"] == "wobble"
    assert record["cell"]["options"] == {"width": "0.009"}
    assert record["diagnostics"]["power_of_weights"] == 0.5
    assert record["energy"]["backend"] == "Springs"
    assert record["reference"]["system"] == "example:water"
    assert record["reference"]["frames"] == 400
    assert (record["cell"]["budget"], record["cell"]["seed"]) == (60, 0)
    distances = {"energy_w2", "energy_w1"}
    assert set(record["metrics"]) >= {"ess", "displacement", "displacement_reference", *distances}
    assert "torus_w2" not in record["metrics"]
    assert set(record["floors"]) == {"energy_w2", "displacement"}
    assert record["diagnostics"]["frames_compared"] == 60
    (line,) = (place / "records.jsonl").read_text().splitlines()
    assert json.loads(line)["metrics"] == record["metrics"]
    plan = RunFolder.open(out).plan
    assert plan.inputs.protocol_sha256 == get_protocol("example@1").sha256
    assert set(plan.inputs.code) == {"bgbench", "bgbench_example"}


def test_a_strangers_engine_simulates_references(installed, cli, tmp_path):
    code, printed, err = cli(
        "data", "simulate", "AA", "--engine", "example", "--short", "--frames", 40, "--out", tmp_path
    )
    assert code == 0, err
    assert "AA: 40 frames" in printed
    reference = read_reference(tmp_path / "AA.npz", peptide("AA"))
    assert reference.n_samples == 40
    assert float(reference.x.std(0).max()) > 0
    assert reference.certificate["engine"] == "example"
    assert reference.certificate["settings"]["round_steps"] == 2


@pytest.mark.parametrize("kind", [*Plugins().registries])
def test_lists_say_whose_it_is(installed, cli, kind):
    code, printed, err = cli("list", kind)
    assert (code, err) == (0, "")
    assert "bgbench-example" in printed


def test_the_example_is_one_of_each_kind(installed):
    for registry in plugins().registries.values():
        assert "bgbench-example" in {registry.origin(name).distribution for name in registry}


@pytest.mark.parametrize(
    ("setting", "complaint"),
    [
        ("widht=0.1", "--set widht=0.1: example-sampler has no option 'widht'; did you mean 'width'?"),
        ("estimator.powr=2", "has no option 'estimator.powr'; did you mean 'estimator.power'?"),
        ("width=-1", "--set width must be positive, got -1 nm"),
        ("temperature=350", "--set temperature=350: the temperature of example:water is fixed"),
    ],
)
def test_misspelt_options_of_a_plugin_are_refused(installed, cli, tmp_path, setting, complaint):
    words = ("--estimator", "example-estimator", "--set", setting, "--out", tmp_path / "run", "--workers", 0)
    code, _, err = cli(*RUN[:4], *words)
    assert code == 2
    assert complaint in err
    assert not (tmp_path / "run").exists()


def test_an_unknown_tracker_is_refused_before_the_run(installed, cli, tmp_path):
    code, _, err = cli(*RUN, "--tracking-uri", "foo://x", "--out", tmp_path / "run", "--workers", 0)
    assert code == 2
    assert err.startswith("bgbench: no tracker for foo://x; known schemes: ")
    assert " example:, file:, " in err
    assert len(err.splitlines()) == 1
    assert not (tmp_path / "run").exists()


def test_a_run_is_not_resumed_with_other_code_of_its_plugin(installed, site, cli, tmp_path):
    words = (*RUN, "--tracking-uri", "none", "--workers", 0, "--out", tmp_path / "run")
    assert cli(*words)[0] == 0
    assert cli(*words, "--resume")[0] == 0
    edited = tmp_path / "edited"
    shutil.copytree(site, edited)
    with (edited / "bgbench_example" / "metric.py").open("a") as stream:
        stream.write("\n# another day\n")
    installed(edited)
    code, _, err = cli(*words, "--resume")
    assert code == 2
    assert "was planned with other code of bgbench_example" in err
    assert "results would mix" in err
    assert "any edit of its files counts; go back to the bgbench_example of the plan, or" in err


def test_workers_of_a_scheduler_use_what_a_stranger_registered(installed, cli, tmp_path):
    """A Dask worker that is a process of its own, on whose path the plugin is too."""
    words = (
        *RUN, "--protocol", "example@1", "--estimator", "example-estimator", "--seeds", 2,
        "--tracking-uri", f"example://{tmp_path / 'tracked'}",
    )  # fmt: skip
    with LocalCluster(n_workers=1, threads_per_worker=1, processes=True, dashboard_address=None) as cluster:
        address = cluster.scheduler_address
        code, printed, err = cli(*words, "--out", tmp_path / "there", "--scheduler", address)
    assert code == 0, err
    assert "displacement (nm) ↓" in printed
    assert cli(*words[:-1], "none", "--out", tmp_path / "here", "--workers", 0)[0] == 0
    there, here = (RunFolder.open(tmp_path / name).records() for name in ("there", "here"))
    assert [record.status for record in there] == ["ok", "ok"]
    assert there[0].energy["backend"] == "Springs"
    assert [record.metrics for record in there] == [record.metrics for record in here]
    assert len((tmp_path / "tracked" / "records.jsonl").read_text().splitlines()) == 2


def test_a_protocol_in_a_file_goes_with_the_run(installed, cli, tmp_path):
    own = tmp_path / "mine@2.yaml"
    own.write_text("summary: my own\nn_samples: 30\nmetrics: [displacement]\nheadline: [displacement]\n")
    out = tmp_path / "run"
    words = (*RUN, "--tracking-uri", "none", "--out", out)
    code, printed, err = cli(*words, "--workers", 1, "--protocol", own)
    assert code == 0, err
    assert "mine@2" in printed
    record = json.loads((out / "cells" / "example_water-s0.json").read_text())
    assert set(record["metrics"]) == {"displacement", "displacement_reference"}
    own.write_text(own.read_text().replace("30", "31"))
    code, _, err = cli(*words, "--workers", 0, "--resume", "--protocol", own)
    assert code == 2
    assert "was planned with other protocol sha256" in err
    own.unlink()
    assert cli(*words, "--workers", 0, "--resume")[0] == 0
    assert cli("replay", out)[0] == 0
