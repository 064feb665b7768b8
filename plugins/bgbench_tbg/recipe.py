"""The options of `bgbench train tbg`, and the sizes that can be trained."""

from collections.abc import Collection
from dataclasses import dataclass

from bgbench_tbg.network import FieldConfig
from bgbench_training.recipe import AbstractRecipe

SIZES = {
    "tbg-tiny": FieldConfig(channels=16, n_layers=2),
    "tbg-mini": FieldConfig(channels=32, n_layers=3),
    "ecnf": FieldConfig(channels=128, n_layers=9, longest=2),
    "ecnf++": FieldConfig(channels=256, n_layers=9),
}


@dataclass(frozen=True)
class TBGRecipe(AbstractRecipe):
    """How TBG is trained. The published recipe: 500,000 steps of 512 frames at a learning rate of 5e-4."""

    config: str = "tbg-mini"
    out: str = "tbg-trained"

    @property
    def sizes(self) -> Collection[str]:
        return SIZES
