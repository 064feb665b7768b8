"""Networks, and what they read of a peptide, on the device where they compute."""

from collections.abc import Callable
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

    def move(tensor: Tensor) -> Tensor:
        # From pinned memory a GPU copies while the CPU goes on.
        pin = device.type == "cuda" and tensor.device.type == "cpu"
        return (_pin(tensor) if pin else tensor).to(device, non_blocking=pin)

    return _mapped(value, move)


def pinned(value: Value) -> Value:
    """A copy in memory that a GPU copies from by itself, of what `moved` takes."""
    return _mapped(value, _pin)


def _pin(tensor: Tensor) -> Tensor:
    return tensor if tensor.is_pinned() else tensor.pin_memory()


def _mapped(value: Value, function: Callable[[Tensor], Tensor]) -> Value:
    result: Any = value
    if isinstance(value, Tensor):
        result = function(value)
    elif is_dataclass(value) and not isinstance(value, type):
        parts = {field.name: _mapped(getattr(value, field.name), function) for field in fields(value)}
        result = type(value)(**parts)
    elif isinstance(value, tuple):
        result = tuple(_mapped(part, function) for part in value)
    return result
