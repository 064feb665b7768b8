"""Options that `bgbench train` takes for every sampler."""

import math
from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self, get_args

import bgbench
import bgbench.data

Optimizer = Literal["adamw", "muon"]
OPTIMIZERS: tuple[Optimizer, ...] = get_args(Optimizer)
Precision = Literal["float32", "bfloat16"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)
Compile = Literal["auto", "true", "false"]
COMPILE: tuple[Compile, ...] = get_args(Compile)


@dataclass(frozen=True)
class AbstractRecipe(ABC):
    """How to train: the options of `bgbench train`. A sampler has its own defaults and its `sizes`.

    `batch` frames are one gradient, made of `accumulate` passes on each of `devices`.
    """

    config: str = ""
    """Size of the network, by name."""
    data: str = "training"
    """Folders of training peptides, separated by commas."""
    out: str = "trained"
    """Folder for checkpoints and weights."""
    steps: int = 5_000
    """Gradient steps."""
    batch: int = 64
    """Frames a gradient step."""
    lr: float = 1e-3
    """Highest learning rate of the one-cycle schedule."""
    seed: int = 0
    """Seed of initial weights and batches."""
    save_every: int = 250
    """Steps between checkpoints."""
    validation: str = ""
    """Folder of validation peptides; empty: no validation."""
    validate_every: int = 500
    """Steps between validations."""
    accumulate: int = 1
    """Passes on each device whose gradients make one step, for batches that memory does not hold."""
    device: str = "auto"
    """Where to train: auto (a GPU where there is one), cpu, cuda or cuda:K (`--device`)."""
    devices: int = 1
    """Devices to train on, of that kind."""
    precision: Precision = "float32"
    """bfloat16 multiplies matrices in it; weights, densities and the loss stay in float32."""
    compile: Compile = "auto"
    """Whether torch.compile makes kernels of the network: auto does on a GPU, for networks that allow it."""
    track: str = ""
    """MLflow address for the curves; empty: none."""
    optimizer: Optimizer = "adamw"
    """muon steps matrices at matrix_lr and everything else as adamw does, at lr."""
    matrix_lr: float = 0.02
    """Highest learning rate of matrices, with muon."""
    start: str = ""
    """Weights file to start from; empty: random weights."""

    @property
    @abstractmethod
    def sizes(self) -> Collection[str]:
        """Names that `config` may have."""

    @property
    def precisions(self) -> Collection[Precision]:
        """What `precision` may be: float32 alone, where matrix products make positions."""
        return PRECISIONS

    def __post_init__(self) -> None:
        bgbench.data.refuse_unknown_word("config", self.config, self.sizes)
        bgbench.data.refuse_unknown_word("optimizer", self.optimizer, OPTIMIZERS)
        bgbench.data.refuse_unknown_word("precision", self.precision, self.precisions)
        bgbench.data.refuse_unknown_word("compile", self.compile, COMPILE)
        bgbench.data.find_device(self.device)
        if self.device.startswith("cuda:") and self.devices > 1:
            raise bgbench.BgbenchError(
                f"device={self.device} is one GPU, and devices={self.devices}; write device=cuda for several"
            )
        for name in ("steps", "batch", "save_every", "validate_every", "accumulate", "devices"):
            if getattr(self, name) < 1:
                raise bgbench.BgbenchError(f"{name} must be 1 or more, got {getattr(self, name)}")
        for name in ("lr", "matrix_lr"):
            if not 0 < getattr(self, name) < math.inf:
                raise bgbench.BgbenchError(f"{name} must be positive, got {getattr(self, name):g}")
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
        return [Path(name.strip()) for name in self.data.split(",") if name.strip()]

    @classmethod
    def build(cls, options: Mapping[str, str]) -> Self:
        """Build the recipe from the words of `bgbench train SAMPLER --set NAME=VALUE`.

        Raises:
            BgbenchError: for an unknown option or value.
        """
        return bgbench.parse_options(cls, options, owner="bgbench train")
