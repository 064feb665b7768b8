"""Training frames with the target's own populations: a trained network's samples, weighted by their energies.

Short simulations meet the shapes of a peptide but not how often each occurs. Samples of a network that has
seen them, resampled by e^(−u)/q, have the right proportions where the network's density is good enough.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

import bgbench
from bgbench_training.values import share
from bgbench_verse.chemistry import molecule, together
from bgbench_verse.data import Peptide
from bgbench_verse.density import draw
from bgbench_verse.weights import Trained

CUT = 0.005
"""Share of the samples whose weights are lowered to the quantile below them: one sample must not be all."""

FEWEST = 30.0
"""Effective samples a peptide's weighted samples must have to be learnt from."""

BATCH = 1024


@dataclass(frozen=True)
class Refined:
    """Peptides with weighted frames added to the simulated ones, and the evaluations that took."""

    peptides: list[Peptide]
    taught: list[str]
    evaluations: int


def refined(start: Trained, peptides: Sequence[Peptide], draws: int, seed: int) -> Refined:
    """Every peptide's frames doubled by as many drawn from `draws` weighted samples of `start`.

    Peptides whose weights leave fewer than `FEWEST` effective samples keep their own frames alone.
    """
    found, taught = [], []
    for k, peptide in enumerate(peptides):
        generator = torch.Generator().manual_seed(seed * 1_000_003 + k)
        x, log_w = weighed(start, peptide, draws, generator)
        if share(log_w) * draws < FEWEST:
            found.append(peptide)
            continue
        pick = torch.multinomial(
            torch.softmax(log_w, 0), len(peptide.x), replacement=True, generator=generator
        )
        found.append(replace(peptide, x=torch.cat([peptide.x, x[pick]])))
        taught.append(peptide.name)
    return Refined(found, taught, draws * len(peptides))


def weighed(
    start: Trained, peptide: Peptide, draws: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Samples `(draws, atoms, 3)` nm in the peptide's own order, and log weights, the highest lowered."""
    one = molecule(peptide.atoms, peptide.bonds, start.vocabulary, start.table)
    energy = bgbench.energy(bgbench.System.from_sequence(peptide.name), "batched")
    m, parts = together([one]), []
    with torch.no_grad():
        for first in range(0, draws, BATCH):
            x, log_q = draw(start.net, m, min(BATCH, draws - first), generator)
            x = x[:, one.tree.place]
            parts.append((x, -energy.energy(x.double()) - log_q.double()))
    log_w = torch.cat([part[1] for part in parts])
    log_w = torch.where(torch.isfinite(log_w), log_w, -torch.inf)
    limit = log_w.sort().values[len(log_w) - 1 - math.ceil(CUT * len(log_w))]
    return torch.cat([part[0] for part in parts]), log_w.clamp_max(limit)
