"""`smc-ula`, `smc-mala`: annealed sequential Monte Carlo along (1 − t) · (−log q) + t · u.

K increments of t lead from exactly 0 to exactly 1, with a Langevin step after each but the last: each
particle is evaluated once as a sample of q and once at each of K − 1 steps, K times in all. No increment is
zero and no step is made at t = 0. Source: Del Moral, Doucet, Jasra 2006; arXiv 2508.18175.

For samplers that divide the centre of mass out of q (`measure`) the centre of every particle stays where it
is. With g the density that was divided out, the path is g q₀^(1−t) e^(−tu), q₀ = q/g: g cancels from every
weight, and moves that leave the centre alone leave each of its densities invariant.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch

from bgbench.core.abstract import AbstractEstimator, AbstractSampler, Estimate, Task
from bgbench.core.errors import BgbenchError
from bgbench.core.options import parse_options, refuse_outside, refuse_unknown_words
from bgbench.core.types import Ensemble, Proposal
from bgbench.estimators.annealing import Annealing
from bgbench.estimators.controls import mean_energy, virial
from bgbench.estimators.densities import (
    degrees_of_freedom,
    draw_with_density,
    override_handedness,
    require_density,
)
from bgbench.estimators.handedness import HandednessOption, apply_chirality_rule
from bgbench.estimators.schedule import step_by_conditional_ess, step_evenly
from bgbench.estimators.weights import Scheme

PARTICLES_PER_STEP = 100
"""The published ratio: 10,000 particles and 100 steps at 10⁶ evaluations (arXiv 2508.18175)."""


@dataclass(frozen=True)
class SMCOptions:
    """Options of `smc-ula` and `smc-mala`; the defaults are the published ones."""

    particles: int = 0
    """Number of particles; 0: as many as the budget allows."""
    steps: int = 0
    """Number of increments of t; 0: √(budget/100), or what the particles leave of the budget."""
    schedule: Literal["even", "cess"] = "even"
    """Increments of t: equal, or so that the conditional ESS of each falls to `cess`."""
    cess: float = 0.9
    """Conditional ESS of each increment with schedule=cess, a fraction."""
    resampling: Scheme = "systematic"
    """Resampling scheme."""
    threshold: float = 0.5
    """Resample below this ESS, a fraction."""
    correct: bool = True
    """Whether the bias of unadjusted steps goes into the weights."""
    handedness: HandednessOption = "protocol"
    """Rule for samples of wrong chirality; protocol: that of the protocol."""

    def __post_init__(self) -> None:
        refuse_outside("particles", self.particles, 0, 10**9)
        refuse_outside("steps", self.steps, 0, 10**9)
        refuse_outside("cess", self.cess, 0.01, 0.9999)
        refuse_outside("threshold", self.threshold, 0.0, 1.0)
        refuse_unknown_words(self)


def split_budget(budget: int, options: SMCOptions) -> tuple[int, int]:
    """Particles and increments of t: √(budget/100) increments unless the options set one of the two.

    Raises:
        BgbenchError: if they need more than the budget.
    """
    if options.steps:
        steps = options.steps
    elif options.particles:
        steps = max(1, budget // options.particles)
    else:
        steps = max(1, round(math.sqrt(budget / PARTICLES_PER_STEP)))
    particles = options.particles or budget // steps
    if particles < 1 or particles * steps > budget:
        raise BgbenchError(
            f"{max(particles, 1)} particles × {steps} steps are more than the budget of {budget} "
            "evaluations; set fewer, or a larger --budget"
        )
    return particles, steps


class SMC(AbstractEstimator):
    """Annealed SMC with kernel `ula` or `mala`."""

    def __init__(self, kernel: str, options: SMCOptions | None = None) -> None:
        self.kernel, self.options = kernel, options or SMCOptions()

    @classmethod
    def build(cls, kernel: str, options: Mapping[str, str]) -> "SMC":
        """Build the estimator from the words of `--set estimator.NAME=VALUE`, the fields of `SMCOptions`.

        Raises:
            BgbenchError: for an unknown option or value.
        """
        owner = f"estimator smc-{kernel}"
        return cls(kernel, parse_options(SMCOptions, options, owner=owner, prefix="estimator"))

    def check_sampler(self, sampler: AbstractSampler) -> None:
        require_density(sampler)

    def estimate(self, sampler: AbstractSampler, task: Task) -> Estimate:
        density_sampler = require_density(sampler)
        task = override_handedness(task, self.options.handedness)
        particles, steps = split_budget(task.oracle.remaining, self.options)
        raw, _ = draw_with_density(density_sampler, task, particles)
        # Under `flip`, the published rule, both enantiomers are annealed; mirror images flip at the end.
        flip = task.conventions.handedness == "flip"
        rule = "zero" if flip else task.conventions.handedness
        proposal, rates = apply_chirality_rule(task.system, raw, rule)
        run = Annealing(density_sampler, task, self.kernel, self.options.resampling)
        run.start(proposal.x, *task.oracle.energy_and_force(proposal.x))
        with task.oracle.phase("refine"):
            self._anneal(run, steps)
        control = virial(run.particles.x, run.particles.force, degrees_of_freedom(density_sampler, task))
        diagnostics = {
            "handedness": {**rates, "rule": task.conventions.handedness},
            **self._diagnose(run, particles, steps),
            "mean_energy": mean_energy(
                run.particles.u, torch.softmax(run.particles.log_w, 0), run.particles.ancestor, control
            ),
            "unused": task.oracle.remaining,
        }
        return self._estimate(run, task, diagnostics)

    def _anneal(self, run: Annealing, steps: int) -> None:
        for step in range(1, steps + 1):
            if run.t < 1:
                run.reweight(self._next_t(run, step, steps))
            if step < steps:
                run.resample(self.options.threshold)
                run.move(corrected=self.options.correct)

    def _next_t(self, run: Annealing, step: int, steps: int) -> float:
        if self.options.schedule == "even" or step == steps:
            return step_evenly(step, steps)
        return step_by_conditional_ess(run.t, run.particles.log_w, run.particles.rate, self.options.cess)

    def _diagnose(self, run: Annealing, particles: int, steps: int) -> dict[str, Any]:
        value, error = run.log_z()
        fractions = run.family_fractions()
        names = ("t", "cess", "ess", "resampled", "acceptance", "step", "ancestors")
        return {
            "log_z": value,
            "log_z_error": error,
            "smc": {
                "kernel": self.kernel,
                "particles": particles,
                "steps": steps,
                "schedule": self.options.schedule,
                "bias_of_steps_in_weights": self.kernel == "ula" and self.options.correct,
                "resampling": self.options.resampling,
                "resamplings": run.resamplings,
                "ancestors": run.ancestors,
                "families": 1 / float(fractions.square().sum()),
                "largest_family": float(fractions.max()),
                "history": {name: [row.get(name) for row in run.history] for name in names},
            },
        }

    def _estimate(self, run: Annealing, task: Task, diagnostics: dict[str, Any]) -> Estimate:
        """The particles; if the protocol scores more points, copies that divide a particle's weight."""
        p = run.particles
        index, log_fraction = repeat_points(len(p.x), task.n_samples)
        proposal = Proposal(p.x[index], p.log_q[index], p.u[index])
        rule = task.conventions.handedness
        proposal, _ = apply_chirality_rule(task.system, proposal, rule)
        ensemble = Ensemble(proposal.x, p.u[index], p.log_w[index] + run.log_scale + log_fraction)
        return Estimate(ensemble, proposal, {**diagnostics, "points": len(p.x)}, group=p.ancestor[index])


def repeat_points(n: int, at_least: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Index `(m,)` of n points repeated in turn to m = max(n, at_least), and what their log_w gains, `(m,)`.

    The weights of a point's copies add up to its own, times a common factor m/n that keeps the mean weight.
    """
    m = max(n, at_least)
    index = torch.arange(m) % n
    count = torch.bincount(index, minlength=n)[index]
    return index, math.log(m / n) - count.double().log()
