"""Samplers that learn from their own samples: the copy learns, the sampler stays, the file can be run."""

import json

import pytest
import torch

from bgbench import Tuning
from bgbench.cli.main import app, guarded
from bgbench.testing import peptide_task
from bgbench_prose import ProseSampler
from bgbench_prose.network import Config, Prose
from bgbench_prose.weights import load
from bgbench_verse import VerseSampler
from bgbench_verse.network import Verse, VerseConfig
from bgbench_verse.peptides import TrainingPeptide, find_flips, find_rotors
from bgbench_verse.survey import survey_geometry
from bgbench_verse.weights import TrainedVerse
from bgbench_verse.weights import load as load_verse


def small_prose(alanine):
    del alanine
    flow = Prose(Config(channels=16, n_blocks=2, n_layers=1, head_dim=8))
    return ProseSampler(flow, stored_card={"name": "small", "training_sequences": ["GG"]}), flow


def small_verse(alanine):
    noise = 0.004 * torch.randn(200, 23, 3, generator=torch.Generator().manual_seed(0))
    x = alanine.positions.float() + noise
    symmetry = find_rotors(alanine.atoms, alanine.bonds), find_flips(alanine.atoms)
    peptide = TrainingPeptide("AA", x, torch.zeros(len(x)), alanine.atoms, alanine.bonds, *symmetry)
    vocabulary, table = survey_geometry([peptide])
    net = Verse(VerseConfig(len(vocabulary) + 1, width=32, n_layers=2, geometry=8))
    return VerseSampler(TrainedVerse(net, vocabulary, table, {"name": "small"})), net


@pytest.mark.parametrize(("build", "read"), [(small_prose, load), (small_verse, load_verse)])
def test_the_copy_learns_and_the_sampler_stays(build, read, alanine, tmp_path):
    """−log q of the samples falls with learning, less so the harder the teacher pulls."""
    sampler, net = build(alanine)
    generator = torch.Generator().manual_seed(1)
    x = alanine.positions + 0.01 * torch.randn(64, 23, 3, generator=generator, dtype=torch.float64)
    task = peptide_task()
    before = {name: value.clone() for name, value in net.state_dict().items()}

    def nll(some):
        with torch.no_grad():
            return -float(some.log_prob(task, x).mean())

    losses = {}
    for k, teacher in enumerate((0.0, 1000.0)):
        copy = sampler.finetuned(task, x, Tuning(steps=20, batch=8, lr=3e-3, teacher=teacher))
        assert task.oracle.ledger["sample"]["gradient"]["calls"] == (k + 1) * 20 * 8
        losses[teacher] = nll(copy)
    assert task.oracle.used == 0
    assert losses[0.0] < nll(sampler) - 5
    assert abs(losses[1000.0] - nll(sampler)) < abs(losses[0.0] - nll(sampler))
    for name, value in net.state_dict().items():
        assert torch.equal(value, before[name])
    path = tmp_path / "tuned.safetensors"
    copy.save(path, {"system": "AA", "evaluations": 10, "hours": 0.1, "temperature": 310.0})
    card = read(path).card
    assert card["name"] == "small-tuned"
    assert "AA" in card["training_sequences"]
    assert card["fine_tuned"]["evaluations"] == card["training_evaluations"] == 10


@pytest.fixture
def command(capsys):
    def call(*words):
        code = guarded(lambda **options: app([str(word) for word in words], **options))
        return code, capsys.readouterr()

    return call


@pytest.mark.slow
def test_the_chain_from_improvement_to_a_sampler_of_its_own(command, own_references, tmp_path):
    suite, saved = tmp_path / "one@1.yaml", tmp_path / "own.safetensors"
    suite.write_text("systems: [AA]\nenergy: batched\nbudget: 60\nseeds: 1\n")
    few = ("--suite", suite, "--workers", 0)
    code, _ = command(
        "run", "prose", *few, "--estimator", "self-improve", "--out", tmp_path / "a",
        "--set", f"estimator.save={saved}", "--set", "estimator.steps=2", "--set", "estimator.batch=4",
    )  # fmt: skip
    assert code == 0
    record = json.loads((tmp_path / "a" / "cells" / "AA-s0.json").read_text())
    assert record["diagnostics"]["saved"] == str(saved)
    assert record["leakage"] == "similar"
    before = record["card"]["training_evaluations"]
    ledger = record["budget"]["ledger"]
    assert ledger["tune"]["energy"]["calls"] == 48
    assert ledger["tune"]["gradient"]["calls"] == 4 * 2 * 4
    code, _ = command(
        "run", "prose", *few, "--estimator", "smc-mala", "--out", tmp_path / "b",
        "--set", f"weights={saved}", "--set", "estimator.steps=3",
    )  # fmt: skip
    assert code == 0
    record = json.loads((tmp_path / "b" / "cells" / "AA-s0.json").read_text())
    assert record["leakage"] == "seen"
    assert record["card"]["training_evaluations"] == before + 48
    ledger = record["budget"]["ledger"]
    assert ledger["refine"]["energy_and_force"]["calls"] == 40
    assert ledger["refine"]["gradient"]["calls"] == 40
    assert (tmp_path / "b" / "figures" / "AA-s0-smc.png").stat().st_size > 5000
    assert (tmp_path / "b" / "figures" / "AA-s0-free-energy.png").stat().st_size > 2000
    assert command("replay", tmp_path / "b")[0] == 0
    code, captured = command(
        "compare", tmp_path / "a", tmp_path / "b", "--metric", "torus_w2", "--figure", tmp_path / "c.png"
    )
    assert code == 0
    assert "prose · self-improve" in captured.out
    assert "prose · smc-mala" in captured.out
    code, captured = command("curve", tmp_path / "a", tmp_path / "b", "--figure", tmp_path / "d.png")
    assert code == 0
    code, captured = command("run", "prior", *few, "--estimator", "self-improve", "--out", tmp_path / "e")
    assert code == 1
    assert "unsupported" in captured.out
