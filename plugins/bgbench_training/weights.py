"""Weights on disk: safetensors with configuration and card inside; state dicts, checked entry by entry.

A file is read once, as bytes: the hash in the record is that of the very bytes that the tensors came from.
"""

import hashlib
import io
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

import bgbench
import bgbench.data

Net = TypeVar("Net", bound=nn.Module)

HEADER_BYTES = 8
"""A safetensors file begins with the length of its JSON header in so many bytes, little-endian."""


@dataclass(frozen=True)
class WeightsFile:
    """What a weights file holds.

    Attributes:
        metadata: values that `write` stored beside the tensors; empty for published state dicts.
        tensors: by name.
        sha256: of the file, hex.
    """

    metadata: Mapping[str, Any]
    tensors: Mapping[str, Tensor]
    sha256: str


@dataclass(frozen=True)
class LoadedNetwork(Generic[Net]):
    """A network that was read from weights.

    Attributes:
        network: in evaluation mode.
        card: what the weights file says of its training, as `bgbench train` wrote it.
        sha256: of the file, hex.
    """

    network: Net
    card: Mapping[str, Any]
    sha256: str


def write(path: Path, network: nn.Module, metadata: Mapping[str, Any]) -> None:
    """Write a network's tensors and its metadata, each entry as JSON, to one file."""
    state = {name: tensor.cpu().contiguous() for name, tensor in network.state_dict().items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    safetensors.torch.save_file(state, path, {name: json.dumps(value) for name, value in metadata.items()})


def read(path: Path, sampler: str) -> WeightsFile:
    """Read a file that `write` wrote.

    Args:
        path: the file.
        sampler: whose weights these should be, for messages: "Prose".

    Raises:
        BgbenchError: if the file is missing, damaged, or was not written by `write`.
    """
    try:
        content = path.read_bytes()
        tensors = safetensors.torch.load(content)
        length = int.from_bytes(content[:HEADER_BYTES], "little")
        header = json.loads(content[HEADER_BYTES : HEADER_BYTES + length])
        metadata = {name: json.loads(text) for name, text in header["__metadata__"].items()}
        metadata["config"]
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise bgbench.BgbenchError(
            f"{path} holds no {sampler} weights ({error}); train some with `bgbench train {sampler.lower()}` "
            "or use `bgbench weights import`"
        ) from error
    return WeightsFile(metadata, tensors, hashlib.sha256(content).hexdigest())


def read_published(path: Path) -> WeightsFile:
    """Read a published state dict, as float32, from a `.pth` or `.safetensors` file.

    Nothing is unpickled but tensors.

    Raises:
        BgbenchError: if the file is missing or holds anything but tensors by name.
    """
    try:
        content = path.read_bytes()
        if path.suffix == ".safetensors":
            state = safetensors.torch.load(content)
        else:
            state = torch.load(io.BytesIO(content), "cpu", weights_only=True)
    except Exception as error:
        raise bgbench.BgbenchError(f"{path} is no state dict of tensors ({error})") from error
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise bgbench.BgbenchError(f"{path} holds more than tensors; give a plain state dict")
    tensors = {name: tensor.float() for name, tensor in state.items()}
    return WeightsFile({}, tensors, hashlib.sha256(content).hexdigest())


def build_empty(build: Callable[[], Net]) -> Net:
    """Build a network whose parameters hold nothing yet, for `fill`: no time goes into random weights."""
    with torch.device("meta"):
        network = build()
    return network.to_empty(device="cpu")


def fill(network: nn.Module, tensors: Mapping[str, Tensor], source: str) -> None:
    """Put tensors into the network, checked name by name and shape by shape.

    Args:
        network: its parameters are overwritten.
        tensors: by name.
        source: where they come from, for messages.

    Raises:
        BgbenchError: naming missing, unexpected and mis-shaped entries.
    """
    wanted = network.state_dict()
    wrong = [f"missing {name}" for name in wanted if name not in tensors]
    wrong += [f"unexpected {name}" for name in tensors if name not in wanted]
    wrong += [
        f"{name} is {tuple(tensors[name].shape)}, not {tuple(wanted[name].shape)}"
        for name in wanted
        if name in tensors and tensors[name].shape != wanted[name].shape
    ]
    if wrong:
        raise bgbench.BgbenchError(f"{source}: {len(wrong)} entries do not fit: {'; '.join(wrong[:5])}")
    network.load_state_dict(dict(tensors))


def packaged_path(name: str) -> Path:
    """The path of packaged weights, there or not."""
    return bgbench.data.data_path("weights", f"{name}.safetensors")


def weights_path(name: str) -> Path:
    """The file that `--set weights=NAME` names: a `.safetensors` file, or packaged weights.

    Raises:
        BgbenchError: for a file with another ending, and for an unknown name.
    """
    path = Path(name)
    if path.suffix == ".safetensors":
        return path
    if len(path.parts) == 1 and packaged_path(name).is_file():
        return packaged_path(name)
    packaged = sorted(path.stem for path in packaged_path("any").parent.glob("*.safetensors"))
    raise bgbench.BgbenchError(
        f"weights={name}: neither packaged weights nor a file that ends in .safetensors, as `bgbench train` "
        "writes it; published weights (.pth) are converted by `bgbench weights import`"
        f"{bgbench.data.describe_known(name, packaged, 'packaged')}"
    )


def load_weights(
    name: str,
    load: Callable[[Path], LoadedNetwork[Net]],
    from_published: Callable[[Mapping[str, Tensor]], Net],
) -> LoadedNetwork[Net]:
    """Load the network that `--set weights=NAME` names.

    Args:
        name: a packaged name, a file, or an address on the hub.
        load: reads a file of ours.
        from_published: makes a network of a state dict under its published names.

    Raises:
        BgbenchError: if the file is missing, damaged, or not what is expected.
    """
    if bgbench.data.is_hub_address(name):
        fetched = bgbench.data.fetch(name)
        file = read_published(fetched.path)
        card = {"name": name, "notes": f"published weights, commit {fetched.commit}"}
        return LoadedNetwork(from_published(file.tensors), card, file.sha256)
    path = Path(name)
    if path.suffix == ".pth":
        file = read_published(path)
        card = {"name": path.name, "notes": "published weights"}
        return LoadedNetwork(from_published(file.tensors), card, file.sha256)
    return load(weights_path(name))


def make_card(stored: Mapping[str, Any], sampler: str, n_parameters: int, sha256: str) -> bgbench.Card:
    """Make a sampler's card from what its weights file says.

    Args:
        stored: the card inside the weights file; what it does not say counts as none.
        sampler: the name, where the weights have none.
        n_parameters: trainable numbers of the network.
        sha256: of the weights file, hex; empty for weights that were not read from one.
    """
    return bgbench.Card(
        name=str(stored.get("name", sampler)),
        training_sequences=tuple(stored.get("training_sequences", ())),
        training_evaluations=int(stored.get("training_evaluations", 0)),
        training_hours=float(stored.get("training_hours", 0.0)),
        n_parameters=n_parameters,
        weights_sha256=sha256,
        notes=str(stored.get("notes", "")),
    )
