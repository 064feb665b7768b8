"""Verse: an autoregressive flow over bond lengths, angles and dihedrals, in local frames."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import bgbench
from bgbench_training.weights import declared, kept, packaged
from bgbench_verse.sampler import VerseSampler
from bgbench_verse.weights import TrainedVerse, load

DEFAULT = "verse-mini"


@kept
def weights(named: str) -> TrainedVerse:
    """The trained network: a packaged name or a path.

    Raises:
        BgbenchError: if the file is not at hand, damaged, or no Verse weights.
    """
    path = Path(named)
    return load(path if path.suffix == ".safetensors" else packaged(named))


def chosen(options: Mapping[str, str]) -> TrainedVerse:
    """The option `weights`.

    Raises:
        BgbenchError: for another option.
    """
    unknown = sorted(set(options) - {"weights"})
    if unknown:
        raise bgbench.BgbenchError(f"verse has no option {', '.join(unknown)}; it has weights")
    return weights(options.get("weights", DEFAULT))


def card(options: Mapping[str, str]) -> bgbench.Card:
    """The card inside the weights file."""
    trained = chosen(options)
    return declared(trained.card, "verse", trained.net.n_parameters(), trained.sha256)


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
            build=lambda options: VerseSampler(chosen(options)),
            card=card,
            estimator="snis",
            citation="bgbench, this repository",
            train=train_verse,
        )
    ]


__all__ = ["VerseSampler", "bgbench_samplers"]
