"""Is a sampler's `log_q` the density of what it draws? Checks that need nothing but its public methods.

Round trip: `log_prob` of a draw is the `log_q` it came with. Jacobian: the log-determinant the sampler
claims against the exact one. Normalisation: E_q[p/q] = 1 for a known density p, on a fragment of a few
atoms, where the mean converges.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor

from bgbench.core.abstract import (
    AbstractDensitySampler,
    AbstractEnergy,
    AbstractSampler,
    CentreOfMass,
    Conventions,
    Invertible,
    Task,
    refuse_unsupported,
)
from bgbench.core.errors import BgbenchError, Unsupported
from bgbench.core.types import System
from bgbench.energies.meter import MeteredEnergy

DRAWS = 32
FRAGMENT_DRAWS = 8192
FRAGMENT_ATOMS = 2
CENTRES, NEIGHBOURS = 64, 256
ERRORS = 5.0
"""Standard errors that E_q[p/q] may lie from 1."""

ROUND_TRIP = 1e-3
"""Nats an atom that float32 may cost between drawing and evaluating."""


@dataclass(frozen=True)
class Check:
    """One finding: `value` must not pass `limit`; `note` says what was measured."""

    name: str
    value: float
    limit: float
    note: str

    @property
    def passed(self) -> bool:
        """False for NaN too."""
        return self.value <= self.limit


INEXACT = Check("exact", 1.0, 0.0, "log q is an estimate, not the density of what is drawn")
"""The finding on a sampler that says so itself; there is nothing more to check."""


def audit(sampler: AbstractDensitySampler, system: System, seed: int = 0) -> list[Check]:
    """Every check on `system`; nothing is charged to anybody's budget."""
    if not sampler.exact:
        return [INEXACT]
    return [
        *quick_audit(sampler, system, seed),
        *jacobian(sampler, _task(system, seed)),
    ]


def quick_audit(sampler: AbstractDensitySampler, system: System, seed: int = 0) -> list[Check]:
    """The checks cheap enough for every cell: round trip and normalisation."""
    if not sampler.exact:
        return [INEXACT]
    checks = []
    densities_of_centre: tuple[CentreOfMass, ...] = ("gaussian", "chi")
    for com in densities_of_centre if sampler.measure == "shape" else densities_of_centre[:1]:
        conventions = Conventions(com)
        checks.append(round_trip(sampler, _task(system, seed, conventions)))
    part = fragment(system)
    try:
        refuse_unsupported(sampler, part)
    except Unsupported:
        return checks
    return [*checks, normalisation(sampler, _task(part, seed))]


def audited(sampler: AbstractSampler, system: System, seed: int = 0) -> dict[str, Any]:
    """The quick audit as a record keeps it; {} for samplers without a density.

    An audit that cannot be done leaves the density not verified and says why; it never ends a cell.
    """
    if not isinstance(sampler, AbstractDensitySampler):
        return {}
    try:
        return {"density": summary(quick_audit(sampler, system, seed))}
    except Exception as error:
        return {"density": {"verified": False, "error": f"{type(error).__name__}: {error}"}}


def summary(checks: Sequence[Check]) -> dict[str, Any]:
    """For a record: verified or not, and the findings."""
    return {
        "verified": all(check.passed for check in checks),
        "checks": {check.name: asdict(check) for check in checks},
    }


def round_trip(sampler: AbstractDensitySampler, task: Task) -> Check:
    """Largest |log_prob(x) − log_q| of draws x, nats an atom."""
    drawn = sampler.draw(task, DRAWS)
    with torch.no_grad():
        again = sampler.log_prob(task, drawn.x).cpu()
    gap = math.nan if drawn.log_q is None else float((again - drawn.log_q).abs().max())
    name = f"round trip, {task.conventions.com}"
    return Check(
        name, gap / task.system.n_atoms, ROUND_TRIP, f"{DRAWS} draws of {task.system.name}, nats an atom"
    )


def jacobian(sampler: AbstractDensitySampler, task: Task) -> list[Check]:
    """|claimed − exact| log-determinant of data → noise at one draw, if the sampler is Invertible."""
    if not isinstance(sampler, Invertible):
        return []
    latent, x = sampler.latent, sampler.draw(task, 1).x
    _, claimed = latent(task, x)

    def flat(points: Tensor) -> Tensor:
        return latent(task, points.reshape(x.shape))[0].flatten()

    matrix: Any = torch.autograd.functional.jacobian(flat, x.flatten())
    exact = float(torch.linalg.slogdet(matrix.double()).logabsdet)
    gap = abs(exact - float(claimed.detach().double().sum()))
    note = f"one draw of {task.system.name}, {x.numel()} × {x.numel()}, nats an atom"
    return [Check("Jacobian", gap / task.system.n_atoms, ROUND_TRIP, note)]


def normalisation(sampler: AbstractDensitySampler, task: Task) -> Check:
    """|E_q[p/q] − 1| in standard errors, over all coordinates with the centre of mass left in.

    p is a mixture of Gaussians around some draws, each shaped by the draws nearest to it, so that p/q stays
    bounded whatever the shape of q.
    """
    task = replace(task, conventions=Conventions("none"))
    around, points = (_drawn(sampler, task) for _ in range(2))
    if sampler.measure == "internal":
        log_p = _pair_density(around[0], points[0])
    else:
        log_p = _local_mixture(around[0].flatten(1)).log_prob(points[0].flatten(1))
    w = torch.exp(log_p - points[1])
    error = max(float(w.std()) / math.sqrt(len(w)), 1e-12)
    note = f"E_q[p/q] = {float(w.mean()):.4f} ± {error:.4f} over {len(w)} draws of {task.system.name}"
    return Check("normalisation", abs(float(w.mean()) - 1) / error, ERRORS, note)


def _local_mixture(x: Tensor) -> torch.distributions.Distribution:
    """Gaussians around `CENTRES` of the points `x (n, d)`, with half the covariance of their neighbours."""
    centres = x[:CENTRES]
    near = torch.cdist(centres, x).topk(NEIGHBOURS, largest=False).indices
    gaps = x[near] - x[near].mean(1, keepdim=True)
    covariance = 0.5 * gaps.transpose(1, 2) @ gaps / NEIGHBOURS
    kernels = torch.distributions.MultivariateNormal(centres, covariance)
    equal = torch.distributions.Categorical(torch.ones(CENTRES, dtype=x.dtype))
    return torch.distributions.MixtureSameFamily(equal, kernels)


def _pair_density(around: Tensor, x: Tensor) -> Tensor:
    """log p `(n,)` of pairs of atoms `x (n, 2, 3)`: centre and distance Gaussian as `around`, any direction.

    A shell as thin as a bond vibrates is no place for Gaussians in space.
    """
    pair = x[:, 1] - x[:, 0]
    r, seen = pair.norm(dim=-1), (around[:, 1] - around[:, 0]).norm(dim=-1)
    centre = around.mean(1)
    narrower = 0.8
    log_c = torch.distributions.Normal(centre.mean(0), narrower * centre.std(0)).log_prob(x.mean(1)).sum(-1)
    log_r = torch.distributions.Normal(seen.mean(), narrower * seen.std()).log_prob(r)
    return log_c + log_r - torch.log(4 * math.pi * r**2)


def fragment(system: System) -> System:
    """The first two atoms of a peptide as a system of its own; an analytic system is small already."""
    if not system.atoms:
        return system
    n = FRAGMENT_ATOMS
    bonds = tuple(pair for pair in system.bonds if max(pair) < n)
    return replace(
        system,
        name=f"{n} atoms of {system.name}",
        positions=system.positions[:n],
        atoms=system.atoms[:n],
        bonds=bonds,
    )


class _NoEnergy(AbstractEnergy):
    """A density is a sampler's own: it may not ask for energies."""

    def _energy(self, x: Tensor) -> Tensor:
        del x
        raise BgbenchError("an audited sampler asked for an energy; draw() and log_prob() must not")

    def _energy_and_force(self, x: Tensor) -> tuple[Tensor, Tensor]:
        del x
        raise BgbenchError("an audited sampler asked for a force; draw() and log_prob() must not")


def _drawn(sampler: AbstractDensitySampler, task: Task) -> tuple[Tensor, Tensor]:
    drawn = sampler.sample(task, FRAGMENT_DRAWS)
    if drawn.log_q is None:
        raise ValueError(f"{type(sampler).__name__} returned no log_q")
    return drawn.x.double(), drawn.log_q.double()


def _task(system: System, seed: int, conventions: Conventions | None = None) -> Task:
    """A task of the audit's own, charged to nobody."""
    oracle = MeteredEnergy(_NoEnergy(system), 1)
    generator = torch.Generator().manual_seed(seed)
    return Task(system, oracle, generator, DRAWS, conventions or Conventions())
