"""The continuous flow: noise → conformer along the vector field, and the change of density on the way.

A path solves dx/dt = v(x, t) from noise at t = 0 to a conformer at t = 1, and (arXiv 2406.14426)

    log q(x) = log N(z; 0, I/β) − ∫₀¹ ∇·v(x_t, t) dt.

The path is cheap beside the divergence, so that both are computed apart: first the path by an adaptive
Runge–Kutta rule, then the integral of ∇·v by quadrature along it. Positions are in units of the field's
`scale` and have no mean; the density is of 3 (atoms − 1) dimensions.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

import bgbench
from bgbench_tbg.divergence import velocity_and_divergence
from bgbench_tbg.network import EncodedPeptides, Field
from bgbench_tbg.quadrature import PanelNodes, integrate
from bgbench_training.memory import free_bytes, in_parts, samples_that_fit

Trace = Literal["exact", "hutchinson"]
TRACES: tuple[Trace, ...] = get_args(Trace)
JACOBIAN_ELEMENTS = 1 << 20
"""Derivatives of states that one pass of the exact divergence may hold on a CPU, to stay near its caches."""
CACHED_ELEMENTS = 1 << 19
"""Elements of one tensor over pairs that an evaluation of the field may hold on a CPU, for its caches."""
PAIR_TENSORS, JACOBIAN_TENSORS = 16, 12
"""Tensors over pairs that a layer makes, and Jacobians that a divergence has at a time, about: what a GPU's
memory is shared out among."""

ALL_ROWS = slice(None)

Divergence = Callable[[Tensor, float, Tensor | slice], Tensor]
"""∇·v `(k,)` at `x (k, atoms, 3)` and time t, x being the given rows of a batch."""


@dataclass(frozen=True)
class Solver:
    """dopri5 of torchdiffeq for the path, and the accuracy of the integral along it.

    Attributes:
        tolerance: Of the path, absolute and relative, between 0 and 1. The published one is 1e-4, at which
            paths do not return; 3e-7 is the first that does, there and back within 0.01 nats of log q and
            2e-3 of x in units of `scale`, for `tbg-mini` on AL and HV. It costs little.
        nats: How far two quadrature rules of different order may differ on a panel. The error is far
            smaller; `benchmarks/speed/test_tbg.py` prints it (`benchmarks/results/speed-tbg.md`).
        steps: If positive, that many steps of the classical Runge–Kutta rule instead, and no panel halved.

    Raises:
        BgbenchError: for a tolerance that is not between 0 and 1.
    """

    tolerance: float = 3e-7
    nats: float = 0.3
    steps: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.tolerance < 1:
            raise bgbench.BgbenchError(f"tolerance must lie between 0 and 1, got {self.tolerance:g}")

    def path(self, field: Field, x: Tensor, peptides: EncodedPeptides, times: Tensor) -> Tensor:
        """`x (n, atoms, 3)` at `times[0]`, carried along v: `(times, n, atoms, 3)`."""
        # Imported here: it takes half as long as torch itself, and every process imports this plugin.
        from torchdiffeq import odeint

        n_atoms, single = x.shape[1], len(peptides.mask) == 1
        elements = n_atoms * n_atoms * field.config.channels
        size = samples_at_once(x, elements, CACHED_ELEMENTS, PAIR_TENSORS) if single else len(x)

        def velocity(t: Tensor, y: Tensor) -> Tensor:
            if not single:
                return field(y, t, peptides)
            if y.device.type != "cpu" and torch.is_grad_enabled() and y.requires_grad:
                # A path has hundreds of evaluations: a GPU has no room for what all of them made.
                return checkpoint(field, y, t, peptides, use_reentrant=False, preserve_rng_state=False)
            return torch.cat(in_parts(lambda part: field(y[part], t, peptides), len(y), size))

        times = times.to(x)
        if self.steps:
            return odeint(velocity, x, times, method="rk4", options={"step_size": 1 / self.steps})
        return odeint(velocity, x, times, method="dopri5", rtol=self.tolerance, atol=self.tolerance)


def integrate_flow(
    field: Field,
    x: Tensor,
    peptides: EncodedPeptides,
    solver: Solver,
    divergence: Divergence,
    *,
    backward: bool = False,
) -> tuple[Tensor, Tensor]:
    """Carry samples of one peptide along the flow.

    Args:
        field: The vector field.
        x: Noise `(n, atoms, 3)`, or conformers with `backward`.
        peptides: The one peptide.
        solver: Of path and integral.
        divergence: `exact_divergence` or `hutchinson_divergence`; called only where the integral needs it,
            and only for the samples that do.
        backward: From conformers to noise.

    Returns:
        Conformers at t = 1, or noise at t = 0 with `backward`, `(n, atoms, 3)`; and ∫₀¹ ∇·v dt `(n,)`.
    """
    end_points: list[Tensor] = []

    def positions(rows: Tensor, times: Tensor) -> Tensor:
        """Where `rows` are at rising `times`; the first call also notes where they end."""
        along = times.flip(0) if backward else times
        last = times.new_full((0 if end_points else 1,), 0.0 if backward else 1.0)
        start = times.new_full((1,), float(backward))
        from_here = x if len(rows) == len(x) else x[rows]
        _, *points = solver.path(field, from_here, peptides, torch.cat([start, along, last]))
        if not end_points:
            end_points.append(points.pop())
        return torch.stack(points[::-1] if backward else points)

    def evaluate(panels: Sequence[PanelNodes]) -> list[Tensor]:
        rows = torch.cat([panel.rows for panel in panels]).unique()
        points = iter(positions(rows, torch.cat([panel.times for panel in panels])))
        values = []
        for panel in panels:
            # Rows rise: as many of them are the same ones. Others go to the device once, not for each time.
            same = len(panel.rows) == len(rows)
            here = ALL_ROWS if same else torch.searchsorted(rows, panel.rows).to(x.device)
            of_times = [divergence(next(points)[here], float(t), panel.rows) for t in panel.times]
            values.append(torch.stack(of_times))
        return values

    integral = integrate(evaluate, len(x), math.inf if solver.steps else solver.nats)
    return end_points[0], integral


def exact_divergence(field: Field, peptides: EncodedPeptides) -> Divergence:
    """The whole trace, a part of the batch at a time; recomputed, not stored, for gradients."""
    n_atoms, channels = peptides.mask.shape[1], field.config.channels
    elements = 3 * n_atoms * n_atoms * channels

    def of_part(y: Tensor, t: Tensor) -> Tensor:
        return velocity_and_divergence(field, y, t, peptides)[1]

    def divergence(x: Tensor, t: float, _: Tensor | slice = ALL_ROWS) -> Tensor:
        # Filled where x lies: a number from the CPU would be waited for.
        time = x.new_full((), t)
        if torch.is_grad_enabled() and x.requires_grad:
            return checkpoint(of_part, x, time, use_reentrant=False, preserve_rng_state=False)
        size = samples_at_once(x, elements, JACOBIAN_ELEMENTS, JACOBIAN_TENSORS)
        return torch.cat(in_parts(lambda part: of_part(x[part], time), len(x), size))

    return divergence


def hutchinson_divergence(field: Field, peptides: EncodedPeptides, noise: Tensor) -> Divergence:
    """ε·(∂v/∂x)ε for `noise` ε of ±1 `(n, atoms, 3)`: unbiased, but e to its power is no density."""

    def divergence(x: Tensor, t: float, rows: Tensor | slice = ALL_ROWS) -> Tensor:
        needs_gradient = torch.is_grad_enabled() and x.requires_grad
        with torch.enable_grad():
            y = x if needs_gradient else x.detach().requires_grad_()
            projection = (noise[rows] * field(y, x.new_full((), t), peptides)).sum()
            (gradient,) = torch.autograd.grad(projection, y, create_graph=needs_gradient)
        return (noise[rows] * gradient).sum((1, 2))

    return divergence


def samples_at_once(x: Tensor, elements: int, cached: int, tensors: int) -> int:
    """How many of the samples x to compute at once.

    Args:
        x: whose device and dtype count.
        elements: of the largest tensor, a sample.
        cached: elements that it should have on a CPU.
        tensors: of that size that are in memory at a time.
    """
    if x.device.type == "cpu":
        return max(1, cached // elements)
    return samples_that_fit(free_bytes(x.device), tensors * elements * x.element_size(), len(x))


def gradient_bytes(field: Field, n_atoms: int) -> int:
    """Bytes that a sample's gradient of log q needs on a GPU: those of one evaluation and one divergence.

    Both are computed again where the gradient needs them.
    """
    elements = n_atoms * n_atoms * field.config.channels * len(field.layers)
    return 4 * elements * (PAIR_TENSORS + 3 * JACOBIAN_TENSORS)


def log_prior(z: Tensor, beta: float) -> Tensor:
    """log N(z; 0, I/β) `(n,)` of `z (n, atoms, 3)` without mean: over 3 (atoms − 1) dimensions."""
    dimensions = 3 * (z.shape[1] - 1)
    return -0.5 * beta * z.square().sum((1, 2)) + 0.5 * dimensions * math.log(beta / (2 * math.pi))
