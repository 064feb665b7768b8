"""What the divergence multiplies: derivatives of messages at pairs, and their products with directions."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from bgbench_tbg.network import Edges, Layer

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


def along(k: Tensor, d: Tensor) -> Tensor:
    """2 k⊗d `(b, n, n, rows, 3)` of `k (b, n, n, rows)`."""
    return k[..., None] * (2 * d[..., None, :])


def slim(k: Tensor, d: Tensor) -> Tensor:
    """Σ_j 2 (k_ij⊗d_ij) (x_i − x_j), differentiated: by d_ij of x_j, then along x_i `(b, n, rows, n + 3)`."""
    k = k.transpose(2, 3)
    return torch.cat([-2 * k, 2 * (k @ d)], dim=3)


def widened(thin: Tensor, d: Tensor) -> Tensor:
    """What is `slim`, in all coordinates: `(b, n, rows, 3 n)`."""
    b, n, rows, _ = thin.shape
    pairs, itself = thin.split((n, 3), dim=3)
    one = torch.eye(n, dtype=d.dtype, device=d.device)[:, None, :, None]
    return (pairs[..., None] * d[:, :, None] + one * itself[:, :, :, None]).reshape(b, n, rows, 3 * n)


def narrowed(h: Tensor, d: Tensor) -> Tensor:
    """`h_j (b, n, rows, 3 n)` along d_ij of x_i for all i, then along x_j itself: `(b, n, rows, n + 3)`."""
    b, n, rows, _ = h.shape
    h = h.reshape(b, n, rows, n, 3)
    itself = h.diagonal(dim1=1, dim2=3).permute(0, 3, 1, 2)
    return torch.cat([(h * d.transpose(1, 2)[:, :, None]).sum(-1), itself], dim=3)


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


def opened(s: Slopes, h: Tensor) -> Tensor:
    """Σ_j `raw`⊗`gated`·`right` h_j of `h (b, n, channels, D)`: the part of attention."""
    at_pairs = (s.gated * s.right).transpose(1, 2) @ h
    return s.raw.transpose(2, 3) @ at_pairs.transpose(1, 2)


def others(
    layer: Layer, s: Slopes, h: Tensor, thin: Tensor | None, d0: Tensor, toward: Tensor | None
) -> Tensor:
    """Σ_j `left`·W·`right` h_j of `h (b, n, channels, D)`, `narrowed` if `toward` is given.

    The narrow ways are taken where products are what costs; `thin` is `h` before it was `widened` by `d0`.
    """
    weight = layer.edge_out.weight
    if h.shape[2] <= h.shape[3]:
        found = by_blocks(weight, s, h)
    elif thin is not None:
        found = by_distances(weight, s, thin, d0)
    elif toward is not None:
        return by_steps(weight, s, h, toward)
    else:
        found = by_directions(weight, s, h)
    return found if toward is None else narrowed(found, toward)


def by_distances(weight: Tensor, s: Slopes, thin: Tensor, d: Tensor) -> Tensor:
    """`by_directions` of what is `thin` yet: one direction a pair stands behind W, and d comes after."""
    b, n, c, _ = thin.shape
    left, right = s.left.transpose(2, 3).contiguous(), s.right.transpose(2, 3).contiguous()
    found = []
    for k, told in enumerate(thin.permute(0, 2, 3, 1).contiguous()):
        away = d[k].transpose(0, 1)
        for i in range(n):
            turned = weight @ (right[k, i, :, None] * told).flatten(1)
            turned = turned.reshape(c, n + 3, n) * left[k, i, :, None]
            pairs, itself = turned.split((n, 3), dim=1)
            found.append((pairs.transpose(0, 1) @ away).transpose(0, 1) + itself.transpose(1, 2))
    return torch.stack(found).reshape(b, n, c, 3 * n)


def by_steps(weight: Tensor, s: Slopes, h: Tensor, d: Tensor) -> Tensor:
    """`narrowed` Σ_j `left`·W·`right` h_j: atom i's own directions are taken before W."""
    b, n, c, _ = h.shape
    left, right = s.left.transpose(2, 3).contiguous(), s.right.transpose(2, 3).contiguous()
    found = []
    for k, told in enumerate(h.reshape(b, n, c, n, 3).permute(0, 4, 2, 1, 3).contiguous()):
        for i in range(n):
            steps = d[k, :, i].T[:, None, None]
            asked = told[0] * steps[0]
            asked = torch.addcmul(asked, told[1], steps[1]).addcmul(told[2], steps[2])
            asked = torch.cat([asked, told[..., i].permute(1, 2, 0)], dim=2)
            turned = weight @ (right[k, i, :, :, None] * asked).flatten(1)
            found.append((left[k, i, :, None] @ turned.reshape(c, n, n + 3))[:, 0])
    return torch.stack(found).reshape(b, n, c, n + 3)


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
