"""Verse's weights on disk: one safetensors file that holds everything needed to read a peptide.

Beside the tensors it holds, as JSON, the sizes (`config`), the `vocabulary` of atom names, the `table` of the
reference geometry (nm, rad) and the `card`. Tensors are named after the attributes of `network.Verse`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import bgbench
from bgbench_training.weights import fill, read, write
from bgbench_verse.network import Verse, VerseConfig


@dataclass(frozen=True)
class TrainedVerse:
    """A trained network.

    Attributes:
        net: The network.
        vocabulary: Codes of `RES:NAME`, from 1.
        table: Rows of the reference geometry by key, see `reference_geometry`.
        card: What it was trained on and how.
        sha256: Of its file, hex; empty if it was not read from one.
    """

    net: Verse
    vocabulary: Mapping[str, int]
    table: Mapping[str, Sequence[float]]
    card: Mapping[str, Any] = field(default_factory=dict)
    sha256: str = ""


def save(path: Path, trained: TrainedVerse) -> None:
    """Write one safetensors file, the table rounded to six decimals."""
    table = {key: [round(value, 6) for value in row] for key, row in trained.table.items()}
    metadata = {
        "config": asdict(trained.net.config),
        "vocabulary": dict(trained.vocabulary),
        "table": table,
        "card": dict(trained.card),
    }
    write(path, trained.net, metadata)


def load(path: Path) -> TrainedVerse:
    """Read a file that `save` wrote.

    Raises:
        BgbenchError: if the file is missing, damaged, or not one of Verse's.
    """
    file = read(path, "Verse")
    metadata = file.metadata
    missing = sorted({"vocabulary", "table", "card"} - set(metadata))
    if missing:
        raise bgbench.BgbenchError(
            f"{path} holds no Verse weights: {', '.join(missing)} missing from its metadata"
        )
    net = Verse(VerseConfig(**metadata["config"]))
    fill(net, file.tensors, str(path))
    return TrainedVerse(net.eval(), metadata["vocabulary"], metadata["table"], metadata["card"], file.sha256)
