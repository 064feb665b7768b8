"""TBG: the transferable continuous flow of arXiv 2406.14426, and its larger kin ECNF++, written anew."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import bgbench
from bgbench_tbg.flow import Solver, Trace
from bgbench_tbg.sampler import TBGSampler
from bgbench_tbg.weights import from_published, load, save
from bgbench_training.weights import load_weights, make_card, read_published

DEFAULT = "tbg-mini"


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


def build(options: Mapping[str, str]) -> TBGSampler:
    """Build the sampler with its weights.

    Raises:
        BgbenchError: for an unknown option or value; for weights that are missing or damaged.
    """
    parsed = bgbench.parse_options(Options, options, owner="tbg")
    loaded = load_weights(parsed.weights, load, from_published)
    card = make_card(loaded.card, "tbg", loaded.network.n_parameters(), loaded.sha256)
    return TBGSampler(loaded.network, Solver(parsed.tolerance), parsed.trace, card)


def import_weights(source: Path, target: Path) -> Path:
    """`bgbench weights import tbg`: a published state dict → our safetensors, checked entry by entry."""
    field = from_published(read_published(source).tensors)
    save(target, field, {"name": source.stem, "notes": f"imported from {source.name}"})
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
            options=Options,
            estimator="snis",
            citation="arXiv 2406.14426",
            train=train_tbg,
            import_weights=import_weights,
        )
    ]


__all__ = ["TBGSampler", "bgbench_samplers"]
