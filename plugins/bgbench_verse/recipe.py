"""The options of `bgbench train verse`, and the sizes that can be trained."""

from collections.abc import Collection
from dataclasses import dataclass

from bgbench_training.recipe import PRECISIONS, AbstractRecipe, Precision
from bgbench_verse.network import VerseConfig

SIZES = {
    "verse-tiny": {"width": 48, "n_layers": 2, "geometry": 16},
    "verse-mini": {"width": 96, "n_layers": 3, "geometry": 24},
    "verse-midi": {"width": 144, "n_layers": 4, "geometry": 32},
}


@dataclass(frozen=True)
class VerseRecipe(AbstractRecipe):
    """How Verse is trained."""

    config: str = "verse-mini"
    out: str = "verse-trained"
    steps: int = 10_000
    batch: int = 128
    lr: float = 2e-3
    energies: float = 0.0
    """Weight in the loss of the variance of the log weights −u − log_q of a peptide's frames."""
    favour: float = 2.0
    """A peptide is drawn in proportion to atoms^(−favour): with 2 every size has about the same time, with 0
    every peptide the same chance."""

    @property
    def sizes(self) -> Collection[str]:
        return SIZES

    @property
    def precisions(self) -> Collection[Precision]:
        return PRECISIONS[:1]

    def network_config(self, n_names: int) -> VerseConfig:
        """Sizes of the network for a vocabulary of `n_names` atom names."""
        return VerseConfig(n_names + 1, **SIZES[self.config])
