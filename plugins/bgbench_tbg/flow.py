"""Noise → conformer → noise along the field, and the change of density on the way (arXiv 2406.14426)."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint
from torchdiffeq import odeint

import bgbench
from bgbench_tbg.divergence import velocity_and_divergence
from bgbench_tbg.network import Field, Molecules
from bgbench_tbg.quadrature import Asked, integral

Trace = Literal["exact", "hutchinson"]
TRACES: tuple[Trace, ...] = get_args(Trace)
PART = 1 << 20
"""Derivatives of states that one pass of the exact trace may hold."""
CACHED = 1 << 19
"""Numbers of one kind at pairs that an evaluation of the field may hold: a processor's caches keep them."""

ALL = slice(None)

Divergence = Callable[[Tensor, float, Tensor | slice], Tensor]
"""∇·v `(k,)` at `x (k, atoms, 3)`, time t and `rows` of a batch."""


@dataclass(frozen=True)
class Solver:
    """dopri5 of torchdiffeq at `tolerance`, absolute and relative; `nats` as in `quadrature.integral`.

    `nats` is how far two rules of different order may lie apart, not the error: that, and what other
    tolerances cost, is printed by `benchmarks/speed/test_tbg.py` (kept in `benchmarks/results/speed-tbg.md`).
    The published tolerance is 1e-4, at which paths do not come back; 3e-7 is the first that keeps the law,
    there and back within 0.01 nats in log q (and 2e-3 in x, in units of `scale`) for `tbg-mini` on AL and HV.

    It costs little, for the path is cheap beside the divergence. `steps` > 0: that many steps of the
    classical Runge–Kutta rule instead, and no halving of panels.
    """

    tolerance: float = 3e-7
    nats: float = 0.3
    steps: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.tolerance < 1:
            raise bgbench.BgbenchError(f"tolerance must lie between 0 and 1, got {self.tolerance:g}")

    def path(self, field: Field, x: Tensor, m: Molecules, times: Tensor) -> Tensor:
        """`x (n, atoms, 3)` at `times[0]`, carried along v: `(times, n, atoms, 3)`."""

        n = x.shape[1]
        size = max(1, CACHED // (n * n * field.config.channels)) if len(m.mask) == 1 else len(x)

        def velocity(t: Tensor, y: Tensor) -> Tensor:
            return torch.cat([field(part, t, m) for part in y.split(size)])

        when = times.to(x)
        if self.steps:
            return odeint(velocity, x, when, method="rk4", options={"step_size": 1 / self.steps})
        return odeint(velocity, x, when, method="dopri5", rtol=self.tolerance, atol=self.tolerance)


def flown(
    field: Field, x: Tensor, m: Molecules, solver: Solver, divergence: Divergence, *, back: bool = False
) -> tuple[Tensor, Tensor]:
    """Conformers at t = 1 of noise x, or noise of conformers x with `back`, of one molecule, and
    ∫ ∇·v dt over [0, 1] `(n,)` along their paths.

    The path costs one evaluation of the field a stage; the divergence, dearer by far, is asked for only
    where its integral needs it, and only of the samples that do.
    """
    ends: list[Tensor] = []

    def path(rows: Tensor, times: Tensor) -> Tensor:
        """Where `rows` are at rising `times`; the first time, where they end, too."""
        way = times.flip(0) if back else times
        last = times.new_full((0 if ends else 1,), 0.0 if back else 1.0)
        _, *found = solver.path(field, x[rows], m, torch.cat([times.new_full((1,), float(back)), way, last]))
        if not ends:
            ends.append(found.pop())
        return torch.stack(found[::-1] if back else found)

    def values(asked: Asked) -> list[Tensor]:
        rows = torch.cat([r for _, r in asked]).unique()
        stops = iter(path(rows, torch.cat([t for t, _ in asked])))
        found = []
        for times, r in asked:
            here = torch.searchsorted(rows, r)
            found.append(torch.stack([divergence(next(stops)[here], float(t), r) for t in times]))
        return found

    grown = integral(values, len(x), math.inf if solver.steps else solver.nats)
    return ends[0], grown


def exact(field: Field, m: Molecules) -> Divergence:
    """The whole trace, in parts of the batch; recomputed, not remembered, for gradients."""
    atoms, channels = m.mask.shape[1], field.config.channels
    size = max(1, PART // (3 * atoms * atoms * channels))

    def part(y: Tensor, t: Tensor) -> Tensor:
        return velocity_and_divergence(field, y, t, m)[1]

    def divergence(x: Tensor, t: float, _: Tensor | slice = ALL) -> Tensor:
        when = x.new_tensor(t)
        if torch.is_grad_enabled() and x.requires_grad:
            return checkpoint(part, x, when, use_reentrant=False)
        return torch.cat([part(y, when) for y in x.split(size)])

    return divergence


def hutchinson(field: Field, m: Molecules, noise: Tensor) -> Divergence:
    """ε·(∂v/∂x)ε for `noise` ε of ±1 `(n, atoms, 3)`: right on average, but not the density."""

    def divergence(x: Tensor, t: float, rows: Tensor | slice = ALL) -> Tensor:
        remember = torch.is_grad_enabled() and x.requires_grad
        with torch.enable_grad():
            y = x if remember else x.detach().requires_grad_()
            along = (noise[rows] * field(y, x.new_tensor(t), m)).sum()
            (change,) = torch.autograd.grad(along, y, create_graph=remember)
        return (noise[rows] * change).sum((1, 2))

    return divergence


def log_prior(z: Tensor, beta: float) -> Tensor:
    """log N(z; 0, I/β) `(n,)` of `z (n, atoms, 3)` without mean: over 3 (atoms − 1) dimensions."""
    size = 3 * (z.shape[1] - 1)
    return -0.5 * beta * z.square().sum((1, 2)) + 0.5 * size * math.log(beta / (2 * math.pi))
