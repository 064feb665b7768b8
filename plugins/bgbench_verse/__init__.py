"""Verse: an autoregressive flow over bond lengths, angles and dihedrals, in local frames."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import bgbench
from bgbench_training.weights import weights_path
from bgbench_verse.sampler import VerseSampler
from bgbench_verse.weights import TrainedVerse, load

DEFAULT = "verse-mini"


def weights(named: str) -> TrainedVerse:
    """The trained network: a packaged name or a path.

    Raises:
        BgbenchError: if the file is not at hand, damaged, or no Verse weights.
    """
    return load(weights_path(named))


@dataclass(frozen=True)
class Options:
    """Options of `verse`."""

    weights: str = DEFAULT
    """Weights: a packaged name or a file."""


def build(options: Mapping[str, str]) -> VerseSampler:
    """Build the sampler with its weights.

    Raises:
        BgbenchError: for an unknown option or value; for weights that are missing or damaged.
    """
    return VerseSampler(weights(bgbench.parse_options(Options, options, owner="verse").weights))


def train_verse(options: Mapping[str, str]) -> Path:
    """`bgbench train verse`; Lightning is imported here and nowhere on the evaluation path."""
    from bgbench_verse.training import train

    return train(options)


@bgbench.hookimpl
def bgbench_samplers() -> Sequence[bgbench.SamplerPlugin]:
    """verse."""
    return [
        bgbench.SamplerPlugin(
            name="verse",
            summary="autoregressive flow over internal coordinates, atom by atom",
            build=build,
            options=Options,
            estimator="snis",
            citation="bgbench, this repository",
            train=train_verse,
        )
    ]


__all__ = ["VerseSampler", "bgbench_samplers"]
