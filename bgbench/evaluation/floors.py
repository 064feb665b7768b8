"""Noise floors: what exact draws of the same number would score, and where a score lies above them."""

import math
from collections.abc import Mapping
from functools import lru_cache

import torch

from bgbench.core.types import Reference

CONTROL_WIDTH = 0.02
"""Width of the prior, nm; the `prior` sampler's own."""


CONTROL_FRAMES = 1_000


FEWEST_EFFECTIVE = 100
"""The floor at n_eff is taken at no fewer points: below, a small effective number earns no more allowance."""


SPLITS = 4
"""Ways to halve the reference's replicas that a floor is the mean of."""


@lru_cache(maxsize=1)
def known_floors() -> dict[tuple[str, str, str, int, int], dict[str, float]]:
    """Floors and controls this process knows, by kind, protocol, reference, frames and effective frames."""
    return {}


def rounded(n_eff: float) -> int:
    """`n_eff` to two significant digits, downwards: runs with about the same share one floor."""
    digits = 10 ** max(0, math.floor(math.log10(n_eff)) - 1)
    return int(n_eff // digits * digits)


def skills(
    values: Mapping[str, float], floors: Mapping[str, float], controls: Mapping[str, float]
) -> dict[str, float]:
    """(control − value) / (control − floor): 1 on the floor, 0 like the prior; never clipped.

    Left out where the control is no worse than the floor.
    """
    return {
        name: (controls[name] - values[name]) / (controls[name] - floors[name])
        for name in values
        if name in controls and name in floors and controls[name] > floors[name]
    }


def halves(reference: Reference, split: int = 0) -> tuple[Reference, Reference]:
    """The reference's replicas in two groups, others for every `split`.

    With one replica, its first and second half; later splits cut it in 4, 6 … runs and take every other one.
    """
    names = torch.unique(reference.replica)
    if split:
        names = names[torch.randperm(len(names), generator=torch.Generator().manual_seed(split))]
    group = torch.isin(reference.replica, names[: len(names) // 2])
    if len(names) < 2:
        runs = 2 * (split + 1)
        group = torch.arange(reference.n_samples) * runs // reference.n_samples % 2 == 0
    sides = [
        Reference(
            reference.system, reference.x[m], reference.u[m], reference.replica[m], reference.certificate,
            reference.tica,
        )
        for m in (group, ~group)
    ]  # fmt: skip
    return sides[0], sides[1]
