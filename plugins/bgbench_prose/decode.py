"""Noise → data, token by token: keys and values are cached, the conditioning is computed once a system."""

import torch
import torch.nn.functional as F
from torch import Tensor

from bgbench_prose import fused
from bgbench_prose.cuda import Decoders, can_decode
from bgbench_prose.layers import AbstractLayer, M
from bgbench_prose.network import Block, Prepared, Prose, Tokens


def invert(flow: Prose, z: Tensor, t: Tokens, decoders: Decoders | None = None) -> tuple[Tensor, Tensor]:
    """Map noise to data.

    Args:
        flow: the flow.
        z: noise `(batch, tokens, 3)`, all of one peptide.
        t: its tokens, with b = 1.
        decoders: of this flow, which serve on a GPU, and again in the next call; None for fresh ones.

    Returns:
        x `(batch, tokens, 3)` and log|det ∂x/∂z| `(batch,)`.
    """
    with torch.inference_mode():
        if can_fuse(flow, z):
            x, log_det = fused.invert(flow, z, t)
            return x.clone(), log_det.clone()
        if can_decode(z):
            x, log_det = (decoders or Decoders(flow)).invert(z, t)
            return x.clone(), log_det.clone()
        condition = flow.conditioning(t)
        log_det = z.new_zeros(z.shape[0])
        config = flow.config
        shape = (
            config.n_layers,
            2,
            z.shape[0],
            config.channels // config.head_dim,
            z.shape[1],
            config.head_dim,
        )
        cache = z.new_empty(shape)
        for block, order in zip(reversed(list(flow.blocks)), t.orders.flip(0), strict=True):
            z, total = _invert_block(block, z[:, order[0]], block.prepare(condition, order), cache)
            z = z[:, torch.argsort(order[0])]
            log_det += total
    return z.clone(), log_det.clone()


def can_fuse(flow: Prose, z: Tensor) -> bool:
    """Whether the compiled way serves: float32 on a CPU, adaptive layers, no autocast."""
    weight = next(flow.parameters())
    float32 = z.dtype == weight.dtype == torch.float32 and not torch.is_autocast_enabled("cpu")
    return float32 and z.device.type == "cpu" and flow.config.conditioning == "adaptive"


def _invert_block(block: Block, z: Tensor, prepared: Prepared, cache: Tensor) -> tuple[Tensor, Tensor]:
    """One block in token order."""
    x = z.clone()
    log_det = z.new_zeros(z.shape[0])
    layers = list(block.layers)
    for i in range(z.shape[1] - 1):
        h = (block.proj_in(x[:, i]) + prepared.added[:, i])[:, None]
        for k, (layer, modulation) in enumerate(zip(layers, prepared.modulations, strict=True)):
            here = None if modulation is None else modulation.at(i)
            h = _decode_token(layer, h, here, cache[k], i)
        a, b = block.project_out(h[:, 0]).chunk(2, dim=-1)
        torch.addcmul(b, z[:, i + 1], torch.exp(a), out=x[:, i + 1])
        log_det += a.sum(-1)
    return x, log_det


def _decode_token(layer: AbstractLayer[M], h: Tensor, m: M, cache: Tensor, i: int) -> Tensor:
    """Token i, `h (batch, 1, channels)`, through one layer; its key and value join the cache."""
    v = layer.enter(h, m)
    q, k, value = layer.project(v)
    cache[0, :, :, i] = k[:, :, 0]
    cache[1, :, :, i] = value[:, :, 0]
    attended = F.scaled_dot_product_attention(q, cache[0, :, :, : i + 1], cache[1, :, :, : i + 1])
    return layer.finish(h, v, attended, m)
