"""Prose: the autoregressive flow over atoms of arXiv 2508.18175, written anew."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import bgbench
from bgbench_prose.network import Prose
from bgbench_prose.sampler import ProseSampler
from bgbench_prose.weights import load, read_published, save
from bgbench_training.weights import declared, kept, obtained

DEFAULT = "prose-mini"


@kept
def weights(named: str) -> tuple[Prose, dict[str, Any], str]:
    """The flow, its card and the sha256 of its file: a packaged name, a path, or a hub address.

    Raises:
        BgbenchError: if the file is not at hand, damaged, or no Prose weights.
    """
    return obtained(named, load, read_published)


def chosen(options: Mapping[str, str]) -> str:
    """The option `weights`.

    Raises:
        BgbenchError: for an option that prose does not have.
    """
    unknown = sorted(set(options) - {"weights", "path"})
    if unknown:
        known = "weights, path, temperature"
        raise bgbench.BgbenchError(f"prose has no option {', '.join(unknown)}; it has {known}")
    return options.get("weights", DEFAULT)


def build(options: Mapping[str, str]) -> ProseSampler:
    """The sampler with its weights."""
    flow, told, _ = weights(chosen(options))
    return ProseSampler(flow, options.get("path", "plain"), told)


def card(options: Mapping[str, str]) -> bgbench.Card:
    """The card inside the weights file."""
    flow, told, digest = weights(chosen(options))
    return declared(told, "prose", flow.n_parameters(), digest)


def import_weights(source: Path, target: Path) -> Path:
    """`bgbench weights import prose`: a published state dict → our safetensors, checked entry by entry."""
    save(target, read_published(source), {"name": source.stem, "notes": f"imported from {source.name}"})
    return target


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
            import_weights=import_weights,
        )
    ]


__all__ = ["ProseSampler", "bgbench_samplers"]
