"""The compiled inverse equals the plain one, and steps aside where it cannot serve."""

import copy
import importlib
from functools import partial

import numpy as np
import pytest
import torch

from bgbench import peptide
from bgbench_prose import decode, fused, products
from bgbench_prose.network import Config, Prose, tokens


def random_flow(generator, **sizes):
    flow = Prose(Config(**{"channels": 24, "n_blocks": 2, "n_layers": 2, "head_dim": 8, **sizes}))
    with torch.no_grad():
        for parameter in flow.parameters():
            parameter.copy_(0.1 * torch.randn(parameter.shape, generator=generator))
    return flow.requires_grad_(False)


def plain(monkeypatch, flow, z, t):
    with monkeypatch.context() as patch:
        patch.setattr(decode, "can_fuse", lambda *_: False)
        return decode.invert(flow, z, t)


@pytest.mark.parametrize("head_dim", [8, 3])
@pytest.mark.parametrize("batch", [1, 5, 32, 64, 70])
@pytest.mark.parametrize("sequence", ["GG", "HW"])
def test_compiled_inverse_equals_the_plain_one(generator, monkeypatch, sequence, batch, head_dim):
    flow = random_flow(generator, head_dim=head_dim)
    t = tokens([peptide(sequence).atoms], flow.config)
    z = torch.randn(batch, t.mask.shape[1], 3, generator=generator)
    assert decode.can_fuse(flow, z)
    exact = plain(monkeypatch, copy.deepcopy(flow).double(), z.double(), t)
    rounding = [(a - b).abs().max() for a, b in zip(plain(monkeypatch, flow, z, t), exact, strict=True)]
    for result, truth, usual in zip(decode.invert(flow, z, t), exact, rounding, strict=True):
        assert bool(torch.isfinite(truth).all())
        assert float((result - truth).abs().max()) < 4 * float(usual) + 2e-6


def test_other_flows_take_the_plain_way(generator):
    flow = random_flow(generator)
    z = torch.zeros(2, 17, 3)
    assert decode.can_fuse(flow, z)
    assert not decode.can_fuse(flow, z.double())
    assert not decode.can_fuse(random_flow(generator, conditioning="additive"), z)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert not decode.can_fuse(flow, z)


@pytest.mark.parametrize("fused_serves", [True, False])
def test_a_foreign_layer_is_an_error_and_never_left_out(generator, monkeypatch, fused_serves):
    """Left out, the flow would go on with another density."""
    flow = random_flow(generator)
    t = tokens([peptide("GG").atoms], flow.config)
    z = torch.randn(2, t.mask.shape[1], 3, generator=generator)
    flow.blocks[0].layers.append(torch.nn.Identity())
    monkeypatch.setattr(decode, "can_fuse", lambda *_: fused_serves)
    for way in (flow.forward, partial(decode.invert, flow)):
        with pytest.raises(TypeError, match="a Identity stands among modules of AbstractLayer"):
            way(z, t)


def test_a_foreign_block_is_an_error(generator):
    flow = random_flow(generator)
    t = tokens([peptide("GG").atoms], flow.config)
    flow.blocks[1] = torch.nn.Identity()
    with pytest.raises(TypeError, match="a Identity stands among modules of Block"):
        flow(torch.zeros(1, t.mask.shape[1], 3), t)


def test_the_compiled_way_refuses_layers_that_it_is_not_written_for(generator):
    flow = random_flow(generator, conditioning="additive")
    t = tokens([peptide("GG").atoms], flow.config)
    with pytest.raises(TypeError, match="written for adaptive layers, got a PlainLayer"):
        fused.invert(flow, torch.zeros(1, t.mask.shape[1], 3), t)


def test_every_product_equals_torchs(generator):
    products = importlib.import_module("bgbench_prose.products")
    if not products.able():
        pytest.skip("no AVX-512")
    weight, x = torch.randn(36, 19, generator=generator), torch.randn(19, 64, generator=generator)
    out = torch.empty(36, 64)
    products.product(products.pack(weight.numpy()), x.numpy(), out.numpy())
    assert torch.allclose(out, weight @ x, atol=1e-5)


def test_weights_written_to_are_packed_again():
    linear = torch.nn.Linear(8, 24, bias=False)
    before = products.packed(linear.weight)
    assert products.packed(linear.weight) is before
    with torch.no_grad():
        linear.weight.mul_(2)
    assert np.array_equal(products.packed(linear.weight), 2 * before)
