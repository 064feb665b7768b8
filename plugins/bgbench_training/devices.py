"""Networks, and what they read of a peptide, on the device where they compute."""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import fields, is_dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

CPU = torch.device("cpu")

Value = TypeVar("Value")


def device_of(network: nn.Module) -> torch.device:
    """Where the parameters of a network lie."""
    return next(network.parameters()).device


def move_network(network: nn.Module, device: torch.device) -> None:
    """Move the weights unless they are there already."""
    if device_of(network) != device:
        network.to(device)


def without_autocast(x: Tensor) -> AbstractContextManager[Any]:
    """Inside the block operations on the device of x keep the precision of their tensors."""
    kind = x.device.type
    if torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind):
        return torch.autocast(kind, enabled=False)
    return nullcontext()


def moved(value: Value, device: torch.device) -> Value:
    """A copy on `device`: of a tensor, or of a dataclass or plain tuple that holds some, at any
    depth.

    Tensors that lie there already are not copied, and anything else stays as it is.
    """
    result: Any = value
    if isinstance(value, Tensor):
        # From pinned memory a GPU copies while the CPU goes on.
        pin = device.type == "cuda" and value.device.type == "cpu"
        result = (value.pin_memory() if pin else value).to(device, non_blocking=pin)
    elif is_dataclass(value) and not isinstance(value, type):
        parts = {field.name: moved(getattr(value, field.name), device) for field in fields(value)}
        result = type(value)(**parts)
    elif isinstance(value, tuple):
        result = tuple(moved(part, device) for part in value)
    return result
