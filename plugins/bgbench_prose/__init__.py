"""Prose: the autoregressive flow over atoms of arXiv 2508.18175, written anew."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import bgbench
from bgbench_prose.fast import FlowPath
from bgbench_prose.sampler import ProseSampler
from bgbench_prose.weights import from_published, load, save
from bgbench_training.weights import load_weights, read_published

DEFAULT = "prose-mini"


@dataclass(frozen=True)
class Options:
    """Options of `prose`."""

    weights: str = DEFAULT
    """Weights: a packaged name, a file, or an address on the hub."""
    path: FlowPath = "plain"
    """Way through the network; bfloat16 is fast on a GPU and inexact, tf32 lies between, compile needs
    torch.compile."""


def build(options: Mapping[str, str]) -> ProseSampler:
    """Build the sampler with its weights.

    Raises:
        BgbenchError: for an unknown option or value; for weights that are missing, damaged or not Prose's.
    """
    parsed = bgbench.parse_options(Options, options, owner="prose")
    loaded = load_weights(parsed.weights, load, from_published)
    return ProseSampler(loaded.network, parsed.path, loaded.card, loaded.sha256)


def import_weights(source: Path, target: Path) -> Path:
    """`bgbench weights import prose`: a published state dict → our safetensors, checked entry by entry."""
    flow = from_published(read_published(source).tensors)
    save(target, flow, {"name": source.stem, "notes": f"imported from {source.name}"})
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
            options=Options,
            estimator="snis",
            citation="arXiv 2508.18175",
            train=train_prose,
            import_weights=import_weights,
        )
    ]


__all__ = ["ProseSampler", "bgbench_samplers"]
