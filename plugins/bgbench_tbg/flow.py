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

Trace = Literal["exact", "hutchinson"]
TRACES: tuple[Trace, ...] = get_args(Trace)
JACOBIAN_ELEMENTS = 1 << 20
"""Derivatives of states that one pass of the exact divergence may hold in memory."""
CACHED_ELEMENTS = 1 << 19
"""Elements of one tensor over pairs that an evaluation of the field may hold, to stay in the caches."""

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
        size = max(1, CACHED_ELEMENTS // (n_atoms * n_atoms * field.config.channels)) if single else len(x)

        def velocity(t: Tensor, y: Tensor) -> Tensor:
            return torch.cat([field(part, t, peptides) for part in y.split(size)])

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
        _, *points = solver.path(field, x[rows], peptides, torch.cat([start, along, last]))
        if not end_points:
            end_points.append(points.pop())
        return torch.stack(points[::-1] if backward else points)

    def evaluate(panels: Sequence[PanelNodes]) -> list[Tensor]:
        rows = torch.cat([panel.rows for panel in panels]).unique()
        points = iter(positions(rows, torch.cat([panel.times for panel in panels])))
        values = []
        for panel in panels:
            here = torch.searchsorted(rows, panel.rows)
            of_times = [divergence(next(points)[here], float(t), panel.rows) for t in panel.times]
            values.append(torch.stack(of_times))
        return values

    integral = integrate(evaluate, len(x), math.inf if solver.steps else solver.nats)
    return end_points[0], integral


def exact_divergence(field: Field, peptides: EncodedPeptides) -> Divergence:
    """The whole trace, a part of the batch at a time; recomputed, not stored, for gradients."""
    n_atoms, channels = peptides.mask.shape[1], field.config.channels
    size = max(1, JACOBIAN_ELEMENTS // (3 * n_atoms * n_atoms * channels))

    def of_part(y: Tensor, t: Tensor) -> Tensor:
        return velocity_and_divergence(field, y, t, peptides)[1]

    def divergence(x: Tensor, t: float, _: Tensor | slice = ALL_ROWS) -> Tensor:
        time = x.new_tensor(t)
        if torch.is_grad_enabled() and x.requires_grad:
            return checkpoint(of_part, x, time, use_reentrant=False)
        return torch.cat([of_part(y, time) for y in x.split(size)])

    return divergence


def hutchinson_divergence(field: Field, peptides: EncodedPeptides, noise: Tensor) -> Divergence:
    """ε·(∂v/∂x)ε for `noise` ε of ±1 `(n, atoms, 3)`: unbiased, but e to its power is no density."""

    def divergence(x: Tensor, t: float, rows: Tensor | slice = ALL_ROWS) -> Tensor:
        needs_gradient = torch.is_grad_enabled() and x.requires_grad
        with torch.enable_grad():
            y = x if needs_gradient else x.detach().requires_grad_()
            projection = (noise[rows] * field(y, x.new_tensor(t), peptides)).sum()
            (gradient,) = torch.autograd.grad(projection, y, create_graph=needs_gradient)
        return (noise[rows] * gradient).sum((1, 2))

    return divergence


def log_prior(z: Tensor, beta: float) -> Tensor:
    """log N(z; 0, I/β) `(n,)` of `z (n, atoms, 3)` without mean: over 3 (atoms − 1) dimensions."""
    dimensions = 3 * (z.shape[1] - 1)
    return -0.5 * beta * z.square().sum((1, 2)) + 0.5 * dimensions * math.log(beta / (2 * math.pi))
