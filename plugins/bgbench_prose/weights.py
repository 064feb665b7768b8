"""Weights on disk: safetensors with the configuration inside; published state dicts brought over."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import Tensor

import bgbench
from bgbench_prose.network import Config, Prose
from bgbench_prose.permutations import PROSE
from bgbench_training.weights import LoadedNetwork, build_empty, fill, read, write


def save(path: Path, flow: Prose, card: Mapping[str, Any]) -> None:
    """Write weights and card to one safetensors file."""
    write(path, flow, {"config": asdict(flow.config), "card": dict(card)})


def load(path: Path) -> LoadedNetwork[Prose]:
    """Read a file that `save` wrote.

    Raises:
        BgbenchError: if the file is missing, damaged, or not one of Prose's.
    """
    file = read(path, "Prose")
    sizes = file.metadata["config"]
    config = Config(**{**sizes, "orders": tuple(sizes["orders"])})
    flow = build_empty(lambda: Prose(config))
    fill(flow, file.tensors, str(path))
    return LoadedNetwork(flow.eval(), file.metadata.get("card", {}), file.sha256)


LAYER_NAMES = {
    "mha.adaln.norm_cond": "adaptive1.norm",
    "mha.adaln.to_gamma.0": "adaptive1.scale",
    "mha.adaln.to_beta": "adaptive1.shift",
    "mha.scale_output.to_adaln_zero_gamma.0": "adaptive1.gate",
    "mha.mha.attention.norm": "norm",
    "mha.mha.attention.qkv": "qkv",
    "mha.mha.attention.proj": "out",
    "mha.mha.attention.q_layer_norm": "q_norm",
    "mha.mha.attention.k_layer_norm": "k_norm",
    "mha.mha.mlp.norm": "mlp_norm",
    "mha.mha.mlp.main.0": "mlp_in",
    "mha.mha.mlp.main.2": "mlp_out",
    "transition.adaln.norm_cond": "adaptive2.norm",
    "transition.adaln.to_gamma.0": "adaptive2.scale",
    "transition.adaln.to_beta": "adaptive2.shift",
    "transition.scale_output.to_adaln_zero_gamma.0": "adaptive2.gate",
    "transition.transition.swish_linear.0": "swish_in",
    "transition.transition.linear_out": "swish_out",
}
TOP_NAMES = {
    "cond_embed.atom_embed": "conditioning.atom",
    "cond_embed.residue_embed": "conditioning.residue",
    "cond_embed.mlp.0": "conditioning.inner",
    "cond_embed.mlp.2": "conditioning.outer",
}
BLOCK_NAMES = {"proj_in": "proj_in", "proj_cond.0": "inner", "proj_cond.2": "outer", "proj_out": "proj_out"}


def from_published(state: Mapping[str, Tensor], head_dim: int = 64) -> Prose:
    """A flow from a state dict under the published names; sizes are read off the shapes.

    Raises:
        BgbenchError: naming what is missing, unexpected or mis-shaped.
    """
    ours = {renamed(name): tensor for name, tensor in state.items() if not name.endswith("attn_mask")}
    sizes = {name: tuple(tensor.shape) for name, tensor in ours.items()}
    if "conditioning.atom.weight" not in sizes:
        raise bgbench.BgbenchError("no cond_embed.atom_embed.weight: these are not published Prose weights")
    channels = sizes["conditioning.atom.weight"][1]
    blocks = {name.split(".")[1] for name in ours if name.startswith("blocks.")}
    layers = {name.split(".")[3] for name in ours if name.startswith("blocks.0.layers.")}
    inner = sizes.get("blocks.0.inner.weight", (0, 2 * channels))
    config = Config(
        channels, len(blocks), len(layers), head_dim, orders=PROSE, lookahead=inner[1] != channels
    )
    flow = build_empty(lambda: Prose(config))
    fill(flow, ours, "published weights")
    return flow.eval()


def renamed(name: str) -> str:
    """Our name for a published entry; unknown names stay, to be complained of."""
    for theirs, own in TOP_NAMES.items():
        if name.startswith(f"{theirs}."):
            return own + name.removeprefix(theirs)
    parts = name.split(".")
    if parts[0] != "blocks" or len(parts) < 3:
        return name
    head, rest = f"blocks.{parts[1]}", ".".join(parts[2:])
    if rest == "pos_embed_scale":
        return f"{head}.position_scale"
    if parts[2] == "attn_blocks":
        head, rest = f"{head}.layers.{parts[3]}", ".".join(parts[4:])
    names = LAYER_NAMES if parts[2] == "attn_blocks" else BLOCK_NAMES
    stem, _, kind = rest.rpartition(".")
    return f"{head}.{names[stem]}.{kind}" if stem in names else name
