"""Training frames from a density sampler: its draws, reweighted by the target and resampled to equal weights.

A short simulation visits the shapes of a peptide, but not in the right proportions. Reweighted draws have the
target's own proportions, up to the cut of the largest weights, and cost one evaluation each.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bgbench.core.abstract import AbstractSampler, Task, refuse_unsupported
from bgbench.core.devices import CPU, DeviceWatch, describe_device
from bgbench.core.errors import BgbenchError, Unsupported
from bgbench.core.plugins import build_sampler, energy
from bgbench.core.types import Ensemble, Reference, System
from bgbench.energies.meter import MeteredEnergy
from bgbench.estimators.snis import SNIS, SNISOptions
from bgbench.estimators.weights import Cut, ess, resample
from bgbench.references.diagnostics import certify
from bgbench.references.store import write_reference
from bgbench.systems.broken import broken

CUT: Cut = "truncate"
GROUPS = 16
"""Groups that draws are split into; certificates compare them as they compare replicas of a simulation."""
FEWEST = 4 * GROUPS
"""Least frames: two in each half of a group, which certificates compare."""


@dataclass(frozen=True)
class ReweightingPlan:
    """How training frames of a peptide are made from a sampler's draws.

    Args:
        sampler: name of a sampler with a density.
        options: of the sampler.
        draws: of each peptide, one energy evaluation each.
        frames: resampled from the draws.
        least: effective samples below which a peptide gets no training file.
        seed: of draws and resampling.

    Raises:
        BgbenchError: for too few frames to certify, or more frames than draws.
    """

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
            BgbenchError: if it is unknown, or has no such options.
        """
        return build_sampler(self.sampler, self.options)


@dataclass(frozen=True)
class ReweightedDraws:
    """What became of the draws of one peptide.

    `effective_samples` after the cut of the largest weights; `reference`: the training frames as they were
    written, None where there are too few effective samples and no file was written.
    """

    effective_samples: float
    reference: Reference | None


def reweight_draws(
    system: System, sampler: AbstractSampler, plan: ReweightingPlan, out: Path, device: torch.device = CPU
) -> ReweightedDraws:
    """Draw, reweight, resample and write the training file `out`, unless there are too few effective samples.

    The sampler computes on `device`.

    Raises:
        BgbenchError: for a sampler without a density or one that cannot sample the system, too few whole
            frames, or a file that cannot be written.
    """
    try:
        refuse_unsupported(sampler, system)
    except Unsupported as error:
        raise BgbenchError(f"{plan.sampler} cannot sample {error}") from error
    generator = torch.Generator().manual_seed(plan.seed)
    oracle = MeteredEnergy(energy(system, "batched"), plan.draws)
    task = Task(system, oracle, generator, plan.draws, device=device)
    watch = DeviceWatch()
    estimate = SNIS(SNISOptions(cut=CUT)).estimate(sampler, task)
    computed = describe_device(watch.used()[0], sampler.precision)
    effective = ess(estimate.ensemble.log_w) * plan.draws
    if effective < plan.least:
        return ReweightedDraws(effective, None)
    resampled = resample(estimate.ensemble, plan.frames, generator)
    weights = {"cut": CUT, "effective_samples": effective, "uncut_ess": estimate.diagnostics["uncut"]["ess"]}
    provenance = {**_provenance(system, sampler, plan), "weights": weights, "device": computed}
    reference = _certified(system, resampled, provenance)
    return ReweightedDraws(effective, write_reference(out, system, reference))


def _certified(system: System, resampled: Ensemble, provenance: Mapping[str, Any]) -> Reference:
    """The whole ones of resampled frames, with a certificate."""
    flags = broken(system, resampled.x)
    whole = ~torch.stack(list(flags.values())).any(0)
    n = int(whole.sum())
    if n < FEWEST:
        raise BgbenchError(
            f"{system.name}: {n} of {len(whole)} frames are whole, too few to certify; ask for more frames"
        )
    x, replica = resampled.x[whole].float(), torch.arange(n) % GROUPS
    u: Tensor = resampled.u[whole]
    certificate = {
        **certify(system, {"x": x, "u": u, "replica": replica}, None),
        **provenance,
        # However well groups of draws agree, they may all lack what the sampler does not reach.
        "grade": "bronze",
        "left_out": {name: int(flag.sum()) for name, flag in flags.items()},
    }
    return Reference(system.name, x, u, replica, certificate)


def _provenance(system: System, sampler: AbstractSampler, plan: ReweightingPlan) -> dict[str, Any]:
    forcefield = system.forcefield
    return {
        "forcefield_sha256": forcefield.sha256 if forcefield else "",
        "engine": f"snis of {plan.sampler}",
        "sampler": {
            "name": plan.sampler,
            "options": dict(plan.options),
            "weights_sha256": sampler.card.weights_sha256,
        },
        "versions": {name: version(name) for name in ("bgbench", "torch", "numba", "numpy")},
        "replicas": GROUPS,
        "temperatures": [system.temperature],
        "temperature": system.temperature,
        "steps": plan.draws,
        "evaluations": plan.draws,
        "seed": plan.seed,
    }
