"""What can be trained and how: sizes by name, and the options of `bgbench train prose`."""

from collections.abc import Collection
from dataclasses import dataclass, replace

from bgbench_prose.network import Config
from bgbench_training.recipe import AbstractRecipe

MINI = Config(channels=64, n_blocks=8, n_layers=1, head_dim=32)
SIZES = {
    "prose-tiny": Config(channels=32, n_blocks=8, n_layers=1, head_dim=16),
    "prose-mini": MINI,
    "prose-midi": Config(channels=96, n_blocks=8, n_layers=1, head_dim=32),
    "prose-mini-no-lookahead": replace(MINI, lookahead=False),
    "prose-mini-n2c": replace(
        MINI, orders=("n2c_residue-by-residue_standard", "n2c_residue-by-residue_standard_flip")
    ),
    "tarflow-mini": replace(MINI, conditioning="additive"),
    "tarflow-published": Config(conditioning="additive"),
    "prose-base": Config(channels=128, n_blocks=8, n_layers=4, head_dim=32),
    "prose-published": Config(),
}


@dataclass(frozen=True)
class Recipe(AbstractRecipe):
    """How to train. The published recipe: 500,000 steps of 512 at 1e-4."""

    config: str = "prose-mini"
    out: str = "prose-trained"

    @property
    def sizes(self) -> Collection[str]:
        return SIZES
