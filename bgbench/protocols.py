"""Protocols: named, versioned bundles of sample numbers, cuts, repairs and metrics.

Records of different protocols never share a table. `paper@1` holds the published rules
(arXiv 2508.18175); `bgbench@1` weighs every point and throws nothing away.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import torch

from bgbench.abstract import Conventions, Estimate, MetricCase
from bgbench.errors import BgbenchError
from bgbench.plugins import plugins
from bgbench.types import Ensemble, Proposal, Reference, System

CHEMICAL = ("ess", "energy_w2", "torus_w2", "tica_w2", "torus_jsd", "tica_jsd", "mode_weights", "validity")
ANALYTIC = ("ess", "energy_w2")
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
        floors = self._floors(system, reference, n) if system.atoms else {}
        diagnostics = {
            "frames_compared": n,
            "transport_frames": min(n, int(self.options.get("transport", n))),
            "floor_frames": min(n, reference.n_samples // 2),
        }
        return Judgement(values, {k: v for k, v in floors.items() if k in values}, {}, diagnostics)

    def _measure(self, case: MetricCase, names: tuple[str, ...]) -> dict[str, float]:
        known = plugins().metrics
        values: dict[str, float] = {}
        for name in names:
            values |= known[name].compute(case)
        return values

    def _floors(self, system: System, reference: Reference, n: int) -> dict[str, float]:
        """The two halves of the reference's replicas against each other, at the same n where they have it."""
        key = (self.name, reference.sha256, n)
        if not reference.sha256 or key not in _known_floors():
            first, second = halves(reference)
            n = min(n, first.n_samples, second.n_samples)
            ensemble = Ensemble.unweighted(first.x, first.u)
            estimate = Estimate(ensemble, Proposal(first.x))
            generator = torch.Generator().manual_seed(0)
            case = MetricCase(system, estimate, second, n, generator, self.options)
            _known_floors()[key] = self._measure(case, WITH_FLOOR)
        return _known_floors()[key]


@lru_cache(maxsize=1)
def _known_floors() -> dict[tuple[str, str, int], dict[str, float]]:
    """Floors measured by this process: a reference's floor is the same for every cell."""
    return {}


def halves(reference: Reference) -> tuple[Reference, Reference]:
    """The reference's replicas in two groups; with one replica, its first and second half."""
    names = torch.unique(reference.replica)
    group = torch.isin(reference.replica, names[: len(names) // 2])
    if len(names) < 2:
        group = torch.arange(reference.n_samples) < reference.n_samples // 2
    sides = [
        Reference(
            reference.system, reference.x[m], reference.u[m], reference.replica[m], reference.certificate,
            reference.tica,
        )
        for m in (group, ~group)
    ]  # fmt: skip
    return sides[0], sides[1]


PROTOCOLS = {
    "bgbench@1": Protocol(
        "bgbench@1", 10_000, Conventions("gaussian", "zero"), {"weights": "weighted", "transport": 2_500}
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
