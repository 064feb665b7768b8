"""What can be trained and how: sizes by name, and the options of `bgbench train prose`."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import bgbench
from bgbench_prose.network import Config

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
class Recipe:
    """How to train. The published recipe: 500,000 steps of 512 at 1e-4.

    `batch` frames are one gradient, made of `accumulate` passes on each of `devices`; `validation` is a
    folder of validation peptides, looked at every `validate_every` steps; `track` is an MLflow address.
    """

    config: str = "prose-mini"
    data: str = "training"
    out: str = "prose-trained"
    steps: int = 5_000
    batch: int = 64
    lr: float = 1e-3
    seed: int = 0
    save_every: int = 250
    validation: str = ""
    validate_every: int = 500
    accumulate: int = 1
    devices: int = 1
    track: str = ""

    def __post_init__(self) -> None:
        if self.config not in SIZES:
            raise bgbench.BgbenchError(f"unknown size '{self.config}'; known: {', '.join(SIZES)}")
        counts = ("steps", "batch", "save_every", "validate_every", "accumulate", "devices")
        wrong = [f"{name}={getattr(self, name)}" for name in counts if getattr(self, name) < 1]
        if wrong:
            raise bgbench.BgbenchError(f"training option: {', '.join(wrong)}: at least 1")
        if self.batch % (self.accumulate * self.devices):
            raise bgbench.BgbenchError(
                f"batch={self.batch} cannot be split into {self.accumulate} passes on {self.devices} devices"
            )

    @property
    def part(self) -> int:
        """Frames of one pass on one device."""
        return self.batch // (self.accumulate * self.devices)

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
