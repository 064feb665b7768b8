"""Weights on disk: safetensors, with the sizes, the vocabulary, the table and the card inside."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import bgbench
from bgbench_training.weights import fill, read, write
from bgbench_verse.network import Config, Verse


@dataclass(frozen=True)
class Trained:
    """A network with what it needs to read a peptide, its card, and the hash of its file."""

    net: Verse
    vocabulary: Mapping[str, int]
    table: Mapping[str, Sequence[float]]
    card: Mapping[str, Any] = field(default_factory=dict)
    sha256: str = ""


def save(path: Path, trained: Trained) -> None:
    """Write one safetensors file."""
    table = {key: [round(value, 6) for value in row] for key, row in trained.table.items()}
    told = {"vocabulary": dict(trained.vocabulary), "table": table, "card": dict(trained.card)}
    write(path, trained.net, {"config": asdict(trained.net.config), **told})


def load(path: Path) -> Trained:
    """What `save` wrote.

    Raises:
        BgbenchError: if the file is missing, damaged, or not one of ours.
    """
    file = read(path, "Verse")
    told = file.metadata
    missing = sorted({"vocabulary", "table", "card"} - set(told))
    if missing:
        raise bgbench.BgbenchError(f"{path} holds no Verse weights: it tells no {', '.join(missing)}")
    net = Verse(Config(**told["config"]))
    fill(net, file.tensors, str(path))
    return Trained(net.eval(), told["vocabulary"], told["table"], told["card"], file.sha256)
