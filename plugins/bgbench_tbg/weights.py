"""Weights on disk, and published state dicts brought over."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import Tensor

import bgbench
from bgbench_tbg.network import ATOM_KINDS, RESIDUE_KINDS, Config, Field
from bgbench_training.weights import LoadedNetwork, fill, read, write

NAMES = {
    "edge_mlp.0": "edge_in",
    "edge_mlp.2": "edge_out",
    "node_mlp.0": "node_in",
    "node_mlp.2": "node_out",
    "coord_mlp.0": "step_in",
    "coord_mlp.2": "step_out",
    "att_mlp.0": "attention",
}
"""Published names within `egnn.gcl_k`, and ours within `layers.k`."""


def save(path: Path, field: Field, card: Mapping[str, Any]) -> None:
    """Write weights and card to one safetensors file."""
    write(path, field, {"config": asdict(field.config), "card": dict(card)})


def load(path: Path) -> LoadedNetwork[Field]:
    """The field and the card of a file written by `save`.

    Raises:
        BgbenchError: if the file is missing, damaged, or not one of ours.
    """
    file = read(path, "TBG")
    try:
        field = Field(Config(**file.metadata["config"]))
    except TypeError as error:
        raise bgbench.BgbenchError(f"{path} holds no TBG weights ({error})") from error
    fill(field, file.tensors, str(path))
    return LoadedNetwork(field.eval(), file.metadata.get("card", {}), file.sha256)


def from_published(state: Mapping[str, Tensor]) -> Field:
    """A field from a state dict under the published names; sizes are read off the shapes.

    `embedding_out` and the last layer's `node_mlp` are left out: they feed nothing that moves an atom.

    Raises:
        BgbenchError: naming what is missing, unexpected or mis-shaped.
    """
    if "egnn.embedding.weight" not in state:
        raise bgbench.BgbenchError("no egnn.embedding.weight: these are not published ECNF weights")
    n_layers = len({name.split(".")[1] for name in state if name.startswith("egnn.gcl_")})
    idle = ("egnn.embedding_out.", f"egnn.gcl_{n_layers - 1}.node_mlp.")
    channels, n_inputs = state["egnn.embedding.weight"].shape
    config = Config(channels, n_layers, *lengths(n_inputs))
    field = Field(config)
    used = {renamed(name): tensor for name, tensor in state.items() if not name.startswith(idle)}
    fill(field, used, "published weights")
    return field.eval()


def lengths(n_inputs: int) -> tuple[int, int]:
    """Shortest and longest peptide of a field with `n_inputs` numbers an atom.

    Published fields know peptides of two residues alone, or of two to L.

    Raises:
        BgbenchError: for a number that no such field has.
    """
    left = n_inputs - ATOM_KINDS - RESIDUE_KINDS - 1
    if left == 2:
        return 2, 2
    if left < 5 or left % 2 == 0:
        raise bgbench.BgbenchError(f"published weights: {n_inputs} inputs an atom fit no range of lengths")
    return 2, (left + 1) // 2


def renamed(name: str) -> str:
    """Our name for a published entry; unknown names stay, to be complained of."""
    parts = name.split(".")
    if parts[:2] == ["egnn", "embedding"]:
        return ".".join(parts[1:])
    if parts[0] != "egnn" or not parts[1].startswith("gcl_"):
        return name
    inner, kind = ".".join(parts[2:-1]), parts[-1]
    return f"layers.{parts[1].removeprefix('gcl_')}.{NAMES[inner]}.{kind}" if inner in NAMES else name
