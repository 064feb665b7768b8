"""Training: batches, refusal of test peptides, a kill -9 and its resumption, weights that load."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from bgbench import BgbenchError
from bgbench_prose.data import TrainingSet
from bgbench_prose.network import Config
from bgbench_prose.recipe import Recipe
from bgbench_prose.training import train
from bgbench_prose.weights import load
from bgbench_training.rotations import rotations

SMALL = Config(channels=16, n_blocks=2, n_layers=1, head_dim=8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory, make_training_file):
    """Three made-up training peptides."""
    folder = tmp_path_factory.mktemp("training")
    for name in ("GS", "GG", "SG"):
        make_training_file(folder, name)
    return folder


def test_batches_are_the_same_whenever_asked_for_and_move_with_the_step(folder):
    data = TrainingSet([folder], SMALL, seed=0)
    x, t = data.batch(3, 12)
    again, _ = data.batch(3, 12)
    other, _ = data.batch(4, 12)
    assert x.shape[0] == 12
    assert torch.equal(x, again)
    assert not torch.equal(x[: len(other)], other)
    assert t.mask.shape[0] == 3
    padding = ~t.mask.repeat_interleave(4, 0)
    assert (x[padding] == 0).all()


def test_centre_of_mass_noise_has_the_published_width(folder):
    data = TrainingSet([folder], SMALL, seed=0)
    centres = []
    for step in range(300):
        x, t = data.batch(step, 12)
        mask = t.mask.repeat_interleave(4, 0)
        n = mask.sum(1, keepdim=True)
        centres.append((x.sum(1) / n) * n.sqrt())
    scaled = torch.cat(centres)
    assert abs(scaled.std().item() - 1.0) < 5 / np.sqrt(2 * scaled.numel())


def test_rotations_are_rotations(rng):
    r = rotations(rng, 4000)
    assert torch.allclose(r @ r.transpose(1, 2), torch.eye(3).expand(4000, 3, 3), atol=1e-5)
    assert torch.allclose(torch.linalg.det(r), torch.ones(4000), atol=1e-5)
    assert (r.mean(0).abs() < 5 / np.sqrt(3 * 4000)).all()


def test_test_peptides_are_refused(tmp_path, make_training_file):
    make_training_file(tmp_path, "AA")
    with pytest.raises(BgbenchError, match="test or validation peptides: AA"):
        TrainingSet([tmp_path], SMALL, 0)


def test_wrong_options_say_so():
    with pytest.raises(BgbenchError, match=r"config must be one of prose-tiny, .*, got 'huge'"):
        Recipe.build({"config": "huge"})
    with pytest.raises(BgbenchError, match="--set steps=many: 'many' is not a whole number"):
        Recipe.build({"steps": "many"})


def command(folder, out):
    options = {"data": folder, "out": out, "steps": 40, "batch": 6, "save_every": 4, "config": "prose-mini"}
    words = [word for key, value in options.items() for word in ("--set", f"{key}={value}")]
    return [sys.executable, "-m", "bgbench", "train", "prose", *words]


@pytest.mark.slow
def test_killed_training_goes_on_to_the_same_weights(folder, tmp_path):
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    subprocess.run(command(folder, whole), check=True, capture_output=True, env=environment)
    process = subprocess.Popen(command(folder, killed), stderr=subprocess.DEVNULL, env=environment)
    deadline = time.monotonic() + 600
    while not (killed / "last.ckpt").exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (killed / "prose-mini.safetensors").exists(), "the run ended before it could be killed"
    step = torch.load(killed / "last.ckpt", weights_only=True)["global_step"]
    assert 0 < step < 40
    subprocess.run(command(folder, killed), check=True, capture_output=True, env=environment)
    one, two = (torch.load(path / "last.ckpt", weights_only=True) for path in (whole, killed))
    assert one["global_step"] == two["global_step"] == 40
    for a, b in zip(
        one["optimizer_states"][0]["state"].values(),
        two["optimizer_states"][0]["state"].values(),
        strict=True,
    ):
        assert torch.equal(a["exp_avg"], b["exp_avg"])
        assert torch.equal(a["exp_avg_sq"], b["exp_avg_sq"])
    one, two = (load_file(path / "prose-mini.safetensors") for path in (whole, killed))
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_training_lowers_the_loss_and_leaves_a_card(folder, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules["bgbench_prose.recipe"].SIZES, "prose-mini", SMALL)
    path = train({"data": str(folder), "out": str(tmp_path), "steps": "100", "batch": "12", "lr": "0.003"})
    loaded = load(path)
    card = loaded.card
    assert loaded.network.config == SMALL
    assert card["training_sequences"] == ["GG", "GS", "SG"]
    assert card["steps"] == 100
    assert card["final_loss"] < card["first_loss"] - 0.3
