"""Flow-matching training with Lightning: EMA, one-cycle, clip, mixed peptides, resumable."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from bgbench_tbg.data import TrainingSet, mismatch
from bgbench_tbg.network import Field
from bgbench_tbg.recipe import SIZES, Recipe
from bgbench_tbg.validation import Validation
from bgbench_tbg.weights import load, save
from bgbench_training.curves import Curves
from bgbench_training.loop import Lessons, card, fit, seeded
from bgbench_training.module import AbstractTraining, Schedule


class Training(AbstractTraining[Field]):
    """The field, its moving average, and the flow-matching loss."""

    schedule = Schedule(betas=(0.9, 0.999), weight_decay=1e-4, start=100.0, end=100.0)

    def __init__(self, recipe: Recipe, data: TrainingSet) -> None:
        super().__init__(recipe, "field", Field(SIZES[recipe.config]))
        self.data = data

    def loss(self, number: int) -> Tensor:
        return mismatch(self.network, self.data.batch(number, self.recipe.part, self.global_rank)).mean()


def train(options: Mapping[str, str]) -> Path:
    """Train, or go on from the last checkpoint in `out`; returns the weights' path."""
    recipe = Recipe.build(options)
    config = SIZES[recipe.config]
    data = TrainingSet(recipe.folders, config, recipe.seed)
    look = Validation(Path(recipe.validation), config).look if recipe.validation else None
    with seeded(recipe):
        module = Training(recipe, data)
    before: Mapping[str, Any] = {}
    if recipe.start:
        start = load(Path(recipe.start))
        module.start_from(start.network)
        before = start.card
    curves = Curves(recipe, look)
    fit(module, recipe, curves)
    path = Path(recipe.out) / f"{recipe.config}.safetensors"
    field = module.averaged
    if module.global_rank == 0:
        lessons = Lessons(data.names, data.n_frames, before)
        save(path, field, card(recipe, lessons, field.n_parameters(), curves))
    return path
