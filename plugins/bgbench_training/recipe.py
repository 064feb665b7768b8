"""Options that `bgbench train` takes for every sampler."""

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import bgbench

OPTIMIZERS = ("adamw", "muon")


@dataclass(frozen=True)
class AbstractRecipe(ABC):
    """How to train; a sampler gives its own defaults and its `sizes`.

    `data`: folders of training peptides, separated by commas. `batch` frames are one gradient, made of
    `accumulate` passes on each of `devices`; `validation` is a folder of validation peptides, looked at
    every `validate_every` steps; `track` is an MLflow address. `optimizer` is adamw or muon, which steps
    matrices at `matrix_lr` and the rest at `lr`; `start` is a weights file to begin from.
    """

    config: str = ""
    data: str = "training"
    out: str = "trained"
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
    optimizer: str = OPTIMIZERS[0]
    matrix_lr: float = 0.02
    start: str = ""

    @property
    @abstractmethod
    def sizes(self) -> Collection[str]:
        """Names that `config` may have."""

    def __post_init__(self) -> None:
        if self.config not in self.sizes:
            raise bgbench.BgbenchError(f"unknown size '{self.config}'; known: {', '.join(self.sizes)}")
        counts = ("steps", "batch", "save_every", "validate_every", "accumulate", "devices")
        wrong = [f"{name}={getattr(self, name)}" for name in counts if getattr(self, name) < 1]
        if wrong:
            raise bgbench.BgbenchError(f"training option: {', '.join(wrong)}: at least 1")
        if self.optimizer not in OPTIMIZERS:
            raise bgbench.BgbenchError(f"optimizer={self.optimizer}: {' or '.join(OPTIMIZERS)}")
        if self.batch % (self.accumulate * self.devices):
            raise bgbench.BgbenchError(
                f"batch={self.batch} cannot be split into {self.accumulate} passes on {self.devices} devices"
            )

    @property
    def part(self) -> int:
        """Frames of one pass on one device."""
        return self.batch // (self.accumulate * self.devices)

    @property
    def folders(self) -> list[Path]:
        """Folders of training peptides."""
        return [Path(name) for name in self.data.split(",")]

    @classmethod
    def from_options(cls, options: Mapping[str, str]) -> Self:
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
