"""Weights on disk: safetensors with configuration and card inside; state dicts, checked entry by entry."""

import hashlib
import json
from collections.abc import Callable, Mapping
from functools import lru_cache, wraps
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import bgbench
import bgbench.data

Net = TypeVar("Net", bound=nn.Module)
Found = TypeVar("Found")


def write(path: Path, network: nn.Module, told: Mapping[str, Any]) -> None:
    """Write a network's tensors and what is `told` about it, each entry as JSON, to one file."""
    state = {name: tensor.contiguous() for name, tensor in network.state_dict().items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(state, path, {name: json.dumps(value) for name, value in told.items()})


def read(path: Path, whose: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """What `write` wrote: what was told, and the tensors. `whose` names the sampler in messages.

    Raises:
        BgbenchError: if the file is missing, damaged, or not one of ours.
    """
    try:
        with safe_open(path, "pt") as stream:
            told = {name: json.loads(text) for name, text in (stream.metadata() or {}).items()}
        told["config"]
        return told, load_file(path)
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise bgbench.BgbenchError(
            f"{path} holds no {whose} weights ({error}); train some with `bgbench train {whose.lower()}` "
            "or use `bgbench weights import`"
        ) from error


def fill(network: nn.Module, state: Mapping[str, Tensor], source: str) -> None:
    """Put `state` into the network, checked key by key and shape by shape.

    Raises:
        BgbenchError: naming missing, unexpected and mis-shaped entries.
    """
    wanted = network.state_dict()
    wrong = [f"missing {name}" for name in wanted if name not in state]
    wrong += [f"unexpected {name}" for name in state if name not in wanted]
    wrong += [
        f"{name} is {tuple(state[name].shape)}, not {tuple(wanted[name].shape)}"
        for name in wanted
        if name in state and state[name].shape != wanted[name].shape
    ]
    if wrong:
        raise bgbench.BgbenchError(f"{source}: {len(wrong)} entries do not fit: {'; '.join(wrong[:5])}")
    network.load_state_dict(dict(state))


def read_state(path: Path) -> dict[str, Tensor]:
    """A state dict from a `.pth` or `.safetensors` file, float32; nothing is unpickled but tensors.

    Raises:
        BgbenchError: if the file is no state dict of tensors.
    """
    try:
        state = (
            load_file(path) if path.suffix == ".safetensors" else torch.load(path, "cpu", weights_only=True)
        )
    except Exception as error:
        raise bgbench.BgbenchError(f"{path} is no state dict of tensors ({error})") from error
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise bgbench.BgbenchError(f"{path} holds more than tensors; give a plain state dict")
    return {name: tensor.float() for name, tensor in state.items()}


def sha256(path: Path) -> str:
    """Hash of a weights file, hex."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def packaged(name: str) -> Path:
    """Path of packaged weights."""
    return bgbench.data_path("weights", f"{name}.safetensors")


def kept(read: Callable[[str], Found]) -> Callable[[str], Found]:
    """`read`, remembered for the last four weights for as long as their files stay as they are."""

    @lru_cache(maxsize=4)
    def remembered(named: str, written: int) -> Found:
        del written
        return read(named)

    @wraps(read)
    def reading(named: str) -> Found:
        path = Path(named)
        return remembered(named, path.stat().st_mtime_ns if path.is_file() else 0)

    return reading


def obtained(
    named: str,
    ours: Callable[[Path], tuple[Net, dict[str, Any]]],
    published: Callable[[Path], Net],
) -> tuple[Net, dict[str, Any], str]:
    """A network, its card and the sha256 of its file: of a packaged name, a path, or a hub address.

    `ours` reads our files, `published` a state dict under its published names.

    Raises:
        BgbenchError: if the file is not at hand, damaged, or not what the readers read.
    """
    if bgbench.data.is_hub_address(named):
        found = bgbench.data.fetch(named)
        told = {"name": named, "notes": f"published weights, commit {found.commit}"}
        return published(found.path), told, found.sha256
    path = Path(named)
    if path.suffix == ".pth":
        return published(path), {"name": path.name, "notes": "published weights"}, sha256(path)
    path = path if path.suffix == ".safetensors" else packaged(named)
    network, told = ours(path)
    return network, told, sha256(path)


def declared(told: Mapping[str, Any], sampler: str, n_parameters: int, digest: str) -> bgbench.Card:
    """The card inside a weights file as bgbench reads it."""
    return bgbench.Card(
        name=str(told.get("name", sampler)),
        training_sequences=tuple(told.get("training_sequences", ())),
        training_evaluations=int(told.get("training_evaluations", 0)),
        training_hours=float(told.get("training_hours", 0.0)),
        n_parameters=n_parameters,
        weights_sha256=digest,
        notes=str(told.get("notes", "")),
    )
