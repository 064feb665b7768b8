"""Maximum-likelihood training of Verse with Lightning: EMA, one-cycle, clip, mixed peptides, resumable."""

from collections.abc import Mapping
from pathlib import Path

import torch.nn.functional as F
from torch import Tensor

from bgbench_training.curves import Curves
from bgbench_training.loop import Lessons, card, fit, seeded
from bgbench_training.module import AbstractTraining, Schedule
from bgbench_verse.data import TrainingSet
from bgbench_verse.density import log_density
from bgbench_verse.network import Verse
from bgbench_verse.recipe import Recipe
from bgbench_verse.validation import Validation
from bgbench_verse.weights import Trained, load, save

FAR = 3.0
"""Nats."""


class Training(AbstractTraining[Verse]):
    """The network, its moving average, and −log q per degree of freedom, with or without energies."""

    schedule = Schedule(betas=(0.9, 0.99), weight_decay=1e-4, start=100.0, end=100.0)

    def __init__(self, recipe: Recipe, data: TrainingSet) -> None:
        super().__init__(recipe, "net", Verse(recipe.network(len(data.vocabulary))))
        self.data, self.energies = data, recipe.energies

    def loss(self, number: int) -> Tensor:
        x, u, m = self.data.batch(number, self.recipe.part, self.global_rank)
        log_q = log_density(self.network, x, m).unflatten(0, (len(m.mask), -1))
        degrees = 3 * m.mask.sum(1, keepdim=True) - 6
        fit = -(log_q / degrees).mean()
        if not self.energies:
            return fit
        return fit + self.energies * (uneven(-u.view_as(log_q) - log_q) / degrees).mean()


def uneven(log_w: Tensor) -> Tensor:
    """Half the squared gaps of `log_w (peptides, frames)` to each peptide's mean.

    On average half the log-variance divergence (Richter et al. 2020, arXiv 2010.10436): zero for q ∝ e^(−u)
    and nothing else, whatever the frames are drawn from. Linear beyond `FAR`: one frame must not lead.
    """
    return F.huber_loss(log_w, log_w.mean(1, keepdim=True).expand_as(log_w), reduction="none", delta=FAR)


def train(options: Mapping[str, str]) -> Path:
    """Train, or go on from the last checkpoint in `out`; returns the weights' path."""
    recipe = Recipe.build(options)
    start = load(Path(recipe.start)) if recipe.start else None
    data = TrainingSet(recipe.folders, recipe.seed, start, recipe.favour)
    look = Validation(Path(recipe.validation), data).look if recipe.validation else None
    with seeded(recipe):
        module = Training(recipe, data)
    if start is not None:
        module.start_from(start.net)
    curves = Curves(recipe, look, ("Curves", "loss"))
    fit(module, recipe, curves)
    path = Path(recipe.out) / f"{recipe.config}.safetensors"
    if module.global_rank == 0:
        names = [peptide.name for peptide in data.peptides]
        n_frames = sum(len(peptide.x) for peptide in data.peptides)
        lessons = Lessons(names, n_frames, start.card if start else {})
        told = card(recipe, lessons, module.network.n_parameters(), curves)
        save(path, Trained(module.averaged, data.vocabulary, data.table, told))
    return path
