"""Training of TBG: noise without mean, loss against its closed form, a crash and its resumption, the card."""

import numpy as np
import pytest
import torch

from bgbench import BgbenchError
from bgbench_tbg.flow_matching import FlowMatchingBatch, FlowMatchingBatches, flow_matching_loss
from bgbench_tbg.network import Field, FieldConfig
from bgbench_tbg.recipe import TBGRecipe
from bgbench_tbg.training import train
from bgbench_tbg.weights import load
from bgbench_training.files import training_files

TINY = FieldConfig(channels=16, n_layers=2)


@pytest.fixture(scope="module")
def folder(tmp_path_factory, make_training_file):
    """Made-up training peptides of two sizes."""
    folder = tmp_path_factory.mktemp("tbg-training")
    for name in ("GS", "GG"):
        make_training_file(folder, name)
    return folder


def test_batches_have_no_mean_and_even_times_and_are_the_same_again(folder):
    data = FlowMatchingBatches([folder], TINY, 0)
    p, again, other = data.batch(3, 12), data.batch(3, 12), data.batch(4, 12)
    assert all(torch.equal(getattr(p, name), getattr(again, name)) for name in ("x", "z", "t"))
    assert not torch.equal(p.z, other.z)
    mask = p.peptides.mask.repeat_interleave(6, 0)
    for part in (p.x, p.z):
        assert bool((part[~mask] == 0).all())
        assert float(part.sum(1).abs().max()) < 1e-4
    assert torch.allclose(p.t.sort().values, p.t.min() + torch.arange(12) / 12, atol=1e-6)
    assert abs(float(p.z[mask].std()) - 1.0) < 5 / np.sqrt(2 * 3 * int(mask.sum())) + 1 / 20


def test_loss_of_a_field_that_stands_still_is_the_length_of_the_paths(folder):
    field = Field(TINY)
    with torch.no_grad():
        for layer in field.layers:
            layer.step_out.weight.zero_()
    p = FlowMatchingBatches([folder], TINY, 0).batch(0, 8)
    present = p.peptides.mask.sum(1).repeat_interleave(4)
    expected = (p.x - p.z).square().sum((1, 2)) / (3 * (present - 1))
    assert torch.allclose(flow_matching_loss(field, p), expected, rtol=1e-5)
    assert isinstance(p, FlowMatchingBatch)


def test_test_peptides_and_wrong_options_are_refused(tmp_path, make_training_file):
    make_training_file(tmp_path, "AA")
    with pytest.raises(BgbenchError, match="test or validation peptides: AA"):
        training_files([tmp_path])
    with pytest.raises(BgbenchError, match=r"config must be one of tbg-tiny, .*, got 'huge'"):
        TBGRecipe.build({"config": "huge"})


def options(folder, out, **changes):
    base = {"config": "tbg-tiny", "data": folder, "out": out, "steps": 60, "batch": 8, "lr": 5e-3}
    return {name: str(value) for name, value in {**base, **changes}.items()}


def test_a_crashed_training_goes_on_to_the_same_weights_and_lowers_the_loss(folder, tmp_path, monkeypatch):
    whole = train(options(folder, tmp_path / "whole", save_every=20))
    plain = FlowMatchingBatches.batch

    def crashing(self, step, size, rank=0):
        if step == 30:
            raise RuntimeError("power cut")
        return plain(self, step, size, rank)

    with monkeypatch.context() as patch:
        patch.setattr(FlowMatchingBatches, "batch", crashing)
        with pytest.raises(RuntimeError, match="power cut"):
            train(options(folder, tmp_path / "cut", save_every=20))
    resumed = train(options(folder, tmp_path / "cut", save_every=20))
    first, second = load(whole), load(resumed)
    one, card, two = first.network, first.card, second.network
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))
    assert card["training_sequences"] == ["GG", "GS"]
    assert card["n_parameters"] == one.n_parameters()
    p = FlowMatchingBatches([folder], TINY, 1).batch(0, 64)
    with torch.no_grad():
        trained, untrained = (float(flow_matching_loss(f, p).mean()) for f in (one, Field(TINY)))
    assert trained < 0.8 * untrained
