"""One half of the reference's replicas against the other: the ceiling of what can be scored."""

from dataclasses import dataclass
from typing import Literal, get_args

import torch

import bgbench
from bgbench_controls.shuffled import shuffle_torsions

Variant = Literal["draws", "mode-deleted", "shuffled-torsions", "few-points"]
"""Frames as they are (`draws`), or one of three errors to be found by metrics, see `ReferenceDraws`."""

VARIANTS: tuple[Variant, ...] = get_args(Variant)
FEW = 250


@dataclass(frozen=True)
class ReferenceDraws(bgbench.AbstractSampler):
    """Frames of half of the reference's replicas, judged by the other half.

    Each frame is drawn once before one is drawn again. `mode-deleted` leaves out the less populated half
    plane of the first ψ; `shuffled-torsions` takes every φ and ψ from another frame; `few-points` repeats
    250 frames: exact, but no better than so few.
    """

    card = bgbench.Card("reference", notes="half of the reference, judged by the other half: a control")

    variant: Variant = "draws"
    """Frames as they are, or with one deliberate error."""

    def __post_init__(self) -> None:
        if self.variant not in VARIANTS:
            raise bgbench.BgbenchError(f"variant must be one of {', '.join(VARIANTS)}, got '{self.variant}'")

    def sample(self, task: bgbench.Task, n_samples: int) -> bgbench.Proposal:
        reference, _ = bgbench.find_reference(task.system).halves()
        allowed = torch.arange(reference.n_samples)
        if self.variant == "mode-deleted" and task.system.atoms:
            allowed = allowed[~_smaller_mode(task.system, reference.x)]
        if self.variant == "few-points":
            allowed = allowed[torch.randperm(len(allowed), generator=task.generator)[:FEW]]
        rounds = -(-n_samples // len(allowed))
        pick = torch.cat([torch.randperm(len(allowed), generator=task.generator) for _ in range(rounds)])
        x = reference.x[allowed[pick[:n_samples]]]
        if self.variant == "shuffled-torsions" and task.system.atoms:
            x = shuffle_torsions(task.system, x, task.generator)
        task.oracle.count("drawn", n_samples, 0.0)
        task.progress(n_samples)
        return bgbench.Proposal(x)


def _smaller_mode(system: bgbench.System, x: torch.Tensor) -> torch.Tensor:
    """`(n,)` frames in the less populated of ψ > 0 and ψ < 0 of the first residue."""
    upper = bgbench.torsions(system, x).psi[:, 0] > 0
    return ~upper if bool(upper.double().mean() > 0.5) else upper
