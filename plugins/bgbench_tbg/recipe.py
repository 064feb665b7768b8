"""What can be trained and how: sizes by name, and the options of `bgbench train tbg`."""

from collections.abc import Collection
from dataclasses import dataclass

from bgbench_tbg.network import Config
from bgbench_training.recipe import AbstractRecipe

SIZES = {
    "tbg-tiny": Config(channels=16, n_layers=2),
    "tbg-mini": Config(channels=32, n_layers=3),
    "ecnf": Config(channels=128, n_layers=9, longest=2),
    "ecnf++": Config(channels=256, n_layers=9),
}


@dataclass(frozen=True)
class Recipe(AbstractRecipe):
    """How to train. The published recipe: 500,000 steps of 512 at 5e-4."""

    config: str = "tbg-mini"
    out: str = "tbg-trained"

    @property
    def sizes(self) -> Collection[str]:
        return SIZES
