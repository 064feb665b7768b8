"""Noise → data on a CPU in float32: samples lie last, and numba does all between the matrix products."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bgbench_prose import kernels
from bgbench_prose.layers import Layer
from bgbench_prose.network import Block, Prepared


def arrays(*tensors: Tensor) -> tuple[np.ndarray, ...]:
    """The tensors' own memory as arrays."""
    return tuple(tensor.detach().contiguous().numpy() for tensor in tensors)


class Room:
    """Work space of a batch, used by all blocks: allocated once, seen both as tensors and as arrays."""

    def __init__(self, layer: Layer, samples: int, tokens: int, layers: int) -> None:
        c = layer.qkv.in_features

        def empty(rows: int) -> Tensor:
            return layer.qkv.weight.new_empty(rows, samples)

        self.h, self.v, self.n, self.attended, self.product = (empty(c) for _ in range(5))
        self.qkv, self.inner, self.swish = empty(3 * c), empty(4 * c), empty(8 * c)
        self.gated = self.swish[: 4 * c]
        self.cache = np.empty((layers, 2, tokens, c, samples), np.float32)
        self.scores = np.empty((tokens, layer.heads * samples), np.float32)
        self.heads = layer.heads


class Step:
    """One layer for one token after the other; `m` its modulations `(1, tokens, channels)`."""

    def __init__(self, layer: Layer, m: tuple[Tensor, ...], room: Room, cache: np.ndarray) -> None:
        self.layer, self.room, self.cache = layer, room, cache
        self.m = np.stack(arrays(*(value[0] for value in m)))
        norms = layer.norm, layer.mlp_norm
        self.norm, self.mlp_norm = (arrays(norm.weight, norm.bias) for norm in norms)
        self.qk_norms = np.stack(arrays(*layer.q_norm.parameters(), *layer.k_norm.parameters()))
        biased = layer.qkv, layer.out, layer.mlp_in, layer.mlp_out
        self.qkv, self.out, self.mlp_in, self.mlp_out = (arrays(linear.bias)[0] for linear in biased)
        self.one, self.zero = np.ones_like(self.out), np.zeros_like(self.out)

    def __call__(self, i: int) -> None:
        """Token i through the layer: `room.h` in and out."""
        self._attention(i)
        self._transition(i)

    def _attention(self, i: int) -> None:
        layer, room = self.layer, self.room
        scale, shift, gate, *_ = self.m[:, i]
        h, v, n, qkv, attended, product, inner = (
            tensor.numpy()
            for tensor in (room.h, room.v, room.n, room.qkv, room.attended, room.product, room.inner)
        )
        kernels.norm(h, scale, shift, v)
        kernels.norm(v, *self.norm, n)
        torch.mm(layer.qkv.weight, room.n, out=room.qkv)
        kernels.remember(qkv, self.qkv, self.qk_norms, self.cache, i)
        scores = room.scores[: i + 1].reshape(room.heads, i + 1, -1)
        kernels.attend(qkv[: len(h)], self.cache, scores, attended)
        torch.mm(layer.out.weight, room.attended, out=room.product)
        kernels.add(v, product, self.out, self.one)
        kernels.norm(v, *self.mlp_norm, n)
        torch.mm(layer.mlp_in.weight, room.n, out=room.inner)
        kernels.gelu(inner, self.mlp_in)
        torch.mm(layer.mlp_out.weight, room.inner, out=room.product)
        kernels.add(v, product, self.mlp_out, self.one)
        kernels.add(h, v, self.zero, gate)

    def _transition(self, i: int) -> None:
        layer, room = self.layer, self.room
        *_, scale, shift, gate = self.m[:, i]
        h, n, swish, product = (x.numpy() for x in (room.h, room.n, room.swish, room.product))
        kernels.norm(h, scale, shift, n)
        torch.mm(layer.swish_in.weight, room.n, out=room.swish)
        kernels.swish(swish)
        torch.mm(layer.swish_out.weight, room.gated, out=room.product)
        kernels.add(h, product, self.zero, gate)


def invert_block(block: Block, z: Tensor, prepared: Prepared, room: Room) -> tuple[Tensor, Tensor]:
    """One block in token order, as `decode.invert_block`."""
    added, modulations = prepared
    steps = [Step(layer, m, room, room.cache[k]) for k, (layer, m) in enumerate(zip(block.layers, modulations, strict=True))]
    start = (added[0] + block.proj_in.bias)[..., None]
    z = z.permute(1, 2, 0).contiguous()
    x, log_det = z.clone(), z.new_zeros(z.shape[2])
    for i in range(len(z) - 1):
        torch.addmm(start[i], block.proj_in.weight, x[i], out=room.h)
        for step in steps:
            step(i)
        a, b = torch.addmm(block.proj_out.bias[:, None], block.proj_out.weight, room.h).chunk(2)
        torch.addcmul(b, z[i + 1], torch.exp(a), out=x[i + 1])
        log_det += a.sum(0)
    return x.permute(2, 0, 1), log_det
