"""Prose: the autoregressive flow over atoms of arXiv 2508.18175, written anew."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import bgbench
from bgbench_prose.sampler import ProseSampler, packaged
from bgbench_prose.weights import load, sha256

DEFAULT = "prose-mini"


def weights_path(options: Mapping[str, str]) -> Path:
    """The weights file of the option `weights`: a packaged name or a path.

    Raises:
        BgbenchError: for another option.
    """
    unknown = sorted(set(options) - {"weights"})
    if unknown:
        raise bgbench.BgbenchError(f"prose has no option {', '.join(unknown)}; it has weights, temperature")
    named = options.get("weights", DEFAULT)
    return Path(named) if named.endswith(".safetensors") else packaged(named)


def build(options: Mapping[str, str]) -> ProseSampler:
    """The sampler with its weights."""
    return ProseSampler(load(weights_path(options))[0])


def card(options: Mapping[str, str]) -> bgbench.Card:
    """The card inside the weights file."""
    path = weights_path(options)
    flow, told = load(path)
    return bgbench.Card(
        name=str(told.get("name", path.stem)),
        training_sequences=tuple(told.get("training_sequences", ())),
        training_evaluations=int(told.get("training_evaluations", 0)),
        training_hours=float(told.get("training_hours", 0.0)),
        n_parameters=flow.n_parameters(),
        weights_sha256=sha256(path),
        notes=str(told.get("notes", "")),
    )


def train_prose(options: Mapping[str, str]) -> Path:
    """`bgbench train prose`; Lightning is imported here and nowhere on the evaluation path."""
    from bgbench_prose.training import train

    return train(options)


@bgbench.hookimpl
def bgbench_samplers() -> Sequence[bgbench.SamplerPlugin]:
    """prose."""
    return [
        bgbench.SamplerPlugin(
            name="prose",
            summary="autoregressive normalizing flow over atoms",
            build=build,
            card=card,
            estimator="snis",
            citation="arXiv 2508.18175",
            train=train_prose,
        )
    ]


__all__ = ["ProseSampler", "bgbench_samplers"]
