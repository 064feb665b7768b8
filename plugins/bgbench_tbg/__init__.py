"""TBG: the transferable continuous flow of arXiv 2406.14426, and its larger kin ECNF++, written anew."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import bgbench
from bgbench_tbg.flow import Solver, Trace
from bgbench_tbg.network import Field
from bgbench_tbg.sampler import TBGSampler
from bgbench_tbg.weights import load, read_published, save
from bgbench_training.weights import declared, kept, obtained

DEFAULT = "tbg-mini"


@kept
def weights(named: str) -> tuple[Field, dict[str, Any], str]:
    """The field, its card and the sha256 of its file: a packaged name, a path, or a hub address.

    Raises:
        BgbenchError: if the file is not at hand, damaged, or no TBG weights.
    """
    return obtained(named, load, read_published)


@dataclass(frozen=True)
class Options:
    """Options of `tbg`."""

    weights: str = DEFAULT
    """Weights: a packaged name, a file, or an address on the hub."""
    trace: Trace = "exact"
    """Divergence of the field: exact, or hutchinson's estimate, with which log_q is one too."""
    tolerance: float = Solver.tolerance
    """Absolute and relative tolerance of the ODE solver."""

    def __post_init__(self) -> None:
        Solver(self.tolerance)  # raises for a tolerance out of range


def parse(options: Mapping[str, str]) -> Options:
    """Read the words of `--set`.

    Raises:
        BgbenchError: for an unknown option or value.
    """
    return bgbench.parse_options(Options, options, owner="tbg")


def build(options: Mapping[str, str]) -> TBGSampler:
    """The sampler with its weights."""
    parsed = parse(options)
    field = weights(parsed.weights)[0]
    return TBGSampler(field, Solver(parsed.tolerance), parsed.trace)


def card(options: Mapping[str, str]) -> bgbench.Card:
    """The card inside the weights file."""
    field, metadata, digest = weights(parse(options).weights)
    return declared(metadata, "tbg", field.n_parameters(), digest)


def import_weights(source: Path, target: Path) -> Path:
    """`bgbench weights import tbg`: a published state dict → our safetensors, checked entry by entry."""
    save(target, read_published(source), {"name": source.stem, "notes": f"imported from {source.name}"})
    return target


def train_tbg(options: Mapping[str, str]) -> Path:
    """`bgbench train tbg`; Lightning is imported here and nowhere on the evaluation path."""
    from bgbench_tbg.training import train

    return train(options)


@bgbench.hookimpl
def bgbench_samplers() -> Sequence[bgbench.SamplerPlugin]:
    """tbg."""
    return [
        bgbench.SamplerPlugin(
            name="tbg",
            summary="continuous normalizing flow, an equivariant field over atoms",
            build=build,
            card=card,
            estimator="snis",
            citation="arXiv 2406.14426",
            train=train_tbg,
            import_weights=import_weights,
        )
    ]


__all__ = ["TBGSampler", "bgbench_samplers"]
