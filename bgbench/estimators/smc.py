"""`smc-ula`, `smc-mala`: annealed sequential Monte Carlo along (1 − t) · (−log q) + t · u.

K increments of t lead from exactly 0 to exactly 1, with a Langevin step after each but the last: each
particle is evaluated once where it is drawn and once at each of K − 1 steps, K times in all. No increment
is zero and no step is taken at t = 0. Source: Del Moral, Doucet, Jasra 2006; arXiv 2508.18175.

Samplers that divide the centre of mass out of q (`measure`) keep every particle's centre where it was
drawn. With g the density that was divided out, the path is g q₀^(1−t) e^(−tu), q₀ = q/g: g cancels from
every weight, and moves that leave the centre alone leave each of its densities invariant.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from bgbench.core.abstract import AbstractEstimator, AbstractSampler, Estimate, Task
from bgbench.core.errors import BgbenchError
from bgbench.core.options import HANDS, chosen, refuse_outside, refuse_unless
from bgbench.core.types import Ensemble, Proposal
from bgbench.estimators.annealing import Annealing
from bgbench.estimators.controls import mean_energy, virial
from bgbench.estimators.densities import degrees_of_freedom, drawn, with_density, with_hand
from bgbench.estimators.handedness import settle
from bgbench.estimators.schedule import by_conditional_ess, even
from bgbench.estimators.weights import SCHEMES

PUBLISHED = 100
"""Particles a step: 10,000 particles and 100 steps at 10⁶ evaluations (arXiv 2508.18175)."""


@dataclass(frozen=True)
class Settings:
    """Defaults are the published ones. `particles`, `steps`: 0 means as the budget says (`divided`).

    `schedule`: even, or cess: the conditional ESS of each increment falls to `cess`. `threshold`: resample
    below this ESS. `correct`: whether the bias of unadjusted steps goes into the weights.
    """

    particles: int = 0
    steps: int = 0
    schedule: str = "even"
    cess: float = 0.9
    resampling: str = "systematic"
    threshold: float = 0.5
    correct: str = "yes"
    handedness: str = "protocol"

    def __post_init__(self) -> None:
        refuse_outside("particles", self.particles, 0, 10**9)
        refuse_outside("steps", self.steps, 0, 10**9)
        refuse_unless("schedule", self.schedule, ("even", "cess"))
        refuse_outside("cess", self.cess, 0.01, 0.9999)
        refuse_unless("resampling", self.resampling, SCHEMES)
        refuse_outside("threshold", self.threshold, 0.0, 1.0)
        refuse_unless("correct", self.correct, ("yes", "no"))
        refuse_unless("handedness", self.handedness, HANDS)


def divided(budget: int, settings: Settings) -> tuple[int, int]:
    """Particles and increments of t: √(budget/100) increments unless one of them is given.

    Raises:
        BgbenchError: if they need more than the budget.
    """
    steps = settings.steps or max(
        1, budget // settings.particles if settings.particles else round(math.sqrt(budget / PUBLISHED))
    )
    particles = settings.particles or budget // steps
    if particles < 1 or particles * steps > budget:
        raise BgbenchError(
            f"{max(particles, 1)} particles × {steps} steps are more than the budget of {budget} "
            "evaluations; give fewer, or a larger --budget"
        )
    return particles, steps


class SMC(AbstractEstimator):
    """Annealed SMC with kernel `ula` or `mala`."""

    def __init__(self, kernel: str, settings: Settings | None = None) -> None:
        self.kernel, self.settings = kernel, settings or Settings()

    @classmethod
    def from_options(cls, kernel: str, options: Mapping[str, str]) -> "SMC":
        """With the fields of `Settings` as `estimator.NAME`.

        Raises:
            BgbenchError: for an unknown option or value.
        """
        return cls(kernel, chosen(f"smc-{kernel}", Settings(), options))

    def estimate(self, sampler: AbstractSampler, task: Task) -> Estimate:
        dense = with_density(sampler)
        task = with_hand(task, self.settings.handedness)
        particles, steps = divided(task.oracle.remaining, self.settings)
        # Under `flip`, the published rule, both hands are annealed and the mirrored ones flipped at the end.
        flipped = task.conventions.handedness == "flip"
        raw, _ = drawn(dense, task, particles)
        placed, rates = settle(task.system, raw, "zero" if flipped else task.conventions.handedness)
        run = Annealing(dense, task, self.kernel, self.settings.resampling)
        run.start(placed.x, task.oracle.energy_and_force(placed.x))
        with task.oracle.phase("refine"):
            self._anneal(run, steps)
        control = virial(run.particles.x, run.particles.force, degrees_of_freedom(dense, task))
        told = {
            "handedness": {**rates, "rule": task.conventions.handedness},
            **self._told(run, particles, steps),
            "mean_energy": mean_energy(
                run.particles.u, torch.softmax(run.particles.log_w, 0), run.particles.eve, control
            ),
            "unused": task.oracle.remaining,
        }
        return self._estimate(run, task, told)

    def _anneal(self, run: Annealing, steps: int) -> None:
        for step in range(1, steps + 1):
            if run.t < 1:
                run.reweight(self._next(run, step, steps))
            if step < steps:
                run.resample(self.settings.threshold)
                run.move(corrected=self.settings.correct == "yes")

    def _next(self, run: Annealing, step: int, steps: int) -> float:
        if self.settings.schedule == "even" or step == steps:
            return even(step, steps)
        return by_conditional_ess(run.t, run.particles.log_w, run.particles.rate, self.settings.cess)

    def _told(self, run: Annealing, particles: int, steps: int) -> dict[str, Any]:
        value, error = run.log_z()
        shares = run.shares()
        names = ("t", "cess", "ess", "resampled", "acceptance", "step", "ancestors")
        return {
            "log_z": value,
            "log_z_error": error,
            "smc": {
                "kernel": self.kernel,
                "particles": particles,
                "steps": steps,
                "schedule": self.settings.schedule,
                "bias_of_steps_in_weights": self.kernel == "ula" and self.settings.correct == "yes",
                "resampling": self.settings.resampling,
                "resamplings": run.resamplings,
                "ancestors": run.ancestors,
                "families": 1 / float(shares.square().sum()),
                "largest_family": float(shares.max()),
                "history": {name: [row.get(name) for row in run.history] for name in names},
            },
        }

    def _estimate(self, run: Annealing, task: Task, told: dict[str, Any]) -> Estimate:
        """The particles; where the protocol scores more points than there are, copies share their weight."""
        p = run.particles
        index, log_share = copies(len(p.x), task.n_samples)
        proposal = Proposal(p.x[index], p.log_q[index], p.u[index])
        rule = task.conventions.handedness
        proposal, _ = settle(task.system, proposal, rule)
        ensemble = Ensemble(proposal.x, p.u[index], p.log_w[index] + run.log_scale + log_share)
        return Estimate(ensemble, proposal, {**told, "points": len(p.x)}, group=p.eve[index])


def copies(n: int, wanted: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Index `(m,)` of n points repeated in turn until there are m ≥ `wanted`, and log of n's share each.

    The weights of a point's copies add up to its own, but for a common factor m/n that keeps their mean.
    """
    m = max(n, wanted)
    index = torch.arange(m) % n
    count = torch.bincount(index, minlength=n)[index]
    return index, math.log(m / n) - count.double().log()
