"""Protocols: named, versioned bundles of sample numbers, cuts, repairs and metrics.

Records of different protocols never share a table. `paper@1` holds the published rules
(arXiv 2508.18175); `bgbench@1` weighs every point and throws nothing away.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from scipy.special import stdtrit

from bgbench.core.abstract import Conventions, Estimate, MetricCase
from bgbench.core.errors import BgbenchError
from bgbench.core.plugins import plugins
from bgbench.core.types import Ensemble, Proposal, Reference, System
from bgbench.estimators.weights import effective_points
from bgbench.evaluation.floors import (
    CONTROL_FRAMES,
    CONTROL_WIDTH,
    FEWEST_EFFECTIVE,
    SPLITS,
    halves,
    known_floors,
    rounded,
    skills,
)
from bgbench.metrics.free_energy import free_energies
from bgbench.metrics.sides import equally_weighted

CHEMICAL = ("ess", "energy_w2", "torus_w2", "tica_w2", "torus_jsd", "tica_jsd", "mode_weights", "validity")
ANALYTIC = ("ess", "energy_w2")
WITH_SKILL = ("torus_w2", "tica_w2", "torus_jsd", "tica_jsd", "mode_weights")
"""Metrics with a control: the prior, a Gaussian around the start structure. Energies have none: any sampler
that relaxes a bond beats it there."""

DIVERGENCES = ("torus_jsd", "tica_jsd")


WITH_FLOOR = ("energy_w2", "torus_w2", "tica_w2", "torus_jsd", "tica_jsd", "mode_weights")


@dataclass(frozen=True)
class Judgement:
    """Named metric values, the noise floors beside them, skills, and diagnostics."""

    metrics: Mapping[str, float]
    floors: Mapping[str, float] = field(default_factory=dict)
    skills: Mapping[str, float] = field(default_factory=dict)
    diagnostics: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Protocol:
    """`n_samples` frames a side (fewer only where budget or reference has fewer); `options` for metrics."""

    name: str
    n_samples: int
    conventions: Conventions
    options: Mapping[str, Any]

    def judge(
        self, estimate: Estimate, reference: Reference, system: System, generator: torch.Generator
    ) -> Judgement:
        """Every metric of `estimate` against `reference`, at equal numbers of frames, with its floor.

        Raises:
            BgbenchError: for NaN positions or a constant side.
        """
        n = min(self.n_samples, reference.n_samples, estimate.ensemble.n_samples)
        case = MetricCase(system, estimate, reference, n, generator, self.options)
        names = CHEMICAL if system.atoms else ANALYTIC
        values = self._measure(case, names)
        floors, bounds = self._floors(system, reference, n) if system.atoms else ({}, {})
        n_eff = effective_points(estimate.ensemble)
        diagnostics: dict[str, Any] = {
            "frames_compared": n,
            "transport_frames": min(n, int(self.options.get("transport", n))),
            "floor_frames": min(n, reference.n_samples // 2),
            "effective_points": n_eff,
        }
        if system.atoms:
            diagnostics["floor_bounds"] = {name: bounds[name] for name in bounds if name in values}
            allowed = self._floor(system, reference, n, effective=rounded(max(n_eff, FEWEST_EFFECTIVE)))
            diagnostics["floors_at_n_eff"] = {name: allowed[name] for name in allowed if name in values}
            diagnostics["free_energies"] = free_energies(system, estimate, reference)
        if estimate.log_w_uncut is not None or self._cuts(estimate.ensemble):
            whole = replace(case, estimate=uncut(estimate), options={**self.options, "cut": "none"})
            diagnostics["metrics_uncut"] = self._measure(whole, names)
        controls = self._controls(system, reference, n) if system.atoms else {}
        return Judgement(
            values,
            {name: value for name, value in floors.items() if name in values},
            skills(values, floors, controls),
            {**diagnostics, "controls": controls},
        )

    def ranked(self, name: str, value: float, allowed: Mapping[str, float]) -> float:
        """What samplers rank by: under `rank: excess` value² − floor², the floor at n_eff, else `value`.

        Bias and noise of a distance add up in squares (a divergence is a square already: value − floor), so
        what is left is the bias, and fewer points neither cost rank nor buy it. Below `FEWEST_EFFECTIVE` the
        floor grows no more. Never clipped. `allowed` are the floors at n_eff; a metric without one is ranked
        as it is.
        """
        if self.options.get("rank") != "excess" or name not in allowed:
            return value
        power = 1 if name in DIVERGENCES else 2
        return float(value**power - allowed[name] ** power)

    def _cuts(self, ensemble: Ensemble) -> bool:
        """Whether the protocol itself drops weights of this ensemble."""
        return self.options.get("cut", "none") != "none" and not equally_weighted(ensemble)

    def _measure(self, case: MetricCase, names: tuple[str, ...]) -> dict[str, float]:
        known = plugins().metrics
        values: dict[str, float] = {}
        for name in names:
            values |= known[name].compute(case)
        return values

    def _floors(
        self, system: System, reference: Reference, n: int
    ) -> tuple[dict[str, float], dict[str, float]]:
        """Mean of the floor over `SPLITS` ways to halve the replicas, and the bound that noise stays under.

        The bound is that of one more draw from the same normal distribution, 97.5 % (Student). There is none
        with two to four replicas, which cannot be halved in so many ways.
        """
        found = [self._floor(system, reference, n, split=split) for split in range(SPLITS)]
        table = {name: np.array([floor[name] for floor in found]) for name in found[0]}
        reach = float(stdtrit(SPLITS - 1, 0.975)) * math.sqrt(1 + 1 / SPLITS)
        means = {name: float(values.mean()) for name, values in table.items()}
        if 2 <= len(torch.unique(reference.replica)) <= SPLITS:
            return means, {}
        return means, {name: means[name] + reach * float(v.std(ddof=1)) for name, v in table.items()}

    def _floor(
        self, system: System, reference: Reference, n: int, effective: int | None = None, split: int = 0
    ) -> dict[str, float]:
        """The two halves of the reference's replicas against each other, at the same n where they have it.

        With `effective`, only so many frames of the first half carry weight: what exact draws would score.
        """
        first, second = halves(reference, split)
        n = min(n, first.n_samples, second.n_samples)
        effective = n if effective is None else min(effective, n)
        key = (f"floor {split}", self.name, reference.sha256, n, effective)
        if not reference.sha256 or key not in known_floors():
            ensemble = Ensemble.unweighted(first.x, first.u)
            if effective < n:
                log_w = torch.full_like(ensemble.log_w, -torch.inf)
                chosen = torch.randperm(first.n_samples, generator=torch.Generator().manual_seed(0))
                log_w[chosen[:effective]] = 0.0
                ensemble = Ensemble(first.x, first.u, log_w)
            known_floors()[key] = self._against(system, ensemble, second, n, WITH_FLOOR)
        return known_floors()[key]

    def _controls(self, system: System, reference: Reference, n: int) -> dict[str, float]:
        """What the prior, which knows nothing but the start structure, scores against the reference."""
        key = ("control", self.name, reference.sha256, n, n)
        if not reference.sha256 or key not in known_floors():
            n = min(n, CONTROL_FRAMES)
            generator = torch.Generator().manual_seed(0)
            noise = torch.randn(n, *system.positions.shape, generator=generator)
            x = system.positions.float() + CONTROL_WIDTH * noise
            ensemble = Ensemble.unweighted(x, torch.zeros(n))
            known_floors()[key] = self._against(system, ensemble, reference, n, WITH_SKILL)
        return known_floors()[key]

    def _against(
        self, system: System, ensemble: Ensemble, reference: Reference, n: int, names: tuple[str, ...]
    ) -> dict[str, float]:
        estimate = Estimate(ensemble, Proposal(ensemble.x))
        generator = torch.Generator().manual_seed(0)
        case = MetricCase(system, estimate, reference, n, generator, self.options)
        measured = self._measure(case, names)
        return {name: measured[name] for name in names if name in measured}


def uncut(estimate: Estimate) -> Estimate:
    """The estimate with its weights as they were before the estimator's cut."""
    if estimate.log_w_uncut is None:
        return estimate
    ensemble = estimate.ensemble
    return replace(estimate, ensemble=Ensemble(ensemble.x, ensemble.u, estimate.log_w_uncut))


PROTOCOLS = {
    "bgbench@1": Protocol(
        "bgbench@1",
        10_000,
        Conventions("gaussian", "zero"),
        {"weights": "weighted", "transport": 2_500, "rank": "excess"},
    ),
    "paper@1": Protocol(
        "paper@1", 10_000, Conventions("chi", "flip"), {"weights": "resampled", "cut": "drop"}
    ),
}


def get_protocol(name: str) -> Protocol:
    """The protocol called `name` (`name@version`).

    Raises:
        BgbenchError: for an unknown name, listing the known ones.
    """
    if name not in PROTOCOLS:
        raise BgbenchError(f"unknown protocol '{name}'; known: {', '.join(PROTOCOLS)}")
    return PROTOCOLS[name]
