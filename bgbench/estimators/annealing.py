"""Particles on their way from q to the target: reweight, resample, move."""

import math
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from bgbench.core.abstract import AbstractDensitySampler, Task
from bgbench.core.errors import NonFinite
from bgbench.estimators.densities import centred, forbidden, scored
from bgbench.estimators.langevin import AIMS, Step, adapted, first_size
from bgbench.estimators.schedule import conditional_ess
from bgbench.estimators.weights import FEWEST_GROUPS, ess, grouped, points_at, resampling_places


@dataclass(frozen=True)
class Particles:
    """`x`, `force`, `score` `(n, atoms, 3)`; `u`, `log_q`, `log_w` `(n,)`; `eve (n,)`, the first ancestor."""

    x: Tensor
    u: Tensor
    force: Tensor
    log_q: Tensor
    score: Tensor
    log_w: Tensor
    eve: Tensor

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

    def taken(self, index: Tensor, log_w: Tensor) -> "Particles":
        """Those at `index`, with new weights."""
        x, force, score = self.x[index], self.force[index], self.score[index]
        return Particles(x, self.u[index], force, self.log_q[index], score, log_w, self.eve[index])


class Annealing:
    """The state of one run: particles, t, the log of what resampling took out of the weights, its history."""

    def __init__(self, sampler: AbstractDensitySampler, task: Task, kernel: str, scheme: str) -> None:
        self.sampler, self.task, self.kernel, self.scheme = sampler, task, kernel, scheme
        self.t, self.log_scale, self.resamplings = 0.0, 0.0, 0
        self.history: list[dict[str, Any]] = []
        self._size = 0.0

    def start(self, x: Tensor, u_and_force: tuple[Tensor, Tensor]) -> None:
        """Put draws `x (n, atoms, 3)` of q at t = 0."""
        log_q, score = scored(self.sampler, self.task, x)
        log_w = torch.zeros(len(x), dtype=torch.float64).masked_fill(forbidden(self.task, x), -torch.inf)
        self.particles = Particles(x, *u_and_force, log_q, score, log_w, torch.arange(len(x)))
        held = score - score.mean(1, keepdim=True) if centred(self.sampler) else score
        self._size = first_size(held, AIMS[self.kernel])

    def reweight(self, t: float) -> None:
        """Go on to `t`: log w grows by (t − now) (−u − log q).

        Raises:
            NonFinite: if no weight is left.
        """
        p = self.particles
        increment = (t - self.t) * p.rate
        self.history.append({"t": t, "cess": conditional_ess(p.log_w, increment)})
        self.particles = replace(p, log_w=p.log_w + increment)
        self.t = t
        if not bool(torch.isfinite(self.particles.log_w).any()):
            raise NonFinite(f"none of {len(p.x)} particles has a finite weight at t = {t:.3g}")
        self.history[-1]["ess"] = ess(self.particles.log_w)

    def resample(self, threshold: float) -> None:
        """Resample where the ESS is below `threshold`; what the weights summed to is kept in `log_scale`."""
        p = self.particles
        due = ess(p.log_w) < threshold
        self.history[-1]["resampled"] = due
        if not due:
            return
        n = len(p.x)
        self.log_scale += float(torch.logsumexp(p.log_w, 0)) - math.log(n)
        places = resampling_places(n, self.task.generator, self.scheme)
        index = points_at(torch.softmax(p.log_w, 0), places)
        self.particles = p.taken(index, torch.zeros_like(p.log_w))
        self.resamplings += 1

    def move(self, *, corrected: bool) -> None:
        """One step of the kernel, one evaluation a particle.

        MALA rejects. ULA takes every step to where the target has a density, and stays where it is else;
        `corrected`, the ratio of the kernels back and there goes into the weight, and the estimate is right
        whatever the step (Neal 2001; Del Moral, Doucet, Jasra 2006).
        """
        p, step = self.particles, Step(self._size, centred(self.sampler))
        there = step.drift(p.gradient(self.t))
        y = step.move(p.x, there, self.task.generator)
        u, force = self.task.oracle.energy_and_force(y)
        log_q, score = scored(self.sampler, self.task, y)
        proposed = Particles(y, u, force, log_q, score, p.log_w, p.eve)
        back = step.drift(proposed.gradient(self.t))
        log_r = proposed.log_pi(self.t) - p.log_pi(self.t) + step.log_ratio(p.x, there, y, back)
        log_r = torch.where(torch.isnan(log_r), -torch.inf, log_r)
        log_r = log_r.masked_fill(forbidden(self.task, y), -torch.inf)
        self._adapt(p.log_w, log_r)
        self.particles = self._settled(p, proposed, log_r, corrected)
        self.task.progress(len(y))

    def _settled(self, old: Particles, new: Particles, log_r: Tensor, corrected: bool) -> Particles:
        log_w = old.log_w
        if self.kernel == "ula":
            taken = log_r > -torch.inf
            added = torch.where(taken & (log_w > -torch.inf), log_r, 0.0)
            log_w = log_w + added if corrected else log_w
        else:
            dice = torch.rand(len(log_r), generator=self.task.generator, dtype=torch.float64)
            taken = dice.log() < log_r
        wide = taken[:, None, None]
        return Particles(
            torch.where(wide, new.x, old.x),
            torch.where(taken, new.u, old.u),
            torch.where(wide, new.force, old.force),
            torch.where(taken, new.log_q, old.log_q),
            torch.where(wide, new.score, old.score),
            log_w,
            old.eve,
        )

    def _adapt(self, log_w: Tensor, log_r: Tensor) -> None:
        alive = torch.isfinite(log_w)
        accepted = log_r[alive].clamp_max(0.0).exp().mean()
        acceptance = float(accepted) if bool(alive.any()) else 0.0
        self.history[-1] |= {"acceptance": acceptance, "step": self._size, "ancestors": self.ancestors}
        self._size = adapted(self._size, acceptance, AIMS[self.kernel])

    @property
    def ancestors(self) -> int:
        """First ancestors with a descendant of some weight."""
        p = self.particles
        return len(torch.unique(p.eve[torch.isfinite(p.log_w)]))

    def log_z(self) -> tuple[float, float]:
        """log of the product of mean weights, and its standard error from the lineages.

        Lee and Whiteley (Biometrika 105, 2018): 1 − f (1 − Σ s²), s the share of the weight that descends
        from each first particle, f = (n/(n − 1))^(1 + resamplings) for multinomial resampling. Systematic
        and stratified resampling add no coalescence of equal weights of their own: f = n/(n − 1). Infinite
        with too few families left to tell.
        """
        p = self.particles
        n = len(p.x)
        value = self.log_scale + float(torch.logsumexp(p.log_w, 0)) - math.log(n)
        squares = float(self.shares().square().sum())
        if n < 2 or squares * FEWEST_GROUPS > 1:
            return value, math.inf
        times = 1 + (self.resamplings if self.scheme == "multinomial" else 0)
        return value, math.sqrt(max(1 - (n / (n - 1)) ** times * (1 - squares), 0.0))

    def shares(self) -> Tensor:
        """Share of the weight of each surviving family."""
        return grouped(torch.softmax(self.particles.log_w, 0), self.particles.eve)
