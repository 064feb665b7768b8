"""The least that a conformer costs, against FLOPs that PyTorch counts."""

from dataclasses import replace

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

import bgbench
from bgbench_prose.costs import drawing_cost
from bgbench_prose.cuda import Decoder
from bgbench_prose.network import Config, Prose, tokens

SMALL = Config(channels=16, n_blocks=2, n_layers=2, head_dim=8)


@pytest.mark.parametrize("conditioning", ["adaptive", "additive"])
def test_products_are_those_that_a_decoder_makes(conditioning):
    """GG has 17 atoms. Steps of fixed shape look back on 32 places: attention is counted apart."""
    config = replace(SMALL, conditioning=conditioning)
    flow, atoms = Prose(config).requires_grad_(False), bgbench.peptide("GG").atoms
    decoder, t = Decoder(flow, 3, len(atoms), torch.float32), tokens([atoms], config)
    z = torch.zeros(3, len(atoms), 3)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        decoder.invert(z, t)
        condition = flow.conditioning(t)
        for block, order in zip(flow.blocks, t.orders, strict=True):
            block.prepare(condition, order)
    with torch.no_grad(), FlopCounterMode(display=False) as shared:
        condition = flow.conditioning(t)
        for block, order in zip(flow.blocks, t.orders, strict=True):
            block.prepare(condition, order)
    linear = {torch.ops.aten.mm, torch.ops.aten.addmm}

    def products(counts):
        return sum(n for name, n in counts.get_flop_counts()["Global"].items() if name in linear)

    counted = products(counter) - 2 * products(shared)
    steps, c = len(atoms) - 1, config.channels
    looks = config.n_blocks * config.n_layers * 2 * 2 * c * steps * (steps + 1) // 2
    assert counted == 3 * (drawing_cost(config, len(atoms), 3, 4).flops - looks)


def test_weights_are_read_once_for_all_samples_and_keys_for_each():
    config = Config()
    one, many = (drawing_cost(config, 68, samples, 2) for samples in (1, 10**9))
    assert one.flops == many.flops
    # Keys and values of 67 tokens, 8 layers and 8 blocks, each looked at by itself and those after it.
    assert many.n_bytes == pytest.approx(2 * 8 * 8 * 2 * 384 * (67 * 68 / 2 + 67), rel=1e-3)
    weights = 67 * 8 * (8 * 24 * 384**2 + 9 * 384)
    assert one.n_bytes - many.n_bytes == pytest.approx(2 * weights, rel=1e-6)
    assert drawing_cost(config, 1, 1, 2).flops == 0
