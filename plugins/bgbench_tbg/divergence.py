"""The divergence of the field, exactly, without a pass backward a coordinate.

One closed form per layer carries the derivatives of states and positions along all 3 · atoms coordinates
forward at once. What it uses of the EGNN:

- A message m_ij depends on states through one sum e_ij alone, so ∂m_ij/∂e_ij is one matrix a pair, the same
  for all directions. Set side by side they are the Jacobian of all sums of messages in all states: one
  matrix product of atoms · channels squared with the directions.
- A step along a pair is a number times d: its derivative in e_ij is a vector, found backward once a pair.
- Before the first layer states do not depend on x, so its Jacobian is that of pairs, without a product; of
  the last, only the step of each atom along its own coordinates is asked for.

No tensor over pairs, directions and channels together is made. The mean that the field takes out does not
matter: steps do not change when all atoms move together, so the trace of what is subtracted is zero.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from bgbench_tbg.network import EPSILON, Edges, Field, Layer, Molecules, Pairs, shorter, without_mean

ROOM = 1 << 18
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
    spread, trace = Spread.start(x), x.new_zeros(len(x))
    for layer in field.rounds:
        pairs = Pairs.of(moved, mask)
        e = layer.edges(h, pairs, first.r)
        slopes = Slopes.of(layer, e)
        pulls = Pulls.of(layer, e, slopes, pairs, first)
        if layer.node_in is None:
            trace = spread.trace(layer, pulls, pairs.d)
        else:
            spread = spread.after(layer, h, e, slopes, pulls, pairs.d)
        h, moved = layer.states(h, e), moved + (pairs.d * e.along[..., None]).sum(2)
    return without_mean(moved - x, mask), trace


@dataclass(frozen=True)
class Pulls:
    """Derivatives of a pair's message and step, states held fixed, as factors of x_i − x_j.

    `h (b, n, n, channels, 3)` and `x (b, n, n, 3, 3)` of this layer's positions, `h0`, `x0` of the first;
    `steer (b, n, n, channels)` times d is the derivative of the step in e.
    """

    h: Tensor
    x: Tensor
    h0: Tensor
    x0: Tensor
    steer: Tensor

    @classmethod
    def of(cls, layer: Layer, e: Edges, s: Slopes, pairs: Pairs, first: Pairs) -> "Pulls":
        """At every pair; r = ‖d‖² has the derivative 2 d."""
        of_r = layer.blocks[2]
        factor = shorter(pairs.r)
        steer = s.length * factor[..., None]
        by_r = steer @ of_r
        shrinking = -e.length * factor.square() / (2 * torch.sqrt(pairs.r + EPSILON))
        outer = pairs.d[..., None] * (2 * pairs.d[..., None, :])
        plain = e.along[..., None, None] * torch.eye(3, dtype=outer.dtype, device=outer.device)
        return cls(
            h=s.message(layer, of_r[:, 0])[..., None] * (2 * pairs.d[..., None, :]),
            x=plain + (shrinking + by_r[..., 0])[..., None, None] * outer,
            h0=s.message(layer, of_r[:, 1])[..., None] * (2 * first.d[..., None, :]),
            x0=by_r[..., 1, None, None] * pairs.d[..., None] * (2 * first.d[..., None, :]),
            steer=steer,
        )


@dataclass(frozen=True)
class Spread:
    """Derivatives along the D = 3 · atoms coordinates, atom by atom: of positions `x (b, n, 3, D)` and of
    states `h (b, n, channels, D)`, None where states do not depend on x yet."""

    x: Tensor
    h: Tensor | None

    @classmethod
    def start(cls, x: Tensor) -> "Spread":
        """Before the first layer."""
        b, n, _ = x.shape
        one = torch.eye(3 * n, dtype=x.dtype, device=x.device).reshape(1, n, 3, 3 * n).expand(b, -1, -1, -1)
        return cls(one, None)

    def after(self, layer: Layer, h: Tensor, e: Edges, s: Slopes, p: Pulls, d: Tensor) -> "Spread":
        """Behind a layer that came from states `h` and whose pairs are `d` apart."""
        if self.h is None:
            return Spread(self.x + straight(p.x + p.x0), self._states(layer, h, e, straight(p.h + p.h0)))
        here, there, _ = layer.blocks
        from_here, from_there = each(here, self.h), each(there, self.h)
        sums = straight(p.h0) + pulled(p.h, self.x)
        sums = sums + own(layer, s) @ from_here + others(layer, s, from_there)
        steer = d[..., None] * p.steer[..., None, :]
        moved = straight(p.x0) + pulled(p.x, self.x)
        moved = moved + steer.sum(2) @ from_here + product(steer, from_there)
        return Spread(self.x + moved, self._states(layer, h, e, sums))

    def _states(self, layer: Layer, h: Tensor, e: Edges, sums: Tensor) -> Tensor:
        """States' derivatives after the layer; `sums (b, n, channels, D)` are those of summed messages."""
        if layer.node_in is None or layer.node_out is None:
            raise ValueError("the last layer has no states to differentiate")
        of_h, of_m = layer.node_in.weight.chunk(2, dim=1)
        bend = silu_slope(layer.node_in(torch.cat([h, e.m.sum(2)], dim=-1)))[..., None]
        inner = each(of_m, sums) if self.h is None else each(of_m, sums) + each(of_h, self.h)
        change = each(layer.node_out.weight, bend * inner)
        return change if self.h is None else self.h + change

    def trace(self, layer: Layer, p: Pulls, d: Tensor) -> Tensor:
        """∇·(x after the last layer − x) `(b,)`: the step of each atom along its own coordinates only."""
        b, n = self.x.shape[:2]
        x = self.x.reshape(b, n, 3, n, 3)
        own_x = x.diagonal(dim1=1, dim2=3).permute(0, 3, 1, 2)
        apart = own_x[:, :, None] - x.permute(0, 3, 1, 2, 4)
        trace = own_x.diagonal(dim1=2, dim2=3).sum((1, 2)) - 3 * n
        trace = trace + p.x0.diagonal(dim1=3, dim2=4).sum((1, 2, 3))
        trace = trace + (p.x.transpose(3, 4) * apart).sum((1, 2, 3, 4))
        if self.h is None:
            return trace
        here, there, _ = layer.blocks
        h = self.h.reshape(b, n, -1, n, 3)
        own_h = h.diagonal(dim1=1, dim2=3).permute(0, 3, 2, 1)
        steer = d.transpose(2, 3) @ (p.steer @ here)
        toward = (h * d.transpose(1, 2)[:, :, None]).sum(-1)
        trace = trace + (steer * own_h).sum((1, 2, 3))
        return trace + ((p.steer @ there).permute(0, 2, 3, 1) * toward).sum((1, 2, 3))


def straight(k: Tensor) -> Tensor:
    """Σ_j k_ij (x_i − x_j) of `k (b, n, n, rows, 3)`, differentiated in x: `(b, n, rows, 3 n)`."""
    b, n, _, rows, _ = k.shape
    found = -k.transpose(2, 3)
    itself = torch.eye(n, dtype=k.dtype, device=k.device)[:, None, :, None]
    return (found + itself * k.sum(2)[:, :, :, None]).reshape(b, n, rows, 3 * n)


def pulled(k: Tensor, x: Tensor) -> Tensor:
    """Σ_j k_ij (x_i − x_j) of `k (b, n, n, rows, 3)` and `x (b, n, 3, D)`."""
    return k.sum(2) @ x - product(k, x)


def product(k: Tensor, x: Tensor) -> Tensor:
    """Σ_j k_ij x_j of `k (b, n, n, rows, columns)` and `x (b, n, columns, D)`."""
    b, n, _, rows, _ = k.shape
    return (k.transpose(2, 3).reshape(b, n * rows, -1) @ x.flatten(1, 2)).reshape(b, n, rows, -1)


def own(layer: Layer, s: Slopes) -> Tensor:
    """Σ_j ∂m_ij/∂e_ij `(b, n, channels, channels)`."""
    plain = (s.left.transpose(2, 3) @ s.right) * layer.edge_out.weight
    return plain + s.raw.transpose(2, 3) @ (s.gated * s.right)


def each(weight: Tensor, h: Tensor) -> Tensor:
    """`weight (k, channels)` times `h (b, n, channels, D)`, without the copies that broadcasting makes."""
    b, n, _, d = h.shape
    return torch.bmm(weight.expand(b * n, -1, -1), h.flatten(0, 1)).reshape(b, n, -1, d)


def others(layer: Layer, s: Slopes, h: Tensor) -> Tensor:
    """Σ_j ∂m_ij/∂e_ij h_j of `h (b, n, channels, D)`."""
    by = by_directions if h.shape[2] > h.shape[3] else by_blocks
    opened = (s.gated * s.right).transpose(1, 2) @ h
    return by(layer.edge_out.weight, s, h) + s.raw.transpose(2, 3) @ opened.transpose(1, 2)


def by_directions(weight: Tensor, s: Slopes, h: Tensor) -> Tensor:
    """Σ_j `left`·W·`right` h_j, one atom i after the other: W stands before all pairs and directions."""
    b, n, c, d = h.shape
    left, right = s.left.transpose(2, 3).contiguous(), s.right.transpose(2, 3).contiguous()
    found = []
    for k, told in enumerate(h.transpose(1, 2).contiguous()):
        for i in range(n):
            turned = weight @ (right[k, i, :, :, None] * told).flatten(1)
            found.append(left[k, i, :, None] @ turned.reshape(c, n, d))
    return torch.stack(found).reshape(b, n, c, d)


def by_blocks(weight: Tensor, s: Slopes, h: Tensor) -> Tensor:
    """The same as a product with the states' Jacobian, a block of it at a time."""
    b, n, c, _ = h.shape
    samples = max(1, ROOM // (n * c) ** 2)
    rows = max(1, ROOM // (n * c * c))
    left = s.left.transpose(2, 3).contiguous()[..., None]
    parts = []
    for k in range(0, b, samples):
        some, flat = slice(k, k + samples), h[k : k + samples].flatten(1, 2)
        done = []
        for i in range(0, n, rows):
            at = some, slice(i, i + rows)
            block = (left[at] * weight[:, None]).mul_(s.right[at][:, :, None])
            done.append(block.flatten(3, 4).flatten(1, 2) @ flat)
        parts.append(torch.cat(done, dim=1))
    return torch.cat(parts).reshape(h.shape)
