"""The exact divergence of the vector field, without a backward pass for each coordinate.

∇·v is the trace of ∂v/∂x. The derivatives of states h and positions x along all D = 3n coordinates are
carried forward through the layers (forward-mode differentiation in closed form); the last layer needs only
its diagonal. What makes it cheap:

- A message m_ij depends on states through its input e_ij alone, so ∂m_ij/∂e_ij is one matrix a pair, the
  same for all directions (`jacobian_products`).
- A step along a pair is a number times d_ij: its derivative in e_ij is one vector a pair, found backward.
- Before the first layer states do not depend on x; after it h_j depends on x_k through ‖x_j − x_k‖² alone, so
  that the second layer carries one direction a pair (the compact layout).
- The trace needs the step of each atom along its own coordinates only, for which the layer before the last
  needs one direction a pair, too (the projected layout).

No tensor over pairs, directions and channels at once is made. The mean that the field removes does not
matter: steps do not change when all atoms move together, so that what is subtracted has trace zero.

The field: arXiv 2406.14426. Shapes: b samples, n atoms; positions in units of the field's `scale`.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from bgbench_tbg.jacobian_products import (
    MessageJacobian,
    apply_attention_term,
    apply_to_channels,
    apply_weight_term,
    compact_jacobian,
    expand_compact,
    jacobian_of_differences,
    project_on_pairs,
    silu_derivative,
    squared_distance_gradient,
    sum_over_differences,
    sum_over_neighbours,
    summed_message_jacobian,
)
from bgbench_tbg.network import (
    EPSILON,
    EncodedPeptides,
    EquivariantLayer,
    Field,
    PairActivations,
    PairGeometry,
    distance_damping,
    remove_mean,
)


def velocity_and_divergence(
    field: Field, x: Tensor, t: Tensor, peptides: EncodedPeptides
) -> tuple[Tensor, Tensor]:
    """v(x, t) and its divergence; both are differentiable.

    Args:
        field: The vector field.
        x: `(b, atoms, 3)`, in units of the field's `scale`.
        t: One time or `(b,)`.
        peptides: Whose number divides b.

    Returns:
        v `(b, atoms, 3)`, equal to `field(x, t, peptides)`, and ∇·v `(b,)`.
    """
    mask = peptides.mask.repeat_interleave(len(x) // len(peptides.mask), 0)
    h, moved = field.embed(t, peptides, len(x)), x
    first = PairGeometry.of(x, mask)
    jacobian, previous, trace = ForwardJacobian.identity(x), None, x.new_zeros(len(x))
    for layer in field.layers:
        geometry = PairGeometry.of(moved, mask)
        pairs = layer.pair_activations(h, geometry, first.squared_distance)
        derivatives = LayerDerivatives.of(layer, h, pairs, geometry, first)
        is_last = layer.node_in is None
        if previous is not None:
            jacobian = jacobian.after(previous, d_last=geometry.d if is_last else None)
        if is_last:
            trace = jacobian.trace_of_last_step(derivatives)
        previous = derivatives
        h, moved = layer.update_states(h, pairs), moved + (geometry.d * pairs.step[..., None]).sum(2)
    return remove_mean(moved - x, mask), trace


@dataclass(frozen=True)
class LayerDerivatives:
    """One layer at one point, and the derivatives of its messages and steps with states held fixed.

    Attributes:
        layer: The layer.
        h: The states before it, `(b, n, channels)`.
        pairs: Its activations.
        messages: The Jacobian of messages in their inputs.
        d: x_i − x_j of this layer's positions, `(b, n, n, 3)`.
        d_first: The same of the positions before the first layer.
        message_by_r: `(b, n, n, channels)`, ∂m/∂‖d‖².
        message_by_r_first: `(b, n, n, channels)`, ∂m/∂‖d_first‖².
        step_by_x: `(b, n, n, 3, 3)`, of the step d · length in x_i − x_j of this layer.
        step_by_x_first: `(b, n, n, 3, 3)`, the same in x_i − x_j before the first layer.
        step_by_e: `(b, n, n, channels)`; times d it is the derivative of the step in e.
    """

    layer: EquivariantLayer
    h: Tensor
    pairs: PairActivations
    messages: MessageJacobian
    d: Tensor
    d_first: Tensor
    message_by_r: Tensor
    message_by_r_first: Tensor
    step_by_x: Tensor
    step_by_x_first: Tensor
    step_by_e: Tensor

    @classmethod
    def of(
        cls,
        layer: EquivariantLayer,
        h: Tensor,
        pairs: PairActivations,
        geometry: PairGeometry,
        first: PairGeometry,
    ) -> "LayerDerivatives":
        """At every pair; r = ‖d‖² has the derivative 2 d."""
        messages = MessageJacobian.of(layer, pairs)
        by_r = layer.edge_input_blocks[2]
        damping = distance_damping(geometry.squared_distance)
        step_by_e = messages.step_length * damping[..., None]
        step_by_r = step_by_e @ by_r
        damping_by_r = (
            -pairs.step_length * damping.square() / (2 * torch.sqrt(geometry.squared_distance + EPSILON))
        )
        outer = geometry.d[..., None] * (2 * geometry.d[..., None, :])
        identity = pairs.step[..., None, None] * torch.eye(3, dtype=outer.dtype, device=outer.device)
        return cls(
            layer=layer,
            h=h,
            pairs=pairs,
            messages=messages,
            d=geometry.d,
            d_first=first.d,
            message_by_r=messages.apply_to_direction(layer, by_r[:, 0]),
            message_by_r_first=messages.apply_to_direction(layer, by_r[:, 1]),
            step_by_x=identity + (damping_by_r + step_by_r[..., 0])[..., None, None] * outer,
            step_by_x_first=step_by_r[..., 1, None, None]
            * geometry.d[..., None]
            * (2 * first.d[..., None, :]),
            step_by_e=step_by_e,
        )

    def state_update(self) -> Callable[[Tensor, Tensor | None], Tensor]:
        """The derivative of what the layer adds to states, as a function of those of its inputs.

        Its arguments are the derivatives of Σ_j m_ij and of h `(b, n, channels, D)`, the latter None where
        h does not depend on x.
        """
        layer = self.layer
        if layer.node_in is None or layer.node_out is None:
            raise ValueError("the last layer has no states to differentiate")
        by_h, by_messages = layer.node_in.weight.chunk(2, dim=1)
        node_input = layer.node_in(torch.cat([self.h, self.pairs.message.sum(2)], dim=-1))
        slope = silu_derivative(node_input)[..., None]
        weight_out = layer.node_out.weight

        def derivative(messages: Tensor, h: Tensor | None) -> Tensor:
            inner = apply_to_channels(by_messages, messages)
            inner = inner if h is None else inner + apply_to_channels(by_h, h)
            return apply_to_channels(weight_out, slope * inner)

        return derivative


@dataclass(frozen=True)
class ForwardJacobian:
    """Derivatives along the D = 3n coordinates before the first layer.

    Attributes:
        x: Of positions, `(b, n, 3, D)`.
        h: Of states, `(b, n, channels, D)`; None while they do not depend on x; before the last layer in the
            projected layout, `(b, n, channels, n + 3)`.
        compact: After the first layer, `h` in the compact layout as well.
    """

    x: Tensor
    h: Tensor | None = None
    compact: Tensor | None = None

    @classmethod
    def identity(cls, x: Tensor) -> "ForwardJacobian":
        """Before the first layer, at `x (b, n, 3)`."""
        b, n, _ = x.shape
        identity = torch.eye(3 * n, dtype=x.dtype, device=x.device).reshape(1, n, 3, 3 * n)
        return cls(identity.expand(b, -1, -1, -1))

    def after(self, p: LayerDerivatives, d_last: Tensor | None) -> "ForwardJacobian":
        """After the layer of `p`; states in the projected layout if `d_last (b, n, n, 3)` is given."""
        state_update = p.state_update()
        if self.h is None:
            compact = state_update(compact_jacobian(p.message_by_r + p.message_by_r_first, p.d), None)
            full = expand_compact(compact, p.d)
            h = full if d_last is None else project_on_pairs(full, d_last)
            return ForwardJacobian(
                self.x + jacobian_of_differences(p.step_by_x + p.step_by_x_first), h, compact
            )
        by_h_i, by_h_j, _ = p.layer.edge_input_blocks
        e_by_i, e_by_j = apply_to_channels(by_h_i, self.h), apply_to_channels(by_h_j, self.h)
        messages = jacobian_of_differences(squared_distance_gradient(p.message_by_r_first, p.d_first))
        messages = messages + sum_over_differences(squared_distance_gradient(p.message_by_r, p.d), self.x)
        messages = messages + summed_message_jacobian(p.layer, p.messages) @ e_by_i
        messages = messages + apply_attention_term(p.messages, e_by_j)
        compact_e = None if self.compact is None else apply_to_channels(by_h_j, self.compact)
        step_by_e = p.d[..., None] * p.step_by_e[..., None, :]
        moved = jacobian_of_differences(p.step_by_x_first) + sum_over_differences(p.step_by_x, self.x)
        moved = moved + step_by_e.sum(2) @ e_by_i + sum_over_neighbours(step_by_e, e_by_j)
        before = self.h
        if d_last is not None:
            messages, before = project_on_pairs(messages, d_last), project_on_pairs(before, d_last)
        messages = messages + apply_weight_term(p.layer, p.messages, e_by_j, compact_e, p.d_first, d_last)
        return ForwardJacobian(self.x + moved, before + state_update(messages, before))

    def trace_of_last_step(self, p: LayerDerivatives) -> Tensor:
        """∇·(x after the last layer − x) `(b,)`: the step of each atom along its own coordinates only."""
        b, n = self.x.shape[:2]
        x = self.x.reshape(b, n, 3, n, 3)
        own_x = x.diagonal(dim1=1, dim2=3).permute(0, 3, 1, 2)
        differences = own_x[:, :, None] - x.permute(0, 3, 1, 2, 4)
        trace = own_x.diagonal(dim1=2, dim2=3).sum((1, 2)) - 3 * n
        trace = trace + p.step_by_x_first.diagonal(dim1=3, dim2=4).sum((1, 2, 3))
        trace = trace + (p.step_by_x.transpose(3, 4) * differences).sum((1, 2, 3, 4))
        if self.h is None:
            return trace
        by_h_i, by_h_j, _ = p.layer.edge_input_blocks
        along_pairs, own_h = self.h.split((n, 3), dim=3)
        by_own_h = p.d.transpose(2, 3) @ (p.step_by_e @ by_h_i)
        trace = trace + (by_own_h * own_h.transpose(2, 3)).sum((1, 2, 3))
        return trace + ((p.step_by_e @ by_h_j).permute(0, 2, 3, 1) * along_pairs).sum((1, 2, 3))
