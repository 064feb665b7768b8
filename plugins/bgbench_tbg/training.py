"""Flow-matching training of TBG with Lightning; the loss is that of `flow_matching`.

Moving average of the weights, one-cycle learning rate, clipped gradients, mixed peptides and resuming are
those of `bgbench_training`.
"""

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from bgbench_tbg.flow_matching import FlowMatchingBatch, FlowMatchingBatches, flow_matching_loss
from bgbench_tbg.network import Field
from bgbench_tbg.recipe import SIZES, TBGRecipe
from bgbench_tbg.validation import FlowMatchingValidation
from bgbench_tbg.weights import load, save
from bgbench_training.ahead import Ahead
from bgbench_training.curves import Curves
from bgbench_training.devices import moved
from bgbench_training.loop import TrainingData, fit_and_save, seeded
from bgbench_training.module import AbstractTraining, Schedule


class FlowMatchingTraining(AbstractTraining[Field]):
    """The field, its moving average and the loss."""

    schedule = Schedule(betas=(0.9, 0.999), weight_decay=1e-4, start=100.0, end=100.0)
    compiles = True

    def __init__(self, recipe: TBGRecipe, data: FlowMatchingBatches) -> None:
        super().__init__(recipe, "field", Field(SIZES[recipe.config]))
        self.data = data
        self.batches = Ahead(self._make_batch)

    def teardown(self, stage: str) -> None:
        """End what makes batches ahead."""
        del stage
        self.batches.close()

    def _make_batch(self, number: int) -> FlowMatchingBatch:
        step, part = self.place(number)
        return self.data.batch(step, self.recipe.batch, part)

    def loss(self, number: int) -> Tensor:
        batch = moved(self.batches(number, self.device), self.device)
        return flow_matching_loss(self.run, batch).mean()


def train(options: Mapping[str, str]) -> Path:
    """Train, or go on from the last checkpoint in `out`.

    Args:
        options: See `recipe.TBGRecipe`.

    Returns:
        The path of the weights.

    Raises:
        BgbenchError: for a wrong option, or data that cannot be trained on.
    """
    recipe = TBGRecipe.build(options)
    config = SIZES[recipe.config]
    data = FlowMatchingBatches(recipe.folders, config, recipe.seed)
    validation = FlowMatchingValidation(Path(recipe.validation), config) if recipe.validation else None
    with seeded(recipe):
        module = FlowMatchingTraining(recipe, data)
    start = load(Path(recipe.start)) if recipe.start else None
    if start is not None:
        module.start_from(start.network)
    curves = Curves(recipe, validation.evaluate if validation else None)
    source = TrainingData(data.names, data.n_frames, start.card if start else {})
    return fit_and_save(module, recipe, curves, source, save)
