"""The compiled inverse equals the plain one, and steps aside where it cannot serve."""

import copy
import importlib
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from bgbench import peptide
from bgbench_prose import decode, products
from bgbench_prose.network import Config, Prose, tokens


def random_flow(generator, **sizes):
    flow = Prose(Config(**{"channels": 24, "n_blocks": 2, "n_layers": 2, "head_dim": 8, **sizes}))
    with torch.no_grad():
        for parameter in flow.parameters():
            parameter.copy_(0.1 * torch.randn(parameter.shape, generator=generator))
    return flow.requires_grad_(False)


def plain(monkeypatch, flow, z, t):
    with monkeypatch.context() as patch:
        patch.setattr(decode, "_fused", lambda *_: None)
        return decode.invert(flow, z, t)


@pytest.mark.parametrize("head_dim", [8, 3])
@pytest.mark.parametrize("batch", [1, 5, 32, 64, 70])
@pytest.mark.parametrize("sequence", ["GG", "HW"])
def test_compiled_inverse_equals_the_plain_one(generator, monkeypatch, sequence, batch, head_dim):
    flow = random_flow(generator, head_dim=head_dim)
    t = tokens([peptide(sequence).atoms], flow.config)
    z = torch.randn(batch, t.mask.shape[1], 3, generator=generator)
    assert decode._fused(flow, z) is not None
    exact = plain(monkeypatch, copy.deepcopy(flow).double(), z.double(), t)
    rounding = [(a - b).abs().max() for a, b in zip(plain(monkeypatch, flow, z, t), exact, strict=True)]
    for found, truth, usual in zip(decode.invert(flow, z, t), exact, rounding, strict=True):
        assert bool(torch.isfinite(truth).all())
        assert float((found - truth).abs().max()) < 4 * float(usual) + 2e-6


def test_other_flows_take_the_plain_way(generator, monkeypatch):
    flow = random_flow(generator)
    z = torch.zeros(2, 17, 3)
    assert decode._fused(flow, z.double()) is None
    assert decode._fused(random_flow(generator, conditioning="additive"), z) is None
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert decode._fused(flow, z) is None

    def missing(name):
        raise ImportError(name)

    monkeypatch.setattr(decode, "importlib", SimpleNamespace(import_module=missing))
    assert decode._fused(flow, z) is None


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
