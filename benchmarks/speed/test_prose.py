"""Prose at published size on ARIP against the published algorithm, same weights, same run.

The reference decodes as the published sampler does: the key/value cache concatenated at every token, the
output stacked at every token, the conditioning of every sample computed although all share it. Random
weights: time does not depend on them. 384 channels, 8 blocks of 8 layers; BGBENCH_BLOCKS takes fewer blocks.
"""

import os
import subprocess
import sys
import time

import torch
import torch.nn.functional as F

from bgbench import peptide
from bgbench_prose.decode import invert
from bgbench_prose.layers import Layer, Modulation, normalise
from bgbench_prose.network import Block, Config, Prose, Tokens, tokens

BATCH = 32
BLOCKS = int(os.environ.get("BGBENCH_BLOCKS", "8"))


def published_size() -> tuple[Prose, Tokens]:
    """Random weights of the published size."""
    torch.manual_seed(0)
    flow = Prose(Config(n_blocks=BLOCKS)).eval().requires_grad_(False)
    for block in flow.blocks:
        # Fresh blocks are the identity; far from it, 8 of them leave the range of float32.
        block.proj_out.weight.normal_(0, 0.01)
    return flow, tokens([peptide("ARIP").atoms], flow.config)


def each_row(t: Tokens, batch: int) -> Tokens:
    """The same tokens with a row a sample: nothing shared."""
    wide = [
        field.repeat(batch, 1)
        for field in (t.atom_type, t.residue_type, t.residue_position, t.sequence_length, t.mask)
    ]
    return Tokens(*wide, t.orders.repeat(1, batch, 1))


def plain_inverse(flow: Prose, z: torch.Tensor, t: Tokens) -> torch.Tensor:
    """The published algorithm, written plainly."""
    with torch.inference_mode():
        condition = flow.conditioning(t)
        for block, order in zip(reversed(list(flow.blocks)), t.orders.flip(0), strict=True):
            z = plain_block(block, z[:, order[0]], condition[:, order[0]])[:, torch.argsort(order[0])]
    return z


def plain_block(block: Block, z: torch.Tensor, condition: torch.Tensor) -> torch.Tensor:
    """One block: gates computed per sample and token, cache and output concatenated."""
    from bgbench_prose.layers import sinusoid

    following = F.pad(condition[:, 1:], (0, 0, 0, 1))
    c = block.outer(F.gelu(block.inner(torch.cat([condition, following], dim=-1))))
    place = block.position_scale * sinusoid(torch.arange(z.shape[1]), c.shape[2], 1e4).to(z)
    x, keys, values = z[:, :1], {}, {}
    for i in range(z.shape[1] - 1):
        h = (block.proj_in(x[:, i]) + place[i])[:, None]
        for k, layer in enumerate(block.layers):
            h = plain_step(layer, h, c[:, i : i + 1], keys.setdefault(k, []), values.setdefault(k, []))
        a, b = block.proj_out(h[:, 0]).chunk(2, dim=-1)
        x = torch.cat([x, (z[:, i + 1] * torch.exp(a) + b)[:, None]], dim=1)
    return x


def plain_step(layer: Layer, h: torch.Tensor, c: torch.Tensor, keys: list, values: list) -> torch.Tensor:
    """One token through one layer."""
    m: Modulation = layer.modulation(c)
    v = normalise(h, m.scale1, m.shift1)
    q, key, value = layer.qkv(layer.norm(v)).chunk(3, dim=-1)
    q, key, value = split(layer, layer.q_norm(q)), split(layer, layer.k_norm(key)), split(layer, value)
    keys[:] = [torch.cat([*keys, key], dim=2)]
    values[:] = [torch.cat([*values, value], dim=2)]
    attended = F.scaled_dot_product_attention(q, keys[0], values[0])
    v = v + layer.out(attended.transpose(1, 2).flatten(2))
    h = h + m.gate1 * (v + layer.mlp_out(F.gelu(layer.mlp_in(layer.mlp_norm(v)))))
    first, second = layer.swish_in(normalise(h, m.scale2, m.shift2)).chunk(2, dim=-1)
    return h + m.gate2 * layer.swish_out(first * F.silu(second))


def split(layer: Layer, x: torch.Tensor) -> torch.Tensor:
    """`(batch, 1, channels)` by heads."""
    return x.unflatten(-1, (layer.heads, layer.head_dim)).transpose(1, 2)


def matmul_limit(flow: Prose, n_tokens: int) -> float:
    """Seconds the matrix products alone would take at the rate measured now for 32-row products.

    The weights of one block are gone through in turn, as every token does: no processor's cache holds them.
    """
    c = flow.config.channels
    rows = torch.randn(BATCH, c)
    weights = [torch.randn(8 * c, c) for _ in range(3 * flow.config.n_layers)]
    seconds = min(timed(lambda: [weight @ rows.t() for weight in weights])[0] for _ in range(9))
    rate = len(weights) * 2 * BATCH * c * 8 * c / seconds
    work = 2 * 24 * c * c * BATCH * (n_tokens - 1) * flow.config.n_blocks * flow.config.n_layers
    return work / rate


def timed(call) -> tuple[float, torch.Tensor]:
    """Seconds and result of one call: CPU seconds with one thread, where other work counts less."""
    clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
    started = clock()
    result = call()
    return clock() - started, result


def test_sampler_against_the_published_algorithm():
    flow, t = published_size()
    z = torch.randn(BATCH, t.mask.shape[1], 3, generator=torch.Generator().manual_seed(1))
    invert(flow, z, t)
    ours, x = timed(lambda: invert(flow, z, t)[0])
    theirs, reference = timed(lambda: plain_inverse(flow, z, each_row(t, BATCH)))
    assert torch.allclose(x, reference, atol=1e-4)
    limit = matmul_limit(flow, z.shape[1])
    print(
        f"\nARIP, batch {BATCH}, {BLOCKS} blocks: ours {ours:.2f} s, published algorithm {theirs:.2f} s, "
        f"ratio {theirs / ours:.2f}; matrix products alone {limit:.2f} s, so {limit / ours:.0%} of the limit"
    )
    assert theirs / ours > 1.0


def test_log_density_shares_its_conditioning():
    flow, t = published_size()
    x = torch.randn(BATCH, t.mask.shape[1], 3, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        flow(x[:2], t)
        ours, (z, _) = timed(lambda: flow(x, t))
        theirs, (other, _) = timed(lambda: flow(x, each_row(t, BATCH)))
    assert torch.allclose(z, other, atol=1e-3)
    ratio = theirs / ours
    print(f"\nlog-density: ours {ours:.2f} s, a row of conditioning a sample {theirs:.2f} s, {ratio:.2f} ×")


def test_time_is_linear_in_samples():
    flow, t = published_size()
    invert(flow, torch.randn(BATCH, t.mask.shape[1], 3), t)
    each = []
    for n in (BATCH, 2 * BATCH, 4 * BATCH, 8 * BATCH):
        z = torch.randn(n, t.mask.shape[1], 3, generator=torch.Generator().manual_seed(1))
        seconds, _ = timed(lambda z=z: invert(flow, z, t))
        each.append(seconds / n)
        print(f"\n{n} samples: {1000 * each[-1]:.0f} ms a sample")
    assert max(each[1:]) < 1.2 * each[0], "time may not grow faster than the number of samples"


def test_training_step_shares_its_conditioning():
    """One gradient at published width: conditioning once a peptide, against once a sample."""
    flow, t = published_size()
    flow.requires_grad_(True)
    x = torch.randn(BATCH, t.mask.shape[1], 3, generator=torch.Generator().manual_seed(1))

    def step(tokens_of: Tokens) -> torch.Tensor:
        flow.zero_grad(set_to_none=True)
        z, log_det = flow(x, tokens_of)
        loss = 0.5 * z.square().sum((1, 2)).mean() - log_det.mean()
        loss.backward()
        return loss.detach()

    step(t)
    ours, first = timed(lambda: step(t))
    theirs, second = timed(lambda: step(each_row(t, BATCH)))
    assert torch.allclose(first, second, rtol=1e-3)
    print(f"\ntraining step: ours {ours:.2f} s, conditioning a sample {theirs:.2f} s, {theirs / ours:.2f} ×")


STREAM = """
import sys
from bgbench.runs.process import peak_memory
from bgbench.testing import peptide_task
from bgbench_prose.network import Config, Prose
from bgbench_prose.sampler import ProseSampler
sampler = ProseSampler(Prose(Config(channels=16, n_blocks=2, n_layers=1, head_dim=8)))
total = sum(float(part.log_q.sum()) for part in sampler.stream(peptide_task("AA"), int(sys.argv[1])))
print(round(peak_memory()))
"""


def test_memory_does_not_grow_with_samples():
    """Peak memory of a process that streams n samples and keeps none."""
    peaks = []
    for n in (2_000, 20_000, 100_000):
        run = [sys.executable, "-c", STREAM, str(n)]
        peaks.append(int(subprocess.run(run, check=True, capture_output=True, text=True).stdout.split()[-1]))
        print(f"\n{n} samples streamed: peak {peaks[-1]} MB")
    assert max(peaks) - min(peaks) < 64
