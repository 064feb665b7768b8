"""TBG: the transferable continuous flow of arXiv 2406.14426, and its larger kin ECNF++, written anew."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import bgbench
from bgbench_tbg.flow import Solver
from bgbench_tbg.network import Field
from bgbench_tbg.sampler import TBGSampler
from bgbench_tbg.weights import load, read_published, save
from bgbench_training.weights import declared, kept, obtained

DEFAULT = "tbg-mini"
OPTIONS = ("weights", "trace", "tolerance")


@kept
def weights(named: str) -> tuple[Field, dict[str, Any], str]:
    """The field, its card and the sha256 of its file: a packaged name, a path, or a hub address.

    Raises:
        BgbenchError: if the file is not at hand, damaged, or no TBG weights.
    """
    return obtained(named, load, read_published)


def chosen(options: Mapping[str, str]) -> str:
    """The option `weights`.

    Raises:
        BgbenchError: for an option that tbg does not have.
    """
    unknown = sorted(set(options) - set(OPTIONS))
    if unknown:
        known = ", ".join(OPTIONS)
        raise bgbench.BgbenchError(f"tbg has no option {', '.join(unknown)}; it has {known}")
    return options.get("weights", DEFAULT)


def build(options: Mapping[str, str]) -> TBGSampler:
    """The sampler with its weights.

    Raises:
        BgbenchError: for an unknown option, or a value it cannot have.
    """
    field = weights(chosen(options))[0]
    given = options.get("tolerance", str(Solver.tolerance))
    try:
        tolerance = float(given)
    except ValueError as error:
        raise bgbench.BgbenchError(f"tbg: tolerance is a number, not '{given}'") from error
    return TBGSampler(field, Solver(tolerance), options.get("trace", "exact"))


def card(options: Mapping[str, str]) -> bgbench.Card:
    """The card inside the weights file."""
    field, told, digest = weights(chosen(options))
    return declared(told, "tbg", field.n_parameters(), digest)


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
