"""Maximum-likelihood training of Verse with Lightning: EMA, one-cycle, clip, mixed peptides, resumable."""

from collections.abc import Mapping
from pathlib import Path

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


class Training(AbstractTraining[Verse]):
    """The network, its moving average, and −log q per degree of freedom."""

    schedule = Schedule(betas=(0.9, 0.99), weight_decay=1e-4, start=100.0, end=100.0)

    def __init__(self, recipe: Recipe, data: TrainingSet) -> None:
        super().__init__(recipe, "net", Verse(recipe.network(len(data.vocabulary))))
        self.data = data

    def loss(self, number: int) -> Tensor:
        x, m = self.data.batch(number, self.recipe.part, self.global_rank)
        present = m.mask.sum(1).repeat_interleave(len(x) // len(m.mask))
        return -(log_density(self.network, x, m) / (3 * present - 6)).mean()


def train(options: Mapping[str, str]) -> Path:
    """Train, or go on from the last checkpoint in `out`; returns the weights' path."""
    recipe = Recipe.from_options(options)
    start = load(Path(recipe.start)) if recipe.start else None
    data = TrainingSet(recipe.folders, recipe.seed, start)
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
