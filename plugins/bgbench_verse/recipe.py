"""How `bgbench train verse` trains: options and sizes."""

from collections.abc import Collection
from dataclasses import dataclass

from bgbench_training.recipe import AbstractRecipe
from bgbench_verse.network import Config

SIZES = {
    "verse-tiny": {"width": 48, "n_layers": 2, "geometry": 16},
    "verse-mini": {"width": 96, "n_layers": 3, "geometry": 24},
    "verse-midi": {"width": 144, "n_layers": 4, "geometry": 32},
}


@dataclass(frozen=True)
class Recipe(AbstractRecipe):
    """How to train.

    `energies`: share in the loss of how uneven the weights e^(−u)/q of frames are. `favour`: a peptide's
    chance is in proportion to atoms^(−favour); 2 gives every size about the same time, 0 every peptide the
    same chance.
    """

    config: str = "verse-mini"
    out: str = "verse-trained"
    steps: int = 10_000
    batch: int = 128
    lr: float = 2e-3
    energies: float = 0.0
    favour: float = 2.0

    @property
    def sizes(self) -> Collection[str]:
        return SIZES

    def network(self, names: int) -> Config:
        """Sizes for a vocabulary of `names` atom names."""
        return Config(names + 1, **SIZES[self.config])
