"""Weights on disk: safetensors, with the sizes, the vocabulary, the table and the card inside."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file

import bgbench
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
    metadata = {
        "config": json.dumps(asdict(trained.net.config)),
        "vocabulary": json.dumps(dict(trained.vocabulary)),
        "table": json.dumps({key: [round(value, 6) for value in row] for key, row in trained.table.items()}),
        "card": json.dumps(dict(trained.card)),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    state = {name: tensor.contiguous() for name, tensor in trained.net.state_dict().items()}
    save_file(state, path, metadata)


def load(path: Path) -> Trained:
    """What `save` wrote.

    Raises:
        BgbenchError: if the file is missing, damaged, or not one of ours.
    """
    try:
        with safe_open(path, "pt") as stream:
            told = stream.metadata() or {}
        parts = {name: json.loads(told[name]) for name in ("config", "vocabulary", "table", "card")}
        net = Verse(Config(**parts["config"]))
        net.load_state_dict(load_file(path))
        with path.open("rb") as content:
            digest = hashlib.file_digest(content, "sha256").hexdigest()
    except (OSError, SafetensorError, KeyError, ValueError, TypeError, RuntimeError) as error:
        raise bgbench.BgbenchError(
            f"{path} holds no Verse weights ({error}); train some with `bgbench train verse`"
        ) from error
    return Trained(net.eval(), parts["vocabulary"], parts["table"], parts["card"], digest)
