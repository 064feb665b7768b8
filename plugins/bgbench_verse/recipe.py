"""How `bgbench train verse` trains: options and sizes."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import bgbench
from bgbench_verse.network import Config

SIZES = {
    "verse-tiny": {"width": 48, "n_layers": 2, "geometry": 16},
    "verse-mini": {"width": 96, "n_layers": 3, "geometry": 24},
    "verse-midi": {"width": 144, "n_layers": 4, "geometry": 32},
}


@dataclass(frozen=True)
class Recipe:
    """`data`: folders of training peptides, separated by commas."""

    config: str = "verse-mini"
    data: str = "training"
    out: str = "verse-trained"
    steps: int = 10_000
    batch: int = 128
    lr: float = 2e-3
    seed: int = 0
    save_every: int = 250
    validation: str = ""
    validate_every: int = 500

    def __post_init__(self) -> None:
        if self.config not in SIZES:
            raise bgbench.BgbenchError(f"unknown size '{self.config}'; known: {', '.join(SIZES)}")
        counts = ("steps", "batch", "save_every", "validate_every")
        wrong = [f"{name}={getattr(self, name)}" for name in counts if getattr(self, name) < 1]
        if wrong:
            raise bgbench.BgbenchError(f"training option: {', '.join(wrong)}: at least 1")

    def network(self, names: int) -> Config:
        """Sizes for a vocabulary of `names` atom names."""
        return Config(names + 1, **SIZES[self.config])

    @classmethod
    def from_options(cls, options: Mapping[str, str]) -> "Recipe":
        """Options as given on the command line.

        Raises:
            BgbenchError: for an unknown option, a value of the wrong kind, or an unknown size.
        """
        kinds = {name: type(value) for name, value in vars(cls()).items()}
        unknown = sorted(set(options) - set(kinds))
        if unknown:
            raise bgbench.BgbenchError(f"no training option {', '.join(unknown)}; known: {', '.join(kinds)}")
        try:
            return replace(cls(), **{name: kinds[name](value) for name, value in options.items()})
        except ValueError as error:
            raise bgbench.BgbenchError(f"training option: {error}") from error
