"""TBG's weights on disk, and published state dicts under our names.

A weights file is one safetensors file with the sizes (`config`) and the `card` beside the tensors, which are
named after the attributes of `network.Field`. Published ECNF weights are state dicts with other names; sizes
are read off the shapes of their tensors.
"""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import Tensor

import bgbench
from bgbench_tbg.network import ATOM_TYPES, RESIDUE_TYPES, Field, FieldConfig
from bgbench_training.weights import LoadedNetwork, fill, read, write

PUBLISHED_NAMES = {
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
    """The field and the card of a file that `save` wrote.

    Raises:
        BgbenchError: if the file is missing, damaged, or not one of TBG's.
    """
    file = read(path, "TBG")
    try:
        field = Field(FieldConfig(**file.metadata["config"]))
    except TypeError as error:
        raise bgbench.BgbenchError(f"{path} holds no TBG weights ({error})") from error
    fill(field, file.tensors, str(path))
    return LoadedNetwork(field.eval(), file.metadata.get("card", {}), file.sha256)


def from_published(state: Mapping[str, Tensor]) -> Field:
    """A field from a state dict under the published names.

    `embedding_out` and the last layer's `node_mlp` are left out: nothing that moves an atom reads them.

    Raises:
        BgbenchError: naming what is missing, unexpected or mis-shaped.
    """
    if "egnn.embedding.weight" not in state:
        raise bgbench.BgbenchError("no egnn.embedding.weight: these are not published ECNF weights")
    n_layers = len({name.split(".")[1] for name in state if name.startswith("egnn.gcl_")})
    unused = ("egnn.embedding_out.", f"egnn.gcl_{n_layers - 1}.node_mlp.")
    channels, n_inputs = state["egnn.embedding.weight"].shape
    field = Field(FieldConfig(channels, n_layers, *infer_lengths(n_inputs)))
    tensors = {own_name(name): tensor for name, tensor in state.items() if not name.startswith(unused)}
    fill(field, tensors, "published weights")
    return field.eval()


def infer_lengths(n_inputs: int) -> tuple[int, int]:
    """Residues of the shortest and the longest peptide of a field with `n_inputs` inputs an atom.

    Published fields know peptides of two residues alone, or of two to L.

    Raises:
        BgbenchError: for a number that no such field has.
    """
    of_lengths = n_inputs - ATOM_TYPES - RESIDUE_TYPES - 1
    if of_lengths == 2:
        return 2, 2
    if of_lengths < 5 or of_lengths % 2 == 0:
        raise bgbench.BgbenchError(f"published weights: {n_inputs} inputs an atom fit no range of lengths")
    return 2, (of_lengths + 1) // 2


def own_name(published: str) -> str:
    """Our name of a published entry. Unknown names are returned as they are, and `fill` refuses them."""
    parts = published.split(".")
    if parts[:2] == ["egnn", "embedding"]:
        return ".".join(parts[1:])
    if parts[0] != "egnn" or not parts[1].startswith("gcl_"):
        return published
    module, tensor = ".".join(parts[2:-1]), parts[-1]
    if module not in PUBLISHED_NAMES:
        return published
    return f"layers.{parts[1].removeprefix('gcl_')}.{PUBLISHED_NAMES[module]}.{tensor}"
