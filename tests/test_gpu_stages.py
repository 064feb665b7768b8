"""Stages for a machine with a GPU, rehearsed on the CPU with what travels and without what it lacks."""

import importlib.metadata
import importlib.util
import json
import os
import re
import shlex
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
GPU = ROOT / "benchmarks" / "gpu"
MIB = 1 << 20

IMPORTED_AS = {
    "mlflow": "mlflow", "mdtraj": "mdtraj", "distributed": "distributed", "plotly": "plotly",
    "openmm": "openmm", "PeptideBuilder": "PeptideBuilder", "deeptime": "deeptime", "POT": "ot",
}  # fmt: skip
"""What dependencies are imported as, of those that the machine may lack."""

REFUSAL = """
import os, sys
class Lacking:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {names!r}:
            raise ImportError(f"the GPU machine has no {{name}}")
sys.meta_path.insert(0, Lacking())
ROOT, TREE = {root!r}, {tree!r}
def refuse(event, arguments):
    if event != "open" or not isinstance(arguments[0], (str, bytes)):
        return
    path = os.fsdecode(arguments[0])
    if path.startswith(ROOT + os.sep) and "__pycache__" not in path and os.sep + ".git" not in path:
        inside = path[len(ROOT):]
        if not any(inside.startswith(place) for place in TREE):
            raise FileNotFoundError(f"{{inside}} does not travel to the GPU machine")
sys.addaudithook(refuse)
"""
"""What starts a process that has the packages of the machine and the files that travel only. The files stay
where they are, so that kernels compiled earlier are found."""


def listed(name):
    """The packages that a text file of benchmarks/gpu lists, without comments."""
    lines = (GPU / name).read_text().splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def words_of(block):
    """The command in a marked block of the README."""
    found = re.search(rf"```bash {block}\n(.*?)```", (GPU / "README.md").read_text(), re.DOTALL)
    return found[1].replace("\\\n", " ").strip()


def dependencies():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return {re.match(r"[\w-]+", line)[0] for line in project["dependencies"]}


def lacking(*more):
    """Modules that the machine cannot import, wheels included, and `more` that a stage does not carry."""
    there = {*listed("machine.txt"), *(line.partition("==")[0] for line in listed("wheels.txt"))}
    there = {name.lower() for name in there}
    missing = {name for name in dependencies() if name.lower() not in there} | {*more}
    return sorted(IMPORTED_AS[name] for name in missing)


def tree():
    """What travels, by the README's own sparse checkout."""
    return [word for word in shlex.split(words_of("sparse")) if word.startswith("/")]


def rehearse(tmp_path, *words, without=()):
    """One tiny stage in a process that has what the machine has; its report."""
    site = tmp_path / "site"
    site.mkdir(exist_ok=True)
    refusal = REFUSAL.format(names=lacking(*without), root=str(ROOT), tree=tree())
    (site / "sitecustomize.py").write_text(refusal)
    environment = {**os.environ, "PYTHONPATH": str(site), "OMP_NUM_THREADS": "1"}
    out = tmp_path / "out"
    places = ["--out", out, "--work", tmp_path / "work" / words[0], "--device", "cpu", "--tiny"]
    done = subprocess.run(
        [sys.executable, GPU / "stages.py", *words, *places],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr + done.stdout
    return json.loads((out / f"{words[0]}.json").read_text())


def test_what_does_not_travel_is_refused_in_a_rehearsal(tmp_path):
    refusal = REFUSAL.format(names=lacking(), root=str(ROOT), tree=["/bgbench/"])
    (tmp_path / "sitecustomize.py").write_text(refusal)
    code = "import sys; open(sys.argv[1]).close() if '/' in sys.argv[1] else __import__(sys.argv[1])"
    for word, fine in ((GPU / "stages.py", False), (ROOT / "bgbench" / "api.py", True), ("mlflow", False)):
        run = subprocess.run(
            [sys.executable, "-c", code, str(word)],
            env={**os.environ, "PYTHONPATH": str(tmp_path)}, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert (run.returncode == 0) == fine, run.stderr


def test_the_machine_lacks_nothing_that_is_not_named():
    """Every dependency is there, comes as a wheel, or is refused in the rehearsals."""
    assert set(lacking()) == {"mlflow", "mdtraj", "distributed", "plotly"}


def test_wheels_are_those_of_the_constraints():
    pinned = {line for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line}
    strange = [line for line in listed("wheels.txt") if line not in pinned]
    assert [line.partition("==")[0] for line in strange] == ["POT"]


def test_the_tree_and_the_wheels_may_travel():
    """64 MiB in all; the README's 23.3 MiB of wheels, and room for a state."""
    places = [ROOT / word[1:] for word in tree()]
    assert all(place.exists() for place in places)
    files = [path for place in places for path in (place.rglob("*") if place.is_dir() else [place])]
    size = sum(p.stat().st_size for p in files if p.is_file() and "__pycache__" not in p.parts)
    assert "(23.3 MiB)" in (GPU / "README.md").read_text()
    assert size + 23.3 * MIB < 56 * MIB


def test_the_call_is_short_enough():
    assert len(words_of("call")) + 40 < 2000


@pytest.mark.parametrize("stage", ["data", pytest.param("speeds", marks=pytest.mark.slow)])
def test_a_stage_runs_on_the_files_that_travel(stage, tmp_path):
    report = rehearse(tmp_path, stage)
    assert report["done"]
    assert not report["left_out"]
    assert report["device"]["device"] == "cpu"
    assert report["versions"]["bgbench"] == importlib.metadata.version("bgbench")
    assert report["figures"]


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["train-verse", "suite"])
def test_the_longer_stages_too(stage, tmp_path):
    assert rehearse(tmp_path, stage)["done"]


@pytest.mark.slow
def test_training_of_prose_needs_six_wheels_and_its_state_comes_back(tmp_path):
    """What it packed is a checkpoint of the last step in another place."""
    report = rehearse(tmp_path, "train-prose", without=("PeptideBuilder", "deeptime", "POT"))
    assert report["figures"]["training"]["value"]["steps"] == 2
    stages = module()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    stages.unpack(tmp_path / "out", "train-prose", elsewhere)
    assert stages.steps_of(elsewhere / "trained" / "last.ckpt") == 2


def test_laws_hold_on_the_cpu(tmp_path):
    report = rehearse(tmp_path, "laws")
    assert report["done"], report
    assert {name.split()[0] for name in report["figures"]} == {"energies", "ladder", "a", "draws", "data"}


def module():
    """stages.py as a module."""
    spec = importlib.util.spec_from_file_location("stages", GPU / "stages.py")
    loaded = importlib.util.module_from_spec(spec)
    sys.modules["stages"] = loaded
    spec.loader.exec_module(loaded)
    return loaded


@pytest.fixture
def work(tmp_path):
    """A stage that is not tiny, with ten seconds left."""
    stages = module()
    report = {"figures": {}, "failed": {}, "left_out": [], "done": True}
    return stages.Work("speeds", "cpu", False, time.monotonic() + 10, tmp_path, tmp_path, report)


def test_a_figure_is_measured_once_or_left_out_and_its_failure_stops_nothing(work):
    calls = []
    work.measure("quick", 1, lambda: calls.append(1) or 7)
    work.measure("quick", 1, lambda: calls.append(1) or 7)
    work.measure("long", 60, lambda: calls.append(1))
    work.measure("broken", 1, lambda: 1 / 0)
    assert calls == [1]
    report = json.loads((work.out / "speeds.json").read_text())
    assert report["figures"]["quick"]["value"] == 7
    assert report["left_out"] == ["long"]
    assert report["failed"] == {"broken": "ZeroDivisionError: division by zero"}
    work.measure("broken", 1, lambda: 1)
    work.measure("long", 1, lambda: 2)
    assert (work.report["left_out"], work.report["failed"]) == ([], {})


def test_a_law_that_does_not_hold_fails_with_its_figures(work):
    stages = module()
    work.measure("law", 1, lambda: stages.demand(False, {"gap": 3}))
    assert work.report["failed"] == {"law": 'ArithmeticError: {"gap": 3}'}


def test_a_command_ends_when_the_time_is_up(work):
    """`run` would go on for long; None is no exit code."""
    stages = module()
    work.deadline = time.monotonic() - 1
    assert stages.run_until(work, ["--help"], lambda: None) is None


def test_states_come_back_in_parts_or_are_said_to_be_too_large(tmp_path, monkeypatch):
    stages = module()
    state, out, again = (tmp_path / name for name in ("state", "out", "again"))
    for folder in (state, out, again):
        folder.mkdir()
    assert stages.pack("data", state, out) == "nothing to go on with"
    (state / "noise").write_bytes(os.urandom(5000))
    monkeypatch.setattr(stages, "PART_BYTES", 2000)
    assert stages.pack("data", state, out).endswith("MiB")
    assert [path.name for path in sorted(out.iterdir())] == [f"data.state.{k:02d}" for k in range(3)]
    stages.unpack(out, "data", again)
    assert (again / "noise").read_bytes() == (state / "noise").read_bytes()
    (again / "noise").write_bytes(b"further")
    stages.unpack(out, "data", again)
    assert (again / "noise").read_bytes() == b"further"
    monkeypatch.setattr(stages, "MOST_PARTS", 2)
    assert "more than can come back" in stages.pack("data", state, out)


def test_without_a_package_the_source_is_made_known(monkeypatch):
    """Where bgbench is not installed, its version and its plugins are found all the same."""
    stages = module()
    real = importlib.metadata.version
    missing = importlib.metadata.PackageNotFoundError("bgbench")
    monkeypatch.setattr(importlib.metadata, "version", lambda name: (_ for _ in ()).throw(missing))
    before = [*sys.path]
    with stages.installed():
        monkeypatch.setattr(importlib.metadata, "version", real)
        site = next(place for place in sys.path if place not in before)
        [made] = importlib.metadata.distributions(path=[site])
        project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
        assert made.version == project["version"]
        points = {p.name: p.value for p in made.entry_points if p.group == "bgbench"}
        assert points == project["entry-points"]["bgbench"]
    sys.path[:] = before


def test_figures_of_another_card_are_not_gone_on_with(tmp_path):
    stages = module()
    args = stages.parse(
        ["speeds", "--out", str(tmp_path), "--from", str(tmp_path), "--commit", "c", "--tiny"]
    )
    import torch

    first = stages.opening(args, torch.device("cpu"))
    assert first["figures"] == {}
    for name, expected in (("cpu", {"limits": 1}), ("cuda:0", {})):
        earlier = {**first, "figures": {"limits": 1}, "device": {**first["device"], "device": name}}
        (tmp_path / "speeds.json").write_text(json.dumps(earlier))
        assert stages.opening(args, torch.device("cpu"))["figures"] == expected
