"""The reference against itself: the ceiling of what can be scored."""

from collections.abc import Mapping

import torch

import bgbench
from bgbench_controls.shuffled import shuffle_torsions

VARIANTS = ("draws", "mode-deleted", "shuffled-torsions", "few-points")
FEW = 250


class ReferenceDraws(bgbench.AbstractSampler):
    """Frames drawn from the reference with replacement.

    `variant`: `draws`; `mode-deleted`, which leaves out the less populated half plane of the first ψ;
    `shuffled-torsions`, which takes every φ and ψ from another frame; `few-points`, 250 frames over and over:
    exact, but no better than so few.
    """

    def __init__(self, variant: str = "draws") -> None:
        if variant not in VARIANTS:
            raise bgbench.BgbenchError(f"reference: variant is one of {', '.join(VARIANTS)}, not '{variant}'")
        self.variant = variant

    @classmethod
    def from_options(cls, options: Mapping[str, str]) -> "ReferenceDraws":
        """Option `variant`.

        Raises:
            BgbenchError: for another option or an unknown variant.
        """
        unknown = sorted(set(options) - {"variant"})
        if unknown:
            raise bgbench.BgbenchError(f"reference has no option {', '.join(unknown)}; it has variant")
        return cls(**options)

    def sample(self, task: bgbench.Task, n_samples: int) -> bgbench.Proposal:
        reference = bgbench.find_reference(task.system)
        allowed = torch.arange(reference.n_samples)
        if self.variant == "mode-deleted" and task.system.atoms:
            allowed = allowed[~_smaller_mode(task.system, reference.x)]
        if self.variant == "few-points":
            allowed = allowed[torch.randperm(len(allowed), generator=task.generator)[:FEW]]
        pick = torch.randint(len(allowed), (n_samples,), generator=task.generator)
        x = reference.x[allowed[pick]]
        if self.variant == "shuffled-torsions" and task.system.atoms:
            x = shuffle_torsions(task.system, x, task.generator)
        task.oracle.count("drawn", n_samples, 0.0)
        task.progress(n_samples)
        return bgbench.Proposal(x)


def _smaller_mode(system: bgbench.System, x: torch.Tensor) -> torch.Tensor:
    """`(n,)` frames in the less populated of ψ > 0 and ψ < 0 of the first residue."""
    upper = bgbench.torsions(system, x).psi[:, 0] > 0
    return ~upper if bool(upper.double().mean() > 0.5) else upper
