"""Statistical tests that a sampler's draws follow the density that it claims for them, on the whole system.

They need draws and `log_prob` and, where the sampler is a map of noise, `latent`. Each compares an average
over draws with what it is for the claimed density q, in standard errors:

- *noise*: draws mapped back must be standard normal (or uniform) numbers. Their sum of squares is χ²
  distributed and the numbers themselves are normal, both by Kolmogorov and Smirnov;
- *Stein's identity* E_q[div v + v · ∇log q] = 0 for two fields: v = ∇log q, whose identity
  E_q[‖∇log q‖² + Δ log q] = 0 sees draws that are too hot or too cold, and v = x − ⟨x⟩_atoms, which sees a
  log_q that does not depend on x (Stein 1972; as a test of samples: Liu, Lee & Jordan, arXiv 1602.03253);
- *moves*: a Metropolis step that targets q leaves q as it is, so that no observable h drifts,

      E_q[min(1, q(x')/q(x)) (h(x') − h(x))] = 0,

  x' being x with one side turned about a random bond, or with Gaussian noise where there are no bonds.

Passing shows that no difference larger than the note's number of draws can resolve was found, not that there
is none.
"""

import math
from collections.abc import Callable, Iterable

import numpy as np
import torch
from scipy import stats
from torch import Tensor

from bgbench.core.abstract import Base
from bgbench.core.types import System
from bgbench.dynamics.solute_scaling import TorsionMoves

PROBE = 1e-4
"""nm. Distance over which the gradient of log q is differenced."""

STEP = 0.5
"""Widths of the draws that a move without bonds displaces them by."""


def noise_deviation(z: Tensor, base: Base) -> float:
    """How far noise `z (n, d)` is from independent numbers of its base, in standard errors of a normal.

    Args:
        z: Draws mapped back.
        base: `normal` (standard) or `uniform` (on 0 to 1).

    Returns:
        The larger deviation of two Kolmogorov–Smirnov tests, of the numbers and of their sums of squares.
    """
    numbers = z.double().flatten(1).numpy()
    if base == "uniform":
        numbers = stats.norm.ppf(np.clip(numbers, 1e-12, 1 - 1e-12))
    if not np.isfinite(numbers).all():
        return math.nan
    squares = (numbers**2).sum(1)
    tests = (stats.kstest(numbers.ravel(), "norm"), stats.kstest(squares, "chi2", args=(numbers.shape[1],)))
    return max(_as_errors(float(test.pvalue)) for test in tests)


def stein_deviations(
    score_of: Callable[[Tensor], Tensor], x: Tensor, generator: torch.Generator
) -> dict[str, float]:
    """Stein's identity for two fields, in standard errors; see the module.

    Args:
        score_of: ∇ log q `(n, atoms, 3)` 1/nm of `(n, atoms, 3)` nm.
        x: Draws `(n, atoms, 3)` nm.
        generator: Source of the random directions along which Δ log q is estimated.
    """
    direction = torch.randint(0, 2, x.shape, generator=generator).to(x) * 2 - 1
    score = score_of(x).double()
    ahead, behind = (score_of(x + sign * PROBE * direction).double() for sign in (1, -1))
    laplacian = ((ahead - behind) * direction).sum((1, 2)) / (2 * PROBE)
    centred = x - x.mean(1, keepdim=True) if x.shape[1] > 1 else x
    divergence = 3 * (x.shape[1] - 1) if x.shape[1] > 1 else x[0].numel()
    return {
        "score": deviation_from_zero(score.square().sum((1, 2)) + laplacian),
        "dilation": deviation_from_zero((centred * score).sum((1, 2)) + divergence),
    }


def move_deviations(
    log_prob: Callable[[Tensor], Tensor], system: System, x: Tensor, generator: torch.Generator
) -> dict[str, float]:
    """How far observables drift in one Metropolis step that targets q, in standard errors.

    Args:
        log_prob: log q `(n,)` of `(n, atoms, 3)`.
        system: Its bonds say what can be turned.
        x: Draws `(n, atoms, 3)` nm.
        generator: Source of the moves.
    """
    moved = turn_at_random(system, x, generator) if system.bonds else displace(x, generator)
    before, after = (log_prob(points).double() for points in (x, moved))
    accepted = torch.exp((after - before).clamp_max(0.0))
    observables = {"log_q": (before, after)}
    for name, observe in OBSERVABLES.items():
        observables[name] = (observe(x.double()), observe(moved.double()))
    drifts = {name: accepted * (new - old) for name, (old, new) in observables.items()}
    # −inf after a move is a rejection, and 0 · (−inf) no drift.
    return {
        name: deviation_from_zero(torch.where(accepted > 0, drift, 0.0)) for name, drift in drifts.items()
    }


OBSERVABLES: dict[str, Callable[[Tensor], Tensor]] = {
    "end to end": lambda x: (x[:, -1] - x[:, 0]).norm(dim=-1) if x.shape[1] > 1 else x[:, 0].norm(dim=-1),
    "radius of gyration": lambda x: (x - x.mean(1, keepdim=True)).square().sum(2).mean(1).sqrt(),
}


def turn_at_random(system: System, x: Tensor, generator: torch.Generator) -> Tensor:
    """`x (n, atoms, 3)`, each with one side turned about a bond of its own by any angle.

    Without a bond that turns a heavy atom they are displaced.
    """
    moves = TorsionMoves.of_system(system, np.zeros((0, 4), int))
    if not len(moves.axes):
        return displace(x, generator)
    random = np.random.default_rng(int(torch.randint(2**62, (), generator=generator)))
    which = random.integers(len(moves.axes), size=len(x))
    positions = x.double().cpu().numpy()
    rotations = moves.rotation_matrices(positions, which, moves.draw_angles(which, random))
    return torch.from_numpy(moves.apply(positions, which, rotations)).to(x)


def displace(x: Tensor, generator: torch.Generator) -> Tensor:
    """`x (n, atoms, 3)` with Gaussian noise of `STEP` times the width of each coordinate."""
    noise = torch.randn(x.shape, generator=generator, dtype=x.dtype)
    return x + STEP * x.std(0, keepdim=True) * noise


def base_log_prob(z: Tensor, base: Base) -> Tensor:
    """log density `(n,)` of noise `z (n, d)`."""
    z = z.double().flatten(1)
    if base == "uniform":
        return torch.where((z >= 0) & (z <= 1), 0.0, -torch.inf).sum(1)
    return -0.5 * (z.square() + math.log(2 * math.pi)).sum(1)


def spread_of_constant(log_q: Tensor, log_det: Tensor, z: Tensor, base: Base) -> float:
    """How much log_q − log|det ∂z/∂x| − log base(z) `(n,)` varies over draws, in nats: nothing, for a map."""
    constant = log_q.double() - log_det.double() - base_log_prob(z, base)
    return float((constant - constant.median()).abs().max())


def deviation_from_zero(values: Tensor) -> float:
    """|mean| of `values (n,)` in standard errors, as a normal would have it: Student's t for few draws.

    NaN for values that are not finite; infinite for a constant other than zero.
    """
    if not bool(torch.isfinite(values).all()):
        return math.nan
    mean, error = float(values.mean()), float(values.std()) / math.sqrt(len(values))
    if error == 0.0:
        return 0.0 if mean == 0.0 else math.inf
    return _as_errors(2 * float(stats.t.sf(abs(mean) / error, len(values) - 1)))


def _as_errors(probability: float) -> float:
    """The number of standard errors that a normal exceeds with this two-sided probability."""
    return float(stats.norm.isf(max(probability, 1e-300) / 2))


def largest(deviations: Iterable[float]) -> float:
    """The largest, NaN if any is."""
    return float(np.max(list(deviations)))
