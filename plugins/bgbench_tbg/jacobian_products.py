"""Products with the Jacobian of a layer's messages, of which the exact divergence is made.

A layer (`network.EquivariantLayer`) makes messages m_ij of inputs e_ij, with d_ij = x_i − x_j. A Jacobian
along D directions is a tensor `(b, n, rows, D)`: b samples, n atoms, `rows` channels (of states) or 3 (of
positions). Three layouts occur:

    full      D = 3n: the derivative along every coordinate of every atom
    compact   D = n + 3, of h_i: column j times d_ij is the derivative along x_j, and the last three columns
              are the derivative along x_i itself
    projected D = n + 3, of h_j: column i is the derivative along the direction d_ij of x_i, and the last
              three columns are the derivative along x_j itself

The full layout is what costs time. `compact` exists after the first layer, where states depend on distances
alone; `projected` is all that the last layer asks for.

With W the weight of `edge_out`, the Jacobian of a message in its input is

    ∂m_ij/∂e_ij = diag(left) W diag(right) + raw ⊗ (gated · right),

a product behind SiLU on both sides, and the attention gate. Its product with directions is summed over j, and
the first term is where all the arithmetic lies: `apply_weight_term` chooses the cheapest of four orders.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from bgbench_tbg.network import EquivariantLayer, PairActivations

BLOCK_ELEMENTS = 1 << 18
"""Elements of a block of the states' Jacobian, so that it stays in a processor's cache."""
GPU_BLOCK_ELEMENTS = 1 << 27
"""The same on a GPU, where few large products are fast: half a GiB in float32."""


@dataclass(frozen=True)
class MessageJacobian:
    """The factors of ∂m/∂e at every pair, see the module, and of the step.

    Attributes:
        left: `(b, n, n, channels)`.
        right: `(b, n, n, channels)`.
        raw: `(b, n, n, channels)`, the message before its gate.
        gated: `(b, n, n, channels)`, the gate's derivative in `edge_out`'s input.
        step_length: `(b, n, n, channels)`, ∂(step length)/∂e.
    """

    left: Tensor
    right: Tensor
    raw: Tensor
    gated: Tensor
    step_length: Tensor

    @classmethod
    def of(cls, layer: EquivariantLayer, pairs: PairActivations) -> "MessageJacobian":
        """By the chain rule through the layer's MLPs, all pairs at once."""
        weight = layer.edge_out.weight
        right, slope = silu_derivative(pairs.edge_input), silu_derivative(pairs.edge_output)
        left = pairs.gate * slope
        raw = F.silu(pairs.edge_output)
        # The gate is σ of a product with `raw`; σ' = σ(1 − σ), and zero where the pair is masked.
        gate_slope = pairs.gate * (1 - pairs.gate)
        attention = layer.attention.weight[0] * slope
        gated = gate_slope * (attention @ weight)
        tanh_slope = layer.reach - pairs.step_length.square() / layer.reach
        by_message = (
            tanh_slope[..., None] * layer.step_out.weight[0] * silu_derivative(pairs.step_input)
        ) @ layer.step_in.weight
        by_output = by_message * left + (by_message * raw).sum(-1, keepdim=True) * gate_slope * attention
        return cls(left, right, raw, gated, (by_output @ weight) * right)

    def apply_to_direction(self, layer: EquivariantLayer, direction: Tensor) -> Tensor:
        """∂m/∂e times one `direction (channels,)` of e, the same at all pairs, `(b, n, n, channels)`."""
        scaled = self.right * direction
        by_gate = (self.gated * scaled).sum(-1, keepdim=True)
        return self.left * F.linear(scaled, layer.edge_out.weight) + self.raw * by_gate


def silu_derivative(x: Tensor) -> Tensor:
    """d/dx of x σ(x)."""
    s = torch.sigmoid(x)
    return s * (1 + x * (1 - s))


def squared_distance_gradient(k: Tensor, d: Tensor) -> Tensor:
    """2 k⊗d `(b, n, n, rows, 3)`, the gradient in x_i of k ‖d‖², of `k (b, n, n, rows)`."""
    return k[..., None] * (2 * d[..., None, :])


def compact_jacobian(k: Tensor, d: Tensor) -> Tensor:
    """The Jacobian of Σ_j k_ij ‖d_ij‖² in the compact layout, of `k (b, n, n, rows)`."""
    k = k.transpose(2, 3)
    return torch.cat([-2 * k, 2 * (k @ d)], dim=3)


def expand_compact(compact: Tensor, d: Tensor) -> Tensor:
    """The full layout `(b, n, rows, 3 n)` of a compact Jacobian `(b, n, rows, n + 3)`."""
    b, n, rows, _ = compact.shape
    by_pair, by_itself = compact.split((n, 3), dim=3)
    identity = torch.eye(n, dtype=d.dtype, device=d.device)[:, None, :, None]
    full = by_pair[..., None] * d[:, :, None] + identity * by_itself[:, :, :, None]
    return full.reshape(b, n, rows, 3 * n)


def project_on_pairs(h: Tensor, d: Tensor) -> Tensor:
    """The projected layout `(b, n, rows, n + 3)` of a full Jacobian `h (b, n, rows, 3 n)`."""
    b, n, rows, _ = h.shape
    h = h.reshape(b, n, rows, n, 3)
    by_itself = h.diagonal(dim1=1, dim2=3).permute(0, 3, 1, 2)
    return torch.cat([(h * d.transpose(1, 2)[:, :, None]).sum(-1), by_itself], dim=3)


def jacobian_of_differences(k: Tensor) -> Tensor:
    """The Jacobian of Σ_j k_ij (x_i − x_j) in x, `(b, n, rows, 3 n)`, of `k (b, n, n, rows, 3)`."""
    b, n, _, rows, _ = k.shape
    by_others = -k.transpose(2, 3)
    identity = torch.eye(n, dtype=k.dtype, device=k.device)[:, None, :, None]
    return (by_others + identity * k.sum(2)[:, :, :, None]).reshape(b, n, rows, 3 * n)


def sum_over_differences(k: Tensor, x: Tensor) -> Tensor:
    """Σ_j k_ij (x_i − x_j) `(b, n, rows, D)` of `k (b, n, n, rows, 3)` and `x (b, n, 3, D)`."""
    return k.sum(2) @ x - sum_over_neighbours(k, x)


def sum_over_neighbours(k: Tensor, x: Tensor) -> Tensor:
    """Σ_j k_ij x_j `(b, n, rows, D)` of `k (b, n, n, rows, columns)` and `x (b, n, columns, D)`."""
    b, n, _, rows, _ = k.shape
    return (k.transpose(2, 3).reshape(b, n * rows, -1) @ x.flatten(1, 2)).reshape(b, n, rows, -1)


def summed_message_jacobian(layer: EquivariantLayer, s: MessageJacobian) -> Tensor:
    """Σ_j ∂m_ij/∂e_ij `(b, n, channels, channels)`: what multiplies the derivative of h_i itself."""
    weight_term = (s.left.transpose(2, 3) @ s.right) * layer.edge_out.weight
    return weight_term + s.raw.transpose(2, 3) @ (s.gated * s.right)


def apply_to_channels(weight: Tensor, h: Tensor) -> Tensor:
    """`weight (k, channels)` times `h (b, n, channels, D)`, without the copies that broadcasting makes."""
    b, n, _, d = h.shape
    return torch.bmm(weight.expand(b * n, -1, -1), h.flatten(0, 1)).reshape(b, n, -1, d)


def apply_attention_term(s: MessageJacobian, h: Tensor) -> Tensor:
    """Σ_j raw ⊗ (gated · right) h_j of `h (b, n, channels, D)`: the gate's part of the messages' Jacobian."""
    at_pairs = (s.gated * s.right).transpose(1, 2) @ h
    return s.raw.transpose(2, 3) @ at_pairs.transpose(1, 2)


def apply_weight_term(
    layer: EquivariantLayer,
    s: MessageJacobian,
    h: Tensor,
    compact: Tensor | None,
    d_first: Tensor,
    d_last: Tensor | None,
) -> Tensor:
    """Σ_j diag(left) W diag(right) h_j, in the cheapest order.

    Args:
        layer: Whose messages they are.
        s: Their Jacobian.
        h: Full Jacobian of the states before, `(b, n, channels, D)`.
        compact: The same in the compact layout, if there is one.
        d_first: The d that expands it, `(b, n, n, 3)`.
        d_last: The last layer's d if only the projected layout is wanted.

    Returns:
        `(b, n, channels, D)`, or the projected layout if `d_last` is not None.
    """
    weight = layer.edge_out.weight
    if h.shape[2] <= h.shape[3]:
        full = _by_jacobian_blocks(weight, s, h)
    elif compact is not None:
        full = _before_expansion(weight, s, compact, d_first)
    elif d_last is not None:
        return _after_projection(weight, s, h, d_last)
    else:
        full = _by_directions(weight, s, h)
    return full if d_last is None else project_on_pairs(full, d_last)


def _before_expansion(weight: Tensor, s: MessageJacobian, compact: Tensor, d: Tensor) -> Tensor:
    """W times the compact layout, expanded afterwards: one direction a pair instead of three."""
    b, n, c, _ = compact.shape
    left, right = s.left.transpose(2, 3).contiguous(), s.right.transpose(2, 3).contiguous()
    rows = []
    for k, sample in enumerate(compact.permute(0, 2, 3, 1).contiguous()):
        away = d[k].transpose(0, 1)
        for i in range(n):
            product = weight @ (right[k, i, :, None] * sample).flatten(1)
            product = product.reshape(c, n + 3, n) * left[k, i, :, None]
            by_pair, by_itself = product.split((n, 3), dim=1)
            rows.append((by_pair.transpose(0, 1) @ away).transpose(0, 1) + by_itself.transpose(1, 2))
    return torch.stack(rows).reshape(b, n, c, 3 * n)


def _after_projection(weight: Tensor, s: MessageJacobian, h: Tensor, d: Tensor) -> Tensor:
    """W times the projection on atom i's own directions, in the projected layout."""
    b, n, c, _ = h.shape
    left, right = s.left.transpose(2, 3).contiguous(), s.right.transpose(2, 3).contiguous()
    rows = []
    for k, sample in enumerate(h.reshape(b, n, c, n, 3).permute(0, 4, 2, 1, 3).contiguous()):
        for i in range(n):
            axes = d[k, :, i].T[:, None, None]
            projected = sample[0] * axes[0]
            projected = torch.addcmul(projected, sample[1], axes[1]).addcmul(sample[2], axes[2])
            projected = torch.cat([projected, sample[..., i].permute(1, 2, 0)], dim=2)
            product = weight @ (right[k, i, :, :, None] * projected).flatten(1)
            rows.append((left[k, i, :, None] @ product.reshape(c, n, n + 3))[:, 0])
    return torch.stack(rows).reshape(b, n, c, n + 3)


def _by_directions(weight: Tensor, s: MessageJacobian, h: Tensor) -> Tensor:
    """One atom i after the other: W times all pairs (i, j) and all directions."""
    b, n, c, d = h.shape
    left, right = s.left.transpose(2, 3).contiguous(), s.right.transpose(2, 3).contiguous()
    rows = []
    for k, sample in enumerate(h.transpose(1, 2).contiguous()):
        for i in range(n):
            product = weight @ (right[k, i, :, :, None] * sample).flatten(1)
            rows.append(left[k, i, :, None] @ product.reshape(c, n, d))
    return torch.stack(rows).reshape(b, n, c, d)


def _by_jacobian_blocks(weight: Tensor, s: MessageJacobian, h: Tensor) -> Tensor:
    """The messages' Jacobian in all states, `(n · channels)²`, a block of it at a time, times `h`."""
    b, n, c, _ = h.shape
    elements = BLOCK_ELEMENTS if h.device.type == "cpu" else GPU_BLOCK_ELEMENTS
    samples = max(1, elements // (n * c) ** 2)
    rows = max(1, elements // (n * c * c))
    left = s.left.transpose(2, 3).contiguous()[..., None]
    parts = []
    for k in range(0, b, samples):
        some, directions = slice(k, k + samples), h[k : k + samples].flatten(1, 2)
        products = []
        for i in range(0, n, rows):
            at = some, slice(i, i + rows)
            block = (left[at] * weight[:, None]).mul_(s.right[at][:, :, None])
            products.append(block.flatten(3, 4).flatten(1, 2) @ directions)
        parts.append(torch.cat(products, dim=1))
    return torch.cat(parts).reshape(h.shape)
