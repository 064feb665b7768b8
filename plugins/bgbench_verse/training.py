"""Maximum-likelihood training of Verse with Lightning.

The loss is −log q per degree of freedom, (3N − 6) of them, averaged over frames. With the option `energies`
half the log-variance of the weights of each peptide's frames is added, per degree of freedom:

    L = ⟨−log q⟩/(3N − 6) + energies · ⟨½ (log w − ⟨log w⟩)²⟩/(3N − 6),   log w = −u − log q,

the log-variance divergence of Richter et al. 2020 (arXiv 2010.10436): zero for q ∝ e^(−u) and for nothing
else, whatever the frames were sampled from. Beyond `HUBER_DELTA` nats it grows linearly, so that one frame
does not dominate.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from bgbench_training.curves import CheckpointKeys, Curves
from bgbench_training.devices import moved
from bgbench_training.loop import TrainingData, fit_and_save, seeded
from bgbench_training.module import AbstractTraining, Schedule
from bgbench_verse.batches import PeptideBatches
from bgbench_verse.density import log_density
from bgbench_verse.network import Verse
from bgbench_verse.recipe import VerseRecipe
from bgbench_verse.validation import LikelihoodValidation
from bgbench_verse.weights import TrainedVerse, load, save

HUBER_DELTA = 3.0
"""Nats."""


class LikelihoodTraining(AbstractTraining[Verse]):
    """The network, its moving average and the loss."""

    schedule = Schedule(betas=(0.9, 0.99), weight_decay=1e-4, start=100.0, end=100.0)

    def __init__(self, recipe: VerseRecipe, data: PeptideBatches) -> None:
        super().__init__(recipe, "net", Verse(recipe.network_config(len(data.vocabulary))))
        self.data, self.energies = data, recipe.energies

    def loss(self, number: int) -> Tensor:
        batch = moved(self.data.batch(number, self.recipe.part, self.global_rank), self.device)
        mask = batch.molecules.mask
        log_q = log_density(self.network, batch.x, batch.molecules).unflatten(0, (len(mask), -1))
        degrees = 3 * mask.sum(1, keepdim=True) - 6
        likelihood = -(log_q / degrees).mean()
        if not self.energies:
            return likelihood
        log_w = -batch.u.view_as(log_q) - log_q
        return likelihood + self.energies * (log_variance_loss(log_w) / degrees).mean()


def log_variance_loss(log_w: Tensor) -> Tensor:
    """Half the squared difference of `log_w (peptides, frames)` to each peptide's mean, Huber-limited.

    Returns `(peptides, frames)`; the mean over frames is half the log-variance as long as no frame lies
    further than `HUBER_DELTA` from it.
    """
    mean = log_w.mean(1, keepdim=True).expand_as(log_w)
    return F.huber_loss(log_w, mean, reduction="none", delta=HUBER_DELTA)


def train(options: Mapping[str, str]) -> Path:
    """Train, or go on from the last checkpoint in `out`.

    Args:
        options: See `recipe.VerseRecipe`.

    Returns:
        The path of the weights.

    Raises:
        BgbenchError: for a wrong option, or data that cannot be trained on.
    """
    recipe = VerseRecipe.build(options)
    start = load(Path(recipe.start)) if recipe.start else None
    data = PeptideBatches(recipe.folders, recipe.seed, start, recipe.favour)
    validation = LikelihoodValidation(Path(recipe.validation), data) if recipe.validation else None
    with seeded(recipe):
        module = LikelihoodTraining(recipe, data)
    if start is not None:
        module.start_from(start.net)
    curves = Curves(recipe, validation.evaluate if validation else None, CheckpointKeys(curve="loss"))
    names = sorted({peptide.name for peptide in data.peptides})
    n_frames = sum(len(peptide.x) for peptide in data.peptides)
    source = TrainingData(names, n_frames, start.card if start else {})

    def save_all(path: Path, network: Verse, card: Mapping[str, Any]) -> None:
        save(path, TrainedVerse(network, data.vocabulary, data.table, card))

    return fit_and_save(module, recipe, curves, source, save_all)
