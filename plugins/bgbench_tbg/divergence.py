"""The divergence of the field, exactly, without a pass backward a coordinate.

One closed form per layer carries the derivatives of states and positions along all 3 · atoms coordinates
forward at once. What it uses of the EGNN:

- A message m_ij depends on the layer's states through one sum e_ij alone, so ∂m_ij/∂e_ij is one matrix a
  pair, shared by all directions. Set side by side, these matrices are the Jacobian of all sums of messages
  in all states: one matrix product, (atoms · channels)² by the directions.
- A step along a pair is a number: its derivative in e_ij is a vector, found backward once a pair.
- Before the first layer states do not depend on x, so it needs products with distances only; of the last
  only its own three coordinates of each atom are asked for. Neither pays for the big product.

No pass over pairs and directions and channels together is left. The mean that the field takes out does not
matter: steps do not change when all atoms are moved together, so the trace of what is subtracted is zero.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from bgbench_tbg.network import EPSILON, Edges, Field, Layer, Molecules, Pairs, shorter, without_mean

ROOM = 1 << 20
"""Numbers that a block of the states' Jacobian may hold: it should stay in a processor's cache."""


@dataclass(frozen=True)
class Slopes:
    """A layer's derivatives at every pair `(b, n, n, …)`.

    ∂m/∂e = [`left`·W + `m_raw`⊗`gated`]·`right`, W of `edge_out`, rows first; `length` is ∂length/∂e.
    """

    left: Tensor
    right: Tensor
    raw: Tensor
    gated: Tensor
    length: Tensor

    @classmethod
    def of(cls, layer: Layer, e: Edges) -> "Slopes":
        """Backward through one layer's MLPs, pair by pair, all pairs at once."""
        weight = layer.edge_out.weight
        right, bend = silu_slope(e.first), silu_slope(e.second)
        left = e.gate * bend
        raw = F.silu(e.second)
        # The gate is σ of a product with `raw`; σ' = σ(1 − σ), and zero where the pair does not count.
        opening = e.gate * (1 - e.gate)
        attended = layer.attention.weight[0] * bend
        gated = opening * (attended @ weight)
        down = layer.reach - e.length.square() / layer.reach
        of_m = (down[..., None] * layer.step_out.weight[0] * silu_slope(e.third)) @ layer.step_in.weight
        through = of_m * left + (of_m * raw).sum(-1, keepdim=True) * opening * attended
        return cls(left, right, raw, gated, (through @ weight) * right)

    def message(self, layer: Layer, e_dot: Tensor) -> Tensor:
        """∂m/∂e times one direction `e_dot (channels,)` of e, `(b, n, n, channels)`."""
        bent = self.right * e_dot
        inner = (self.gated * bent).sum(-1, keepdim=True)
        return self.left * F.linear(bent, layer.edge_out.weight) + self.raw * inner


def silu_slope(x: Tensor) -> Tensor:
    """Derivative of SiLU."""
    s = torch.sigmoid(x)
    return s * (1 + x * (1 - s))


def velocity_and_divergence(field: Field, x: Tensor, t: Tensor, m: Molecules) -> tuple[Tensor, Tensor]:
    """v `(b, atoms, 3)` as the field gives it, and ∇·v `(b,)`, of `x (b, atoms, 3)`; differentiable."""
    mask = m.mask.repeat_interleave(len(x) // len(m.mask), 0)
    h, moved = field.embed(t, m, len(x)), x
    first = Pairs.of(x, mask)
    spread = Spread.start(x, mask, first)
    trace = x.new_zeros(len(x))
    for layer in field.layers:
        pairs = Pairs.of(moved, mask)
        e = layer.edges(h, pairs, first.r)
        slopes = Slopes.of(layer, e)
        if layer.node_in is None:
            trace = spread.trace(layer, e, slopes, pairs)
        else:
            spread = spread.after(layer, h, e, slopes, pairs)
        h, moved = layer.states(h, e), moved + (pairs.d * e.along[..., None]).sum(2)
    return without_mean(moved - x, mask), trace

@dataclass(frozen=True)
class Spread:
    """Derivatives along the D = 3 · atoms coordinates (atom by atom), of positions `x (b, n, 3, D)`, states
    `h (b, n, channels, D)`, None where there are none yet, and first distances `r0 (b, n, n, D)`."""

    x: Tensor
    h: Tensor | None
    r0: Tensor
    first: Pairs

    @classmethod
    def start(cls, x: Tensor, mask: Tensor, first: Pairs) -> "Spread":
        """Before the first layer."""
        b, n, _ = x.shape
        one = torch.eye(3 * n, dtype=x.dtype, device=x.device).reshape(1, n, 3, 3 * n).expand(b, -1, -1, -1)
        return cls(one, None, distances(first, one), first)

    def after(self, layer: Layer, h: Tensor, e: Edges, s: Slopes, pairs: Pairs) -> "Spread":
        """Behind a layer that came from states `h`."""
        r = self.r0 if self.h is None else distances(pairs, self.x)
        here, there, of_r = layer.blocks
        length = s.length @ of_r
        length_dot = length[..., :1] * r + length[..., 1:] * self.r0
        sums = s.message(layer, of_r[:, 0]).transpose(2, 3) @ r
        sums = sums + s.message(layer, of_r[:, 1]).transpose(2, 3) @ self.r0
        if self.h is not None:
            length_dot = length_dot + (s.length @ here) @ self.h
            length_dot = length_dot + ((s.length @ there).transpose(1, 2) @ self.h).transpose(1, 2)
            sums = sums + own(layer, s) @ (here @ self.h) + others(layer, s, there @ self.h)
        stretch = (pairs.d.transpose(2, 3) @ along(e, pairs, r, length_dot)).to(self.x)
        moved = self.x * e.along.sum(2)[..., None, None]
        moved = moved - (e.along @ self.x.flatten(2)).reshape(self.x.shape)
        return Spread(self.x + stretch + moved, self._states(layer, h, e, sums), self.r0, self.first)

    def _states(self, layer: Layer, h: Tensor, e: Edges, sums: Tensor) -> Tensor:
        """States' derivatives after the layer; `sums (b, n, channels, D)` are those of summed messages."""
        if layer.node_in is None or layer.node_out is None:
            raise ValueError("the last layer has no states to differentiate")
        of_h, of_m = layer.node_in.weight.chunk(2, dim=1)
        bend = silu_slope(layer.node_in(torch.cat([h, e.m.sum(2)], dim=-1)))[..., None]
        inner = of_m @ sums if self.h is None else of_m @ sums + of_h @ self.h
        change = layer.node_out.weight @ (bend * inner)
        return change if self.h is None else self.h + change

    def trace(self, layer: Layer, e: Edges, s: Slopes, pairs: Pairs) -> Tensor:
        """∇·(x after the last layer − x) `(b,)`: of each atom's step, along its own coordinates only."""
        b, n = self.x.shape[:2]
        x = self.x.reshape(b, n, 3, n, 3)
        own_x = x.diagonal(dim1=1, dim2=3).permute(0, 3, 1, 2)
        apart = own_x[:, :, None] - x.permute(0, 3, 1, 2, 4)
        r = 2 * (pairs.d[..., None, :] @ apart)[..., 0, :]
        here, there, of_r = layer.blocks
        length = s.length @ of_r
        length_dot = length[..., :1] * r + length[..., 1:] * 2 * self.first.d
        if self.h is not None:
            h = self.h.reshape(b, n, -1, n, 3)
            own_h = h.diagonal(dim1=1, dim2=3).permute(0, 3, 1, 2)
            length_dot = length_dot + (s.length @ here) @ own_h
            weighed = (s.length @ there).permute(0, 2, 3, 1)[..., None] * h
            length_dot = length_dot + weighed.sum(2).transpose(1, 2)
        stretch = (pairs.d * along(e, pairs, r, length_dot)).sum((1, 2, 3))
        turned = (e.along * apart.diagonal(dim1=3, dim2=4).sum(-1)).sum((1, 2))
        before = own_x.diagonal(dim1=2, dim2=3).sum((1, 2)) - 3 * n
        return before + stretch + turned


def distances(pairs: Pairs, x: Tensor) -> Tensor:
    """Derivatives `(b, n, n, D)` of squared distances, from those of positions `x (b, n, 3, D)`."""
    half = pairs.d @ x
    return 2 * (half + half.transpose(1, 2))


def along(e: Edges, pairs: Pairs, r: Tensor, length: Tensor) -> Tensor:
    """Derivatives `(b, n, n, D)` of the factor of d, from those of r and of `length`."""
    root = torch.sqrt(pairs.r + EPSILON)
    factor = shorter(pairs.r)
    shrinking = -e.length * factor.square() / (2 * root)
    return shrinking[..., None] * r + factor[..., None] * length


def own(layer: Layer, s: Slopes) -> Tensor:
    """Σ_j ∂m_ij/∂e_ij `(b, n, channels, channels)`."""
    plain = (s.left.transpose(2, 3) @ s.right) * layer.edge_out.weight
    return plain + s.raw.transpose(2, 3) @ (s.gated * s.right)


def others(layer: Layer, s: Slopes, h: Tensor) -> Tensor:
    """Σ_j ∂m_ij/∂e_ij h_j of `h (b, n, channels, D)`: the product with the states' Jacobian, by blocks."""
    b, n, c, _ = h.shape
    samples = max(1, ROOM // (n * c) ** 2)
    rows = max(1, ROOM // (n * c * c))
    parts = []
    for k in range(0, b, samples):
        some, flat = slice(k, k + samples), h[k : k + samples].flatten(1, 2)
        done = [_block(layer, s, (some, slice(i, i + rows))) @ flat for i in range(0, n, rows)]
        parts.append(torch.cat(done, dim=1))
    return torch.cat(parts).reshape(h.shape)


def _block(layer: Layer, s: Slopes, at: tuple[slice, slice]) -> Tensor:
    """Rows of the states' Jacobian `(b, rows · channels, n · channels)`."""
    left, right, raw, gated = (part[at] for part in (s.left, s.right, s.raw, s.gated))
    block = left.transpose(2, 3)[..., None] * layer.edge_out.weight[:, None]
    block = torch.addcmul(block, raw.transpose(2, 3)[..., None], gated[:, :, None])
    return (block * right[:, :, None]).flatten(3, 4).flatten(1, 2)
