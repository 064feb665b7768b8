"""Shared fixtures. Every random test takes `seed`, which pytest prints in the test's name."""

import os
import shutil
import time
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from bgbench import AbstractEnergy, Reference, System, peptide
from bgbench.cli.main import app, guarded
from bgbench.core.plugins import plugins
from bgbench.energies.batched import BatchedEnergy
from bgbench.energies.meter import MeteredEnergy
from bgbench.evaluation.bench import Bench
from bgbench.evaluation.cell import Cell
from bgbench.evaluation.floors import Floors
from bgbench.evaluation.protocols import get_protocol
from bgbench.evaluation.suites import load_suite
from bgbench.references.diagnostics import certify
from bgbench.references.store import write_reference
from bgbench.systems.analytic import KINDS
from bgbench.systems.chirality import is_wrong
from bgbench.systems.peptides import build_peptide


@pytest.fixture(params=[0], ids=lambda seed: f"seed{seed}")
def seed(request) -> int:
    return request.param


@pytest.fixture
def generator(seed) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def rng(seed) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.fixture(scope="session")
def alanine() -> System:
    """AA: 23 atoms, the smallest peptide of the default suite."""
    return peptide("AA")


@pytest.fixture
def cli(capsys):
    """Calls the command line in this process: exit code, what it printed, what it complained of."""

    def call(*words):
        code = guarded(lambda **options: app([str(word) for word in words], **options))
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


@pytest.fixture(scope="session")
def made_up(tmp_path_factory):
    """Small made-up references of AA and GS: 120 shaken frames, two replicas."""
    folder = tmp_path_factory.mktemp("made-up")
    for name in ("AA", "GS"):
        made_up_reference(folder, name)
    return folder


@pytest.fixture
def own_references(tmp_path, monkeypatch, made_up):
    """A folder of one's own with copies of the made-up references, to be damaged."""
    folder = tmp_path / "references"
    shutil.copytree(made_up, folder)
    monkeypatch.setenv("BGBENCH_REFERENCES", str(folder))
    return folder


WORKERS = 4
"""Processes at most that `-n auto` means: each holds torch, and its share of the cores."""


def pytest_xdist_auto_num_workers():
    return min(WORKERS, os.cpu_count() or 1)


def pytest_configure(config):
    if workers := getattr(config, "workerinput", {}).get("workercount"):
        torch.set_num_threads(max(1, (os.cpu_count() or 1) // workers))


def pytest_collection_modifyitems(items):
    """The board's tests last: their suite and references stay for the rest of the session."""
    items.sort(key=lambda item: "leaderboard" in item.path.parts)


@pytest.fixture(scope="session")
def make_reference():
    """Writes a made-up reference of a peptide into a folder."""
    return made_up_reference


@pytest.fixture(scope="session")
def make_training_file():
    """Writes a made-up training file: frames shaken so little (nm) that every bond is whole."""
    return partial(made_up_reference, width=0.003)


@pytest.fixture(scope="session")
def make_cell():
    """A cell of the default suite with any of its fields changed."""
    return lambda **changes: Cell(**{**CELL, **changes})


class NoEnergy(AbstractEnergy):
    """Judging asks for no energy."""

    def _energy(self, x):
        raise AssertionError("judging asked for an energy")

    def _energy_and_force(self, x):
        raise AssertionError("judging asked for a force")


@pytest.fixture(scope="session")
def make_bench(make_cell):
    """The bench of a system and a reference of the test's own, to judge on."""

    def make(system, reference, protocol="bgbench@1"):
        cell = make_cell(system=system.name, protocol=protocol)
        energy = NoEnergy(system)
        return Bench(
            cell=cell,
            system=system,
            reference=reference,
            protocol=get_protocol(protocol),
            floors=Floors(get_protocol(protocol), system, reference),
            energy=energy,
            oracle=MeteredEnergy(energy, cell.budget),
            suite=load_suite(cell.suite),
        )

    return make


CELL = {
    "sampler": "prior",
    "estimator": "none",
    "protocol": "bgbench@1",
    "suite": "dipeptides-mini@1",
    "system": "AA",
    "budget": 100,
    "seed": 0,
    "temperature": 310.0,
    "energy": "openmm",
}


def made_up_reference(folder, name="", n=120, forcefield=None, temperature=310.0, width=0.02, system=None):
    system = system or peptide(name, temperature, forcefield)
    name = system.name
    generator = torch.Generator().manual_seed(5)
    noise = torch.randn(2 * n, system.n_atoms, 3, generator=generator, dtype=torch.float64)
    x = (system.positions + width * noise).float()
    # Runs refuse references whose stereocentres are mirrored.
    x = x[~is_wrong(system, x)][:n]
    replica = torch.arange(n) % 2
    certificate = {
        **certify(system, {"x": x, "replica": replica}, None),
        "forcefield_sha256": system.forcefield.sha256,
        "engine": "made up",
        "versions": {"bgbench": "0"},
        "replicas": 2,
        "temperatures": [temperature],
        "steps": 1,
        "evaluations": 240,
    }
    reference = Reference(name, x, BatchedEnergy(system).energy(x), replica, certificate)
    return write_reference(folder / f"{name.replace(':', '_')}.npz", system, reference)


@pytest.fixture(scope="session")
def troubles(tmp_path_factory):
    """The samplers of `tests/troubles` as an installed distribution: here and in every child process."""
    site = tmp_path_factory.mktemp("site")
    shutil.copy(Path(__file__).parent / "troubles" / "bgbench_troubles.py", site)
    info = site / "bgbench_troubles-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: bgbench-troubles\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[bgbench]\ntroubles = bgbench_troubles\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(site)
        patch.setenv("PYTHONPATH", str(site), prepend=os.pathsep)
        plugins.cache_clear()
        yield site
    plugins.cache_clear()


@pytest.fixture(autouse=True)
def patient_with_trackers(monkeypatch):
    """However busy the machine is, a tracker has the time that it needs."""
    for name in ("LAST", "LAST_OF_FILES"):
        monkeypatch.setattr(f"bgbench.runs.mirroring.{name}", 500.0)


@pytest.fixture
def no_network(tmp_path, monkeypatch):
    """The hub cannot be reached, its cache is empty, and its client tries again without waiting."""
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    hurried = SimpleNamespace(**{**vars(time), "sleep": lambda seconds: None})
    monkeypatch.setattr("huggingface_hub.utils._http.time", hurried)


@pytest.fixture
def rough_peptides(monkeypatch):
    """Peptides are built with hydrogens anywhere, in a third of the time: for tests of atoms and bonds."""
    monkeypatch.setattr("bgbench.systems.peptides.build_peptide", build_peptide.__wrapped__)  # keeps none
    monkeypatch.setattr("openmm.LocalEnergyMinimizer.minimize", lambda *words, **more: None)


@pytest.fixture
def without_figures(monkeypatch):
    """Runs in this process draw none: for tests of what else a run holds. They take longer than a cell."""
    monkeypatch.setattr("bgbench.api.draw_figures", lambda *words: None)


@pytest.fixture(scope="session")
def analytic_suite(tmp_path_factory):
    """Four systems with known answers, a hundred evaluations each."""
    path = tmp_path_factory.mktemp("suites") / "analytic@1.yaml"
    systems = ", ".join(f'"{name}"' for name in KINDS)
    path.write_text(f"systems: [{systems}]\nenergy: analytic\nbudget: 100\nseeds: 1\n")
    return str(path)


def same_result(record):
    """A record without times and memory, and without the state of a checkout that is being edited."""
    content = record.model_dump(
        mode="json", exclude={"seconds": True, "provenance": {"peak_memory_mb", "git"}}
    )
    for kinds in content["budget"]["ledger"].values():
        for row in kinds.values():
            row.pop("seconds")
    return content


@pytest.fixture(scope="session")
def timeless():
    """Records by cell name, without times and memory."""
    return lambda records: {record.cell.name: same_result(record) for record in records}
