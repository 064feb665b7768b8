"""Is a sampler's `log_q` the density of what it draws? The checks need nothing but its public methods.

On the whole system:

- *round trip*: `log_prob` of a draw is the `log_q` it came with;
- *map* and *noise*, of a sampler that maps noise: log_q is log-determinant plus density of the noise, and the
  noise is what it should be;
- *moves*: a Metropolis step that targets the claimed density leaves the law of draws alone (`law_of_draws`);
- *Stein's identity*, of a sampler that is no such map, see there too;
- *Jacobian*, of a sampler that maps noise: the log-determinant against the exact one.

On a fragment of two atoms, where the mean converges: *normalisation*, E_q[p/q] = 1 for a known density p.

A cell's record has all but the Jacobian, which can cost more than the cell. A check that cannot be made does
not pass.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
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
from bgbench.core.calls import call_draw, call_latent, call_log_prob, call_sample, log_prob_in_batches
from bgbench.core.devices import CPU
from bgbench.core.errors import BgbenchError, Unsupported, kind_of, text_of
from bgbench.core.guard import contained
from bgbench.core.types import System
from bgbench.energies.meter import MeteredEnergy
from bgbench.estimators.densities import log_q_and_score
from bgbench.evaluation.law_of_draws import (
    largest,
    move_deviations,
    noise_deviation,
    spread_of_constant,
    stein_deviations,
)

DRAWS = 32
"""Draws that the round trip looks at."""

LAW_DRAWS, FEWEST_LAW_DRAWS, DRAWS_PER_LAW_DRAW = 256, 16, 100
"""Draws that the law is tested on: in a full audit, in a cell at least; draws of a cell for each of them."""

FRAGMENT_ATOMS = 2
"""Atoms of the fragment that the normalisation is checked on."""

FRAGMENT_DRAWS = 8192
"""Draws of the fragment."""

CENTRES, NEIGHBOURS = 64, 256
"""Gaussians of the known density, and the draws nearest to each that shape it."""

ERRORS = 5.0
"""Standard errors that E_q[p/q] may lie from 1."""

ROUND_TRIP = 1e-3
"""Nats per atom that float32 may cost between drawing and evaluating."""


@dataclass(frozen=True)
class Check:
    """One check of a density: it passes where `value` is no greater than `limit`.

    `note` says what was measured.
    """

    name: str
    value: float
    limit: float
    note: str

    @property
    def passed(self) -> bool:
        """Whether the check passed; a value of NaN never does."""
        return self.value <= self.limit


INEXACT = Check("exact", 1.0, 0.0, "log q is an estimate, not the density of what is drawn")
"""The one check of a sampler that says itself that its `log_q` is an estimate."""


def audit(
    sampler: AbstractDensitySampler,
    system: System,
    seed: int = 0,
    n_draws: int = LAW_DRAWS,
    device: torch.device = CPU,
) -> list[Check]:
    """Every check of the sampler's density on `system`; nothing is charged to anybody's budget.

    Args:
        sampler: with a density.
        system: whole; a fragment of it is cut here.
        seed: of the draws.
        n_draws: that the law is tested on.
        device: where the sampler is to compute.
    """
    if not sampler.exact:
        return [INEXACT]
    checks = audit_quickly(sampler, system, n_draws, seed, device)
    if isinstance(sampler, Invertible):
        checks.append(check_jacobian(sampler, _audit_task(system, seed, device)))
    return checks


def audit_quickly(
    sampler: AbstractDensitySampler,
    system: System,
    n_draws: int,
    seed: int = 0,
    device: torch.device = CPU,
) -> list[Check]:
    """The checks that are cheap enough for every cell, see the module.

    Args:
        sampler: with a density.
        system: whole; a fragment of it is cut here.
        n_draws: that the law is tested on.
        seed: of the draws.
        device: where the sampler is to compute.
    """
    if not sampler.exact:
        return [INEXACT]
    checks = []
    densities_of_centre: tuple[CentreOfMass, ...] = ("gaussian", "chi")
    for com in densities_of_centre if sampler.measure == "shape" else densities_of_centre[:1]:
        checks.append(check_round_trip(sampler, _audit_task(system, seed, device, Conventions(com))))
    task = _audit_task(system, seed, device, Conventions("none"))
    if isinstance(sampler, Invertible):
        checks += check_map(sampler, task, n_draws)
    else:
        checks.append(check_stein(sampler, task, n_draws))
    checks.append(check_moves(sampler, task, n_draws))
    fragment = cut_fragment(system)
    try:
        refuse_unsupported(sampler, fragment)
    except Unsupported as refusal:
        note = f"not made: the sampler refuses {fragment.name} ({refusal})"
        return [*checks, Check("normalisation", math.nan, ERRORS, note)]
    return [*checks, check_normalisation(sampler, _audit_task(fragment, seed, device))]


def audit_for_record(
    sampler: AbstractSampler, system: System, n_samples: int, seed: int = 0, device: torch.device = CPU
) -> dict[str, Any]:
    """The quick audit as the record's `density`; {} for samplers without a density.

    It never ends a cell: an audit that fails, or in which the sampler touches what it may not, leaves the
    density not verified and says why.

    Args:
        sampler: of the cell.
        system: of the cell.
        n_samples: draws that the cell made; the law is tested on a hundredth of them, 16 to 256.
        seed: of the audit's draws.
        device: where the sampler is to compute.
    """
    if not isinstance(sampler, AbstractDensitySampler):
        return {}
    n_draws = min(LAW_DRAWS, max(FEWEST_LAW_DRAWS, n_samples // DRAWS_PER_LAW_DRAW))
    try:
        with contained(tensors={"task.system.positions": system.positions}):
            return {"density": summarise(audit_quickly(sampler, system, n_draws, seed, device))}
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        return {"density": {"verified": False, "error": f"{kind_of(error)}: {text_of(error)}"}}


def summarise(checks: Sequence[Check]) -> dict[str, Any]:
    """`verified`, whether all `checks` passed, and the checks by name."""
    return {
        "verified": all(check.passed for check in checks),
        "checks": {check.name: asdict(check) for check in checks},
    }


def check_round_trip(sampler: AbstractDensitySampler, task: Task) -> Check:
    """The largest |log_prob(x) − log_q| of draws x, nats per atom."""
    x, log_q = call_draw(sampler, task, DRAWS)
    with torch.no_grad():
        gap = float((call_log_prob(sampler, task, x) - log_q).abs().max())
    name = f"round trip, {task.conventions.com}"
    note = f"{DRAWS} draws of {task.system.name}, nats per atom"
    return Check(name, gap / task.system.n_atoms, ROUND_TRIP, note)


def check_map(sampler: AbstractDensitySampler, task: Task, n_draws: int) -> list[Check]:
    """Whether log_q is log-determinant plus base density, and draws mapped back are the base's noise.

    Args:
        sampler: Invertible too.
        task: whose conventions leave the centre of mass in.
        n_draws: draws that are mapped back.
    """
    if not isinstance(sampler, Invertible):
        raise TypeError(f"{type(sampler).__name__} is not Invertible")
    x = call_sample(sampler, task, n_draws).x
    with torch.no_grad():
        z, log_det = call_latent(sampler, task, x)
    log_q = log_prob_in_batches(sampler, task, x)
    spread = spread_of_constant(log_q, log_det, z, sampler.base)
    note = f"{n_draws} draws of {task.system.name}"
    return [
        Check("map", spread / task.system.n_atoms, ROUND_TRIP, f"{note}, nats per atom"),
        Check("noise", noise_deviation(z, sampler.base), ERRORS, f"{note}, standard errors"),
    ]


def check_stein(sampler: AbstractDensitySampler, task: Task, n_draws: int) -> Check:
    """Stein's identity over draws, in standard errors; `task` leaves the centre of mass in."""
    x = call_sample(sampler, task, n_draws).x
    deviations = stein_deviations(lambda at: log_q_and_score(sampler, task, at)[1], x, task.generator)
    return _largest_of("Stein's identity", deviations, f"{n_draws} draws of {task.system.name}")


def check_moves(sampler: AbstractDensitySampler, task: Task, n_draws: int) -> Check:
    """Whether a Metropolis step leaves the law of draws as it is; `task` leaves the centre of mass in."""
    x = call_sample(sampler, task, n_draws).x
    log_prob = partial(log_prob_in_batches, sampler, task)
    deviations = move_deviations(log_prob, task.system, x, task.generator)
    return _largest_of("moves", deviations, f"{n_draws} draws of {task.system.name}")


def _largest_of(name: str, deviations: Mapping[str, float], note: str) -> Check:
    each = ", ".join(f"{what} {value:.1f}" for what, value in deviations.items())
    return Check(name, largest(deviations.values()), ERRORS, f"{note}, standard errors of {each}")


def check_jacobian(sampler: AbstractDensitySampler, task: Task) -> Check:
    """|claimed − exact| log-determinant of data → noise at one draw, nats per atom."""
    if not isinstance(sampler, Invertible):
        raise TypeError(f"{type(sampler).__name__} is not Invertible")
    latent, (x, _) = partial(call_latent, sampler, task), call_draw(sampler, task, 1)
    _, claimed = latent(x)

    def flat(points: Tensor) -> Tensor:
        return latent(points.reshape(x.shape))[0].flatten()

    matrix: Any = torch.autograd.functional.jacobian(flat, x.flatten())
    exact = float(torch.linalg.slogdet(matrix.double()).logabsdet)
    gap = abs(exact - float(claimed.detach().double().sum()))
    note = f"one draw of {task.system.name}, {x.numel()} × {x.numel()}, nats per atom"
    return Check("Jacobian", gap / task.system.n_atoms, ROUND_TRIP, note)


def check_normalisation(sampler: AbstractDensitySampler, task: Task) -> Check:
    """|E_q[p/q] − 1| in standard errors, over all coordinates with the centre of mass left in.

    p is a mixture of Gaussians around some draws, each shaped by the draws nearest to it, so that p/q stays
    bounded whatever the shape of q.
    """
    task = replace(task, conventions=Conventions("none"))
    shaping, _ = _draw(sampler, task)
    x, log_q = _draw(sampler, task)
    if sampler.measure == "internal":
        log_p = _pair_density(shaping, x)
    else:
        log_p = _log_local_mixture(shaping.flatten(1), x.flatten(1))
    w = torch.exp(log_p - log_q)
    error = max(float(w.std()) / math.sqrt(len(w)), 1e-12)
    note = f"E_q[p/q] = {float(w.mean()):.4f} ± {error:.4f} over {len(w)} draws of {task.system.name}"
    return Check("normalisation", abs(float(w.mean()) - 1) / error, ERRORS, note)


def _log_local_mixture(shaping: Tensor, x: Tensor) -> Tensor:
    """log density `(n,)` at `x (n, d)` of `CENTRES` equal Gaussians.

    They lie around the first of the points `shaping (m, d)`, each with half the covariance of its neighbours.
    """
    # torch.distributions would import SymPy: a second of every worker process.
    centres = shaping[:CENTRES]
    near = torch.cdist(centres, shaping).topk(NEIGHBOURS, largest=False).indices
    gaps = shaping[near] - shaping[near].mean(1, keepdim=True)
    factor = torch.linalg.cholesky(0.5 * gaps.transpose(1, 2) @ gaps / NEIGHBOURS)
    whitened = torch.linalg.solve_triangular(factor, (x - centres[:, None]).transpose(1, 2), upper=False)
    log_det = factor.diagonal(dim1=1, dim2=2).log().sum(1)
    log_p = -0.5 * whitened.square().sum(1) - log_det[:, None] - 0.5 * x.shape[1] * math.log(2 * math.pi)
    return torch.logsumexp(log_p, 0) - math.log(len(centres))


def _pair_density(shaping: Tensor, x: Tensor) -> Tensor:
    """log p `(n,)` of pairs of atoms `x (n, 2, 3)`, any direction alike.

    Centre and distance are Gaussian, with the means of the pairs `shaping` and a little less than their
    spread. Gaussians in space would not do: the pairs lie in a shell as thin as a bond vibrates.
    """
    r, distance = (pair.norm(dim=-1) for pair in (x[:, 1] - x[:, 0], shaping[:, 1] - shaping[:, 0]))
    centre = shaping.mean(1)
    narrower = 0.8
    log_c = torch.distributions.Normal(centre.mean(0), narrower * centre.std(0)).log_prob(x.mean(1)).sum(-1)
    log_r = torch.distributions.Normal(distance.mean(), narrower * distance.std()).log_prob(r)
    return log_c + log_r - torch.log(4 * math.pi * r**2)


def cut_fragment(system: System) -> System:
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
    """Refuses to be asked: a sampler computes its density by itself."""

    def _energy(self, x: Tensor) -> Tensor:
        del x
        raise BgbenchError("an audited sampler asked for an energy; draw() and log_prob() must not")

    def _energy_and_force(self, x: Tensor) -> tuple[Tensor, Tensor]:
        del x
        raise BgbenchError("an audited sampler asked for a force; draw() and log_prob() must not")


def _draw(sampler: AbstractDensitySampler, task: Task) -> tuple[Tensor, Tensor]:
    """x and log_q of `FRAGMENT_DRAWS` draws."""
    proposal = call_sample(sampler, task, FRAGMENT_DRAWS)
    if proposal.log_q is None:
        raise ValueError(f"{type(sampler).__name__} returned no log_q")
    return proposal.x.double(), proposal.log_q.double()


def _audit_task(
    system: System, seed: int, device: torch.device, conventions: Conventions | None = None
) -> Task:
    """A task of the audit's own, charged to nobody."""
    oracle = MeteredEnergy(_NoEnergy(system), 1)
    generator = torch.Generator().manual_seed(seed)
    return Task(system, oracle, generator, DRAWS, conventions or Conventions(), device=device)
