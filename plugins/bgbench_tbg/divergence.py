"""The divergence of the field, exactly, without a pass backward a coordinate.

One closed form per layer carries the derivatives of states and positions along all 3 · atoms coordinates
forward at once. What it uses of the EGNN:

- A message m_ij depends on states through one sum e_ij alone, so ∂m_ij/∂e_ij is one matrix a pair, the same
  for all directions. Set side by side they are the Jacobian of all sums of messages in all states: one
  matrix product of atoms · channels squared with the directions.
- A step along a pair is a number times d: its derivative in e_ij is a vector, found backward once a pair.
- Before the first layer states do not depend on x, so its Jacobian is that of pairs, without a product.
  Behind it, h_j depends on x_k through ‖x_j − x_k‖² alone: the second layer carries one direction a pair
  of atoms.
- Of the last layer only the step of each atom along its own coordinates is asked for, and that needs h_j
  along d_ij of x_i alone: so of the layer before it, too, one direction a pair is asked for.

No tensor over pairs, directions and channels together is made. The mean that the field takes out does not
matter: steps do not change when all atoms move together, so the trace of what is subtracted is zero.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from bgbench_tbg.network import EPSILON, Edges, Field, Layer, Molecules, Pairs, shorter, without_mean
from bgbench_tbg.products import (
    Slopes,
    along,
    each,
    narrowed,
    opened,
    others,
    own,
    product,
    pulled,
    silu_slope,
    slim,
    straight,
    widened,
)


def velocity_and_divergence(field: Field, x: Tensor, t: Tensor, m: Molecules) -> tuple[Tensor, Tensor]:
    """v `(b, atoms, 3)` as the field gives it, and ∇·v `(b,)`, of `x (b, atoms, 3)`; differentiable."""
    mask = m.mask.repeat_interleave(len(x) // len(m.mask), 0)
    h, moved = field.embed(t, m, len(x)), x
    first = Pairs.of(x, mask)
    spread, held, trace = Spread.start(x), None, x.new_zeros(len(x))
    for layer in field.rounds:
        pairs = Pairs.of(moved, mask)
        e = layer.edges(h, pairs, first.r)
        slopes = Slopes.of(layer, e)
        pulls = Pulls.of(layer, e, slopes, pairs, first)
        if held is not None:
            spread = spread.after(*held, toward=pairs.d if layer.node_in is None else None)
        if layer.node_in is None:
            trace = spread.trace(layer, pulls)
        held = layer, h, e, slopes, pulls
        h, moved = layer.states(h, e), moved + (pairs.d * e.along[..., None]).sum(2)
    return without_mean(moved - x, mask), trace


@dataclass(frozen=True)
class Pulls:
    """Derivatives of a pair's message and step, states held fixed.

    `x (b, n, n, 3, 3)` are factors of x_i − x_j, and so is `h (b, n, n, channels)` times 2 d: both of this
    layer's positions, `h0`, `x0`, `d0` of the first. `steer (b, n, n, channels)` times d is the derivative of
    the step in e.
    """

    d: Tensor
    d0: Tensor
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
            d=pairs.d,
            d0=first.d,
            h=s.message(layer, of_r[:, 0]),
            x=plain + (shrinking + by_r[..., 0])[..., None, None] * outer,
            h0=s.message(layer, of_r[:, 1]),
            x0=by_r[..., 1, None, None] * pairs.d[..., None] * (2 * first.d[..., None, :]),
            steer=steer,
        )


@dataclass(frozen=True)
class Spread:
    """Derivatives along the D = 3 · atoms coordinates, atom by atom: of positions `x (b, n, 3, D)` and of
    states `h`, None where states do not depend on x yet.

    `h` is `(b, n, channels, D)`, and behind the first layer there is `thin (b, n, channels, n + 3)` besides,
    which `widened` makes `h` of. Before the last layer `h` is `narrowed` to `(b, n, channels, n + 3)`.
    """

    x: Tensor
    h: Tensor | None = None
    thin: Tensor | None = None

    @classmethod
    def start(cls, x: Tensor) -> "Spread":
        """Before the first layer."""
        b, n, _ = x.shape
        one = torch.eye(3 * n, dtype=x.dtype, device=x.device).reshape(1, n, 3, 3 * n).expand(b, -1, -1, -1)
        return cls(one)

    def after(
        self, layer: Layer, h: Tensor, e: Edges, s: Slopes, p: Pulls, toward: Tensor | None
    ) -> "Spread":
        """Behind a layer that came from states `h`; narrowed to the last layer's d `toward`, if given."""
        change = change_of(layer, h, e)
        if self.h is None:
            slender = change(slim(p.h + p.h0, p.d), None)
            full = widened(slender, p.d)
            full = full if toward is None else narrowed(full, toward)
            return Spread(self.x + straight(p.x + p.x0), full, slender)
        here, there, _ = layer.blocks
        from_here, from_there = each(here, self.h), each(there, self.h)
        sums = straight(along(p.h0, p.d0)) + pulled(along(p.h, p.d), self.x) + own(layer, s) @ from_here
        sums = sums + opened(s, from_there)
        thin = None if self.thin is None else each(there, self.thin)
        steer = p.d[..., None] * p.steer[..., None, :]
        moved = straight(p.x0) + pulled(p.x, self.x)
        moved = moved + steer.sum(2) @ from_here + product(steer, from_there)
        before = self.h
        if toward is not None:
            sums, before = narrowed(sums, toward), narrowed(before, toward)
        sums = sums + others(layer, s, from_there, thin, p.d0, toward)
        return Spread(self.x + moved, before + change(sums, before))

    def trace(self, layer: Layer, p: Pulls) -> Tensor:
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
        toward, own_h = self.h.split((n, 3), dim=3)
        steer = p.d.transpose(2, 3) @ (p.steer @ here)
        trace = trace + (steer * own_h.transpose(2, 3)).sum((1, 2, 3))
        return trace + ((p.steer @ there).permute(0, 2, 3, 1) * toward).sum((1, 2, 3))


def change_of(layer: Layer, h: Tensor, e: Edges) -> Callable[[Tensor, Tensor | None], Tensor]:
    """Derivative of what a layer adds to states, of those of summed messages and of states before."""
    if layer.node_in is None or layer.node_out is None:
        raise ValueError("the last layer has no states to differentiate")
    of_h, of_m = layer.node_in.weight.chunk(2, dim=1)
    bend = silu_slope(layer.node_in(torch.cat([h, e.m.sum(2)], dim=-1)))[..., None]
    out = layer.node_out.weight

    def change(sums: Tensor, before: Tensor | None) -> Tensor:
        inner = each(of_m, sums) if before is None else each(of_m, sums) + each(of_h, before)
        return each(out, bend * inner)

    return change
