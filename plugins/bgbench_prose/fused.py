"""Noise → data on a CPU in float32: samples lie last, and numba does all between the matrix products."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bgbench_prose import kernels, products
from bgbench_prose.layers import AbstractLayer, Layer, Modulation
from bgbench_prose.network import Block, Prose, Tokens

SLICE = 64
"""Most samples at a time: what they need besides weights stays in the processor's caches."""


def arrays(*tensors: Tensor) -> tuple[np.ndarray, ...]:
    """The tensors as arrays that share their memory."""
    return tuple(tensor.detach().contiguous().numpy() for tensor in tensors)


class Product:
    """`weight · x` into `out` for `x (depth, samples)`: packed weights where that helps, else torch's."""

    def __init__(self, weight: Tensor) -> None:
        self.weight = weight.detach()
        fits = weight.shape[0] % products.ROWS == 0 and torch.get_num_threads() == 1 and products.able()
        self.packed = products.packed(weight) if fits else None

    def __call__(self, x: Tensor, out: Tensor) -> None:
        if self.packed is None or x.shape[1] % (2 * products.LANES):
            torch.mm(self.weight, x, out=out)
        else:
            products.product(self.packed, x.numpy(), out.numpy())


class Workspace:
    """Memory for a slice of samples: allocated once, used by all blocks, seen as tensors and as arrays."""

    def __init__(self, flow: Prose, samples: int, tokens: int) -> None:
        config, c = flow.config, flow.config.channels
        rows = {
            "h": c,
            "v": c,
            "n": c,
            "attended": c,
            "product": c,
            "qkv": 3 * c,
            "inner": 4 * c,
            "swish": 8 * c,
        }
        self.tensor = {name: torch.empty(count, samples) for name, count in rows.items()}
        self.tensor["gated"] = self.tensor["swish"][: 4 * c]
        self.array = {name: tensor.numpy() for name, tensor in self.tensor.items()}
        self.cache = np.empty((config.n_layers, 2, tokens, c, samples), np.float32)
        self.scores = np.empty((tokens, c // config.head_dim * samples), np.float32)
        self.heads = c // config.head_dim


class DecoderLayer:
    """One layer of a block, for one token after the other.

    Args:
        layer: the layer, adaptive.
        m: its modulation, `(1, tokens, channels)` each.
        k: its place in the block, and so in the cache.

    Raises:
        TypeError: for a layer that is not adaptive.
    """

    def __init__(self, layer: AbstractLayer[Any], m: Modulation | None, k: int) -> None:
        if not isinstance(layer, Layer) or m is None:
            raise TypeError(f"compiled decoding is written for adaptive layers, got a {type(layer).__name__}")
        self.k = k
        # A token's scale, shift and gate lie together.
        self.attention_modulation = np.stack(arrays(m.scale1[0], m.shift1[0], m.gate1[0]))
        self.transition_modulation = np.stack(arrays(m.scale2[0], m.shift2[0], m.gate2[0]))
        self.norm, self.mlp_norm = (arrays(n.weight, n.bias) for n in (layer.norm, layer.mlp_norm))
        self.qk_norms = np.stack(arrays(*layer.q_norm.parameters(), *layer.k_norm.parameters()))
        linears = layer.qkv, layer.out, layer.mlp_in, layer.mlp_out, layer.swish_in, layer.swish_out
        self.products = [Product(linear.weight) for linear in linears]
        self.biases = [arrays(linear.bias)[0] for linear in linears[:4]]
        self.one, self.zero = np.ones_like(self.biases[1]), np.zeros_like(self.biases[1])

    def __call__(self, work: Workspace, i: int) -> None:
        """Token i through the layer, `h` of the workspace in and out."""
        a = work.array
        scale, shift, gate = self.attention_modulation[:, i]
        kernels.norm(a["h"], scale, shift, a["v"])
        self._attention(work, i)
        self._mlp(work)
        kernels.add(a["h"], a["v"], self.zero, gate)
        self._transition(work, i)

    def _attention(self, work: Workspace, i: int) -> None:
        a, t, cache = work.array, work.tensor, work.cache[self.k]
        kernels.norm(a["v"], *self.norm, a["n"])
        self.products[0](t["n"], t["qkv"])
        kernels.remember(a["qkv"], self.biases[0], self.qk_norms, cache, i)
        scores = work.scores[: i + 1].reshape(work.heads, i + 1, -1)
        kernels.attend(a["qkv"][: len(a["h"])], cache, scores, a["attended"])
        self.products[1](t["attended"], t["product"])
        kernels.add(a["v"], a["product"], self.biases[1], self.one)

    def _mlp(self, work: Workspace) -> None:
        a, t = work.array, work.tensor
        kernels.norm(a["v"], *self.mlp_norm, a["n"])
        self.products[2](t["n"], t["inner"])
        kernels.gelu(a["inner"], self.biases[2])
        self.products[3](t["inner"], t["product"])
        kernels.add(a["v"], a["product"], self.biases[3], self.one)

    def _transition(self, work: Workspace, i: int) -> None:
        a, t = work.array, work.tensor
        scale, shift, gate = self.transition_modulation[:, i]
        kernels.norm(a["h"], scale, shift, a["n"])
        self.products[4](t["n"], t["swish"])
        kernels.swish(a["swish"])
        self.products[5](t["gated"], t["product"])
        kernels.add(a["h"], a["product"], self.zero, gate)


def invert(flow: Prose, z: Tensor, t: Tokens) -> tuple[Tensor, Tensor]:
    """As `decode.invert`, of a flow of adaptive layers in float32 on the CPU, outside of autograd.

    Raises:
        TypeError: for a layer that is not adaptive.
    """
    condition = flow.conditioning(t)
    sizes = {len(part) for part in z.split(SLICE)}
    workspaces = {size: Workspace(flow, size, z.shape[1]) for size in sizes}
    log_det = z.new_zeros(len(z))
    for block, order in zip(reversed(list(flow.blocks)), t.orders.flip(0), strict=True):
        added, modulations = block.prepare(condition, order)
        pairs = zip(block.layers, modulations, strict=True)
        layers = [DecoderLayer(layer, m, k) for k, (layer, m) in enumerate(pairs)]
        start = (added[0] + block.proj_in.bias)[..., None]
        parts = [
            _invert_block(block, layers, workspaces[len(part)], start, part)
            for part in z[:, order[0]].split(SLICE)
        ]
        z = torch.cat([x for x, _ in parts])[:, torch.argsort(order[0])]
        log_det += torch.cat([total for _, total in parts])
    return z, log_det


def _invert_block(
    block: Block, layers: Sequence[DecoderLayer], work: Workspace, start: Tensor, z: Tensor
) -> tuple[Tensor, Tensor]:
    """One slice `z (samples, tokens, 3)` through one block in token order.

    `start (tokens, channels, 1)` is what each token begins with, before its coordinates are added.
    """
    z = z.permute(1, 2, 0).contiguous()
    x, log_det, h = z.clone(), z.new_zeros(z.shape[2]), work.tensor["h"]
    for i in range(len(z) - 1):
        torch.addmm(start[i], block.proj_in.weight, x[i], out=h)
        for layer in layers:
            layer(work, i)
        a, b = torch.addmm(block.proj_out.bias[:, None], block.proj_out.weight, h).chunk(2)
        torch.addcmul(b, z[i + 1], torch.exp(a), out=x[i + 1])
        log_det += a.sum(0)
    return x.permute(2, 0, 1), log_det
