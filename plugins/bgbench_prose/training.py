"""Maximum-likelihood training with Lightning: EMA, one-cycle, clip, mixed peptides, resumable."""

import math
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from bgbench_prose.data import TrainingSet
from bgbench_prose.network import Prose, Tokens, log_prior
from bgbench_prose.recipe import SIZES, Recipe
from bgbench_prose.validation import Validation
from bgbench_prose.weights import load, save
from bgbench_training.ahead import Ahead
from bgbench_training.curves import CheckpointKeys, Curves
from bgbench_training.devices import moved
from bgbench_training.loop import TrainingData, fit_and_save, seeded
from bgbench_training.module import AbstractTraining, Schedule


class Training(AbstractTraining[Prose]):
    """The flow, its moving average, and the likelihood per dimension."""

    schedule = Schedule(betas=(0.9, 0.95), weight_decay=4e-4, start=500.0, end=1e4)
    compiles = True

    def __init__(self, recipe: Recipe, data: TrainingSet) -> None:
        super().__init__(recipe, "flow", Prose(SIZES[recipe.config]))
        self.data = data
        self.batches = Ahead(self._make_batch)

    def teardown(self, stage: str) -> None:
        """End what makes batches ahead."""
        del stage
        self.batches.close()

    def _make_batch(self, number: int) -> tuple[Tensor, Tokens]:
        step, part = self.place(number)
        return self.data.batch(step, self.recipe.batch, part)

    def loss(self, number: int) -> Tensor:
        x, t = moved(self.batches(number, self.device), self.device)
        z, log_det = self.run(x, t)
        present = t.mask.sum(1).repeat_interleave(len(x) // len(t.mask))
        # Padding holds z = 0: its prior constant is taken back.
        padding = 3 * (x.shape[1] - present)
        log_q = log_prior(z, 1.0) + 0.5 * padding * math.log(2 * math.pi) + log_det
        return -(log_q / (3 * present)).mean()


def train(options: Mapping[str, str]) -> Path:
    """Train, or go on from the last checkpoint in `out`.

    Args:
        options: See `recipe.Recipe`.

    Returns:
        The path of the weights.

    Raises:
        BgbenchError: for a wrong option, or data that cannot be trained on.
    """
    recipe = Recipe.build(options)
    config = SIZES[recipe.config]
    data = TrainingSet(recipe.folders, config, recipe.seed)
    look = Validation(Path(recipe.validation), config).look if recipe.validation else None
    with seeded(recipe):
        module = Training(recipe, data)
    start = load(Path(recipe.start)) if recipe.start else None
    if start is not None:
        module.start_from(start.network)
    curves = Curves(recipe, look, CheckpointKeys(callback="Losses"))
    source = TrainingData(data.names, data.n_frames, start.card if start else {})
    return fit_and_save(module, recipe, curves, source, save)
