"""Prose: the autoregressive flow over atoms of arXiv 2508.18175, written anew."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import bgbench
from bgbench_prose.fast import FlowPath
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


@dataclass(frozen=True)
class Options:
    """Options of `prose`."""

    weights: str = DEFAULT
    """Weights: a packaged name, a file, or an address on the hub."""
    path: FlowPath = "plain"
    """Way through the network; bfloat16 is fast on a GPU and inexact, compile needs torch.compile."""


def parse(options: Mapping[str, str]) -> Options:
    """Read the words of `--set`.

    Raises:
        BgbenchError: for an unknown option or value.
    """
    return bgbench.parse_options(Options, options, owner="prose")


def build(options: Mapping[str, str]) -> ProseSampler:
    """The sampler with its weights."""
    parsed = parse(options)
    flow, metadata, _ = weights(parsed.weights)
    return ProseSampler(flow, parsed.path, metadata)


def card(options: Mapping[str, str]) -> bgbench.Card:
    """The card inside the weights file."""
    flow, metadata, digest = weights(parse(options).weights)
    return declared(metadata, "prose", flow.n_parameters(), digest)


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
