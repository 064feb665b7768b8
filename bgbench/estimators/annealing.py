"""Annealing of particles from q to the target: reweight, resample, move."""

import math
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from bgbench.core.abstract import AbstractDensitySampler, Task
from bgbench.core.errors import NonFinite
from bgbench.estimators.densities import explain_no_weight, has_fixed_centre, log_q_and_score, outside_target
from bgbench.estimators.langevin import TARGET_ACCEPTANCE, LangevinStep, adapt_size, initial_size
from bgbench.estimators.schedule import conditional_ess
from bgbench.estimators.weights import FEWEST_GROUPS, Scheme, ess, points_at, resampling_places, sum_by_group


@dataclass(frozen=True)
class Particles:
    """`x` (nm), `force` and `score` (1/nm) `(n, atoms, 3)`; `u`, `log_q`, `log_w` `(n,)`; `ancestor (n,)`,
    the index of the initial particle that each descends from.
    """

    x: Tensor
    u: Tensor
    force: Tensor
    log_q: Tensor
    score: Tensor
    log_w: Tensor
    ancestor: Tensor

    def log_pi(self, t: float) -> Tensor:
        """log q^(1−t) e^(−t u) `(n,)`; −inf where it is not finite."""
        value = (1 - t) * self.log_q.double() - t * self.u.double()
        return torch.where(torch.isfinite(value), value, -torch.inf)

    def gradient(self, t: float) -> Tensor:
        """∂ log π_t/∂x `(n, atoms, 3)`, 1/nm."""
        return (1 - t) * self.score + t * self.force.to(self.score)

    @property
    def rate(self) -> Tensor:
        """d log π_t/dt = −u − log q `(n,)`."""
        value = -self.u.double() - self.log_q.double()
        return torch.where(torch.isfinite(value), value, -torch.inf)

    def select(self, index: Tensor, log_w: Tensor) -> "Particles":
        """The particles at `index (m,)`, with new log weights `(m,)`."""
        x, force, score = self.x[index], self.force[index], self.score[index]
        return Particles(x, self.u[index], force, self.log_q[index], score, log_w, self.ancestor[index])


class Annealing:
    """The state of one run: particles, t, history, and `log_scale`, the log of the mean weights that
    resampling has replaced by 1.
    """

    def __init__(self, sampler: AbstractDensitySampler, task: Task, kernel: str, scheme: Scheme) -> None:
        self.sampler, self.task, self.kernel, self.scheme = sampler, task, kernel, scheme
        self.t, self.log_scale, self.resamplings = 0.0, 0.0, 0
        self.history: list[dict[str, Any]] = []
        self._size = 0.0

    def start(self, x: Tensor, u: Tensor, force: Tensor) -> None:
        """Place samples `x (n, atoms, 3)` of q at t = 0; energies `u (n,)`, forces `(n, atoms, 3)`."""
        log_q, score = log_q_and_score(self.sampler, self.task, x)
        log_w = torch.zeros(len(x), dtype=torch.float64).masked_fill(outside_target(self.task, x), -torch.inf)
        self.particles = Particles(x, u, force, log_q, score, log_w, torch.arange(len(x)))
        if has_fixed_centre(self.sampler):
            score = score - score.mean(1, keepdim=True)
        self._size = initial_size(score, TARGET_ACCEPTANCE[self.kernel])

    def reweight(self, t: float) -> None:
        """Go on to `t`: log_w grows by (t − current t) (−u − log_q).

        Raises:
            NonFinite: if no weight is left.
        """
        p = self.particles
        increment = (t - self.t) * p.rate
        self.history.append({"t": t, "cess": conditional_ess(p.log_w, increment)})
        self.particles = replace(p, log_w=p.log_w + increment)
        self.t = t
        if not bool(torch.isfinite(self.particles.log_w).any()):
            reason = explain_no_weight(self.task, p.x, p.u, p.log_q)
            raise NonFinite(f"none of {len(p.x)} particles has a finite weight at t = {t:.3g}: {reason}")
        self.history[-1]["ess"] = ess(self.particles.log_w)

    def resample(self, threshold: float) -> None:
        """Resample if the ESS is below `threshold`; `log_scale` grows by the log of the mean weight."""
        p = self.particles
        due = ess(p.log_w) < threshold
        self.history[-1]["resampled"] = due
        if not due:
            return
        n = len(p.x)
        self.log_scale += float(torch.logsumexp(p.log_w, 0)) - math.log(n)
        places = resampling_places(n, self.task.generator, self.scheme)
        index = points_at(torch.softmax(p.log_w, 0), places)
        self.particles = p.select(index, torch.zeros_like(p.log_w))
        self.resamplings += 1

    def move(self, *, corrected: bool) -> None:
        """Make one step of the kernel, at one evaluation a particle.

        MALA accepts or rejects. ULA accepts every step to where the target has a density, and rejects the
        others; with `corrected` the ratio of the kernels back and forth goes into the weight, and the
        estimate is right whatever the step size (Neal 2001; Del Moral, Doucet, Jasra 2006).
        """
        p, step = self.particles, LangevinStep(self._size, has_fixed_centre(self.sampler))
        drift = step.drift(p.gradient(self.t))
        y = step.move(p.x, drift, self.task.generator)
        u, force = self.task.oracle.energy_and_force(y)
        log_q, score = log_q_and_score(self.sampler, self.task, y)
        proposed = Particles(y, u, force, log_q, score, p.log_w, p.ancestor)
        drift_back = step.drift(proposed.gradient(self.t))
        log_r = proposed.log_pi(self.t) - p.log_pi(self.t) + step.log_ratio(p.x, drift, y, drift_back)
        log_r = torch.where(torch.isnan(log_r), -torch.inf, log_r)
        log_r = log_r.masked_fill(outside_target(self.task, y), -torch.inf)
        self._adapt(p.log_w, log_r)
        self.particles = self._accept(p, proposed, log_r, corrected)
        self.task.progress(len(y))

    def _accept(self, old: Particles, new: Particles, log_r: Tensor, corrected: bool) -> Particles:
        log_w = old.log_w
        if self.kernel == "ula":
            accepted = log_r > -torch.inf
            correction = torch.where(accepted & (log_w > -torch.inf), log_r, 0.0)
            log_w = log_w + correction if corrected else log_w
        else:
            uniform = torch.rand(len(log_r), generator=self.task.generator, dtype=torch.float64)
            accepted = uniform.log() < log_r
        accepted_atoms = accepted[:, None, None]
        return Particles(
            torch.where(accepted_atoms, new.x, old.x),
            torch.where(accepted, new.u, old.u),
            torch.where(accepted_atoms, new.force, old.force),
            torch.where(accepted, new.log_q, old.log_q),
            torch.where(accepted_atoms, new.score, old.score),
            log_w,
            old.ancestor,
        )

    def _adapt(self, log_w: Tensor, log_r: Tensor) -> None:
        alive = torch.isfinite(log_w)
        acceptance = float(log_r[alive].clamp_max(0.0).exp().mean()) if bool(alive.any()) else 0.0
        self.history[-1] |= {"acceptance": acceptance, "step": self._size, "ancestors": self.ancestors}
        self._size = adapt_size(self._size, acceptance, TARGET_ACCEPTANCE[self.kernel])

    @property
    def ancestors(self) -> int:
        """Number of initial particles that have a descendant with weight."""
        p = self.particles
        return len(torch.unique(p.ancestor[torch.isfinite(p.log_w)]))

    def log_z(self) -> tuple[float, float]:
        """log of the product of mean weights, and its standard error from the lineages.

        The variance is that of Lee and Whiteley (Biometrika 105, 2018), 1 − f (1 − Σ s²), with s the fraction
        of the weight that descends from each initial particle and f = (n/(n − 1))^(1 + resamplings) for
        multinomial resampling. Systematic and stratified resampling add no coalescence of equal weights of
        their own: f = n/(n − 1). The error is infinite with fewer than FEWEST_GROUPS effective families.
        """
        p = self.particles
        n = len(p.x)
        value = self.log_scale + float(torch.logsumexp(p.log_w, 0)) - math.log(n)
        squares = float(self.family_fractions().square().sum())
        if n < 2 or squares * FEWEST_GROUPS > 1:
            return value, math.inf
        exponent = 1 + (self.resamplings if self.scheme == "multinomial" else 0)
        return value, math.sqrt(max(1 - (n / (n - 1)) ** exponent * (1 - squares), 0.0))

    def family_fractions(self) -> Tensor:
        """Fraction of the weight in each family, the particles of one ancestor, `(families,)`."""
        return sum_by_group(torch.softmax(self.particles.log_w, 0), self.particles.ancestor)
