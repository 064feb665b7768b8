"""Training frames from a density sampler: drawn, weighed by the target, resampled to equal weights.

A short simulation meets the shapes of a peptide but not how often each occurs. Weighed draws have the
target's own proportions, up to the cut, and cost one evaluation each.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from bgbench.core.abstract import AbstractSampler, Task
from bgbench.core.errors import BgbenchError
from bgbench.core.plugins import energy, plugins
from bgbench.core.types import Reference, System
from bgbench.energies.meter import MeteredEnergy
from bgbench.estimators.snis import SNIS, SNISOptions
from bgbench.estimators.weights import Cut, ess, resample
from bgbench.references.diagnostics import certify
from bgbench.references.store import write_reference
from bgbench.systems.broken import broken

CUT: Cut = "truncate"
GROUPS = 16
"""Groups of draws that stand where a simulation has replicas."""
FEWEST = 4 * GROUPS
"""Frames: two a half group, which certificates compare."""


@dataclass(frozen=True)
class Weighing:
    """How to draw: `draws` of `sampler` for each peptide become `frames`; fewer than `least` effective
    samples make no training file."""

    sampler: str
    options: Mapping[str, str] = field(default_factory=dict)
    draws: int = 4096
    frames: int = 640
    least: float = 100.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.frames < FEWEST:
            raise BgbenchError(f"{self.frames} frames are too few to certify; ask for {FEWEST} or more")
        if self.frames > self.draws:
            raise BgbenchError(
                f"{self.frames} frames cannot be made of {self.draws} draws; ask for more draws"
            )

    def build(self) -> AbstractSampler:
        """The sampler.

        Raises:
            BgbenchError: if it is unknown.
        """
        known = plugins().samplers
        if self.sampler not in known:
            raise BgbenchError(f"unknown sampler '{self.sampler}'; known: {', '.join(known)}")
        return known[self.sampler].build(self.options)


def weigh(system: System, sampler: AbstractSampler, plan: Weighing, out: Path) -> Reference | float:
    """Draw, weigh, resample and write `out`; or the effective samples, where they are too few.

    Raises:
        BgbenchError: for a sampler without a density, too few whole frames, or a file that cannot be written.
    """
    generator = torch.Generator().manual_seed(plan.seed)
    task = Task(system, MeteredEnergy(energy(system, "batched"), plan.draws), generator, plan.draws)
    estimate = SNIS(SNISOptions(cut=CUT)).estimate(sampler, task)
    cut = estimate.ensemble
    effective = ess(cut.log_w) * plan.draws
    if effective < plan.least:
        return effective
    even = resample(cut, plan.frames, generator)
    flags = broken(system, even.x)
    keep = ~torch.stack(list(flags.values())).any(0)
    whole = int(keep.sum())
    if whole < FEWEST:
        text = f"{system.name}: {whole} of {plan.frames} frames are whole, too few to certify"
        raise BgbenchError(f"{text}; ask for more frames")
    kept = {"x": even.x[keep].float(), "u": even.u[keep], "replica": torch.arange(whole) % GROUPS}
    certificate = {
        **certify(system, kept, None),
        **_provenance(system, plan),
        # Draws of a sampler are nobody's reference, however well their groups agree.
        "grade": "bronze",
        "weights": {
            "cut": CUT,
            "effective_samples": effective,
            "uncut_ess": estimate.diagnostics["uncut"]["ess"],
        },
        "left_out": {name: int(flag.sum()) for name, flag in flags.items()},
    }
    return write_reference(
        out, system, Reference(system.name, kept["x"], kept["u"], kept["replica"], certificate)
    )


def _provenance(system: System, plan: Weighing) -> dict[str, Any]:
    card = plugins().samplers[plan.sampler].card(plan.options)
    forcefield = system.forcefield
    return {
        "forcefield_sha256": forcefield.sha256 if forcefield else "",
        "engine": f"snis of {plan.sampler}",
        "sampler": {
            "name": plan.sampler,
            "options": dict(plan.options),
            "weights_sha256": card.weights_sha256,
        },
        "versions": {name: version(name) for name in ("bgbench", "torch", "numba", "numpy")},
        "replicas": GROUPS,
        "temperatures": [system.temperature],
        "temperature": system.temperature,
        "steps": plan.draws,
        "evaluations": plan.draws,
        "seed": plan.seed,
    }
