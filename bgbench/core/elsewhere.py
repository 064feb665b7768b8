"""A device that is not there: its tensors compute on the CPU, and refuse what a GPU would refuse.

Inside `elsewhere()` tensors can be made on, and moved to, PyTorch's device `meta`, and hold numbers there all
the same. Whatever a GPU would raise for is raised here: a tensor of the CPU in one operation with a tensor
of the device, a generator of the CPU for numbers of the device, and `numpy()` of a tensor that was not moved
back. Control flow that looks at numbers works, and the numbers are those of the CPU, so that a sampler's
draws on the device can be compared with its draws on the CPU. No GPU is needed, and no CUDA build of PyTorch.

As on a GPU, a number (a tensor without dimensions) of the CPU may stand beside tensors of the device, and
rows of the device may be picked by indices of the CPU.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._mode_utils import no_dispatch
from torch.utils._python_dispatch import TorchDispatchMode

from bgbench.core.devices import CPU

DEVICE = torch.device("meta")
"""What the tensors claim. PyTorch has it everywhere and never computes on it."""

_aten = torch.ops.aten
_CROSSINGS = frozenset({_aten._to_copy, _aten.copy_, _aten._copy_from})
"""Operations whose tensors may be of two devices."""
_PICKS = frozenset({_aten.index, _aten.index_put, _aten.index_put_, _aten._index_put_impl_})
"""Operations whose indices may be of the CPU while everything else is of the device."""


@contextmanager
def elsewhere() -> Iterator[torch.device]:
    """Inside the block the device exists; tensors of it that are left over may be moved back later.

    Yields:
        The device, to be the `device` of a `Task` or the argument of `Tensor.to`.

    >>> with elsewhere() as device:
    ...     there = torch.ones(2, device=device)
    ...     print(there.device.type, (2 * there).sum().item())
    ...     there + torch.ones(2)
    Traceback (most recent call last):
    RuntimeError: aten.add.Tensor: expected all tensors to be on the same device, found meta and cpu
    """
    with _Values(), _Factories():
        yield DEVICE


class _There(Tensor):
    """A tensor of the device: `numbers` holds its values on the CPU."""

    numbers: Tensor

    @staticmethod
    def __new__(cls, inner: Tensor) -> "_There":
        made: _There = Tensor._make_wrapper_subclass(
            cls,
            inner.shape,
            strides=inner.stride(),
            storage_offset=inner.storage_offset(),
            dtype=inner.dtype,
            device=DEVICE,
        )
        made.numbers = inner
        return made

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        del types
        return _compute(func, args, kwargs or {})

    def tolist(self) -> Any:
        """The numbers, which PyTorch does not give of subclasses."""
        return self.numbers.tolist()

    def __repr__(self, **_: Any) -> str:  # type: ignore[override]
        return f"there({self.numbers!r})"


class _Factories(TorchDispatchMode):
    """Operations that make tensors of the device, beside those that have one already."""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        del types
        return _compute(func, args, kwargs or {})


class _Values(TorchFunctionMode):
    """`torch.tensor` and its kin write no numbers into a tensor of `meta`: theirs are made and then moved."""

    def __torch_function__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        del types
        words = dict(kwargs or {})
        if func is Tensor.new_tensor:
            words = {"dtype": args[0].dtype, "device": args[0].device, **words}
            func, args = torch.tensor, args[1:]
        if func in (Tensor.__getitem__, Tensor.__setitem__):
            args = (args[0], _written_out(args[1]), *args[2:])
        if func in (torch.tensor, torch.as_tensor, torch.asarray) and _is_there(words.get("device")):
            value: Tensor = func(*args, **{**words, "device": None})
            return value.to(DEVICE)
        return func(*args, **words)


def _written_out(index: Any) -> Any:
    """An index with tensors of the CPU for its lists: PyTorch makes them on the device, without numbers."""
    if isinstance(index, list):
        return torch.tensor(index)
    return tuple(map(_written_out, index)) if isinstance(index, tuple) else index


def _is_there(device: Any) -> bool:
    return device is not None and torch.device(device).type == DEVICE.type


def _compute(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """The operation on the CPU; its results are of the device that it would have on a GPU."""
    if torch.is_inference_mode_enabled():
        # In that mode operations are not taken apart, and results cannot be wrapped views of other tensors.
        with torch.inference_mode(False), torch.no_grad(), _Factories():
            return func(*args, **kwargs)
    tensors = _tensors_in([*args, *kwargs.values()])
    there = [value for value in tensors if isinstance(value, _There)]
    _refuse_mixtures(func, args, tensors, bool(there))
    target = kwargs.get("device")
    on_device = bool(there) if target is None else _is_there(target)
    if on_device and kwargs.get("generator") is not None:
        raise RuntimeError(f"{func}: expected a generator of the device, found one of the cpu")
    words = {name: _on_cpu(value) for name, value in kwargs.items()}
    if target is not None:
        words["device"] = CPU
    result = func(*map(_on_cpu, args), **words)
    if torch.Tag.inplace_view in func.tags:
        # Operations such as squeeze_ change the shape of the tensor itself.
        with no_dispatch():
            func(*args, **kwargs)
    known = {id(value.numbers): value for value in there}

    def placed(value: Any) -> Any:
        if not isinstance(value, Tensor):
            return value
        # What an operation changed in place is the tensor that it was called with.
        if id(value) in known:
            return known[id(value)]
        return _There(value) if on_device else value

    return type(result)(map(placed, result)) if isinstance(result, (list, tuple)) else placed(result)


def _tensors_in(values: Iterable[Any]) -> list[Tensor]:
    """The tensors among arguments of an operation, which may be lists of tensors too."""
    found = []
    for value in values:
        if isinstance(value, Tensor):
            found.append(value)
        elif isinstance(value, (list, tuple)):
            found += [item for item in value if isinstance(item, Tensor)]
    return found


def _on_cpu(value: Any) -> Any:
    """An argument of an operation with the values in place of the tensors of the device."""
    if isinstance(value, _There):
        return value.numbers
    if isinstance(value, (list, tuple)):
        return [item.numbers if isinstance(item, _There) else item for item in value]
    return value


def _refuse_mixtures(func: Any, args: Sequence[Any], tensors: list[Tensor], any_there: bool) -> None:
    """Raise RuntimeError for a tensor of the CPU, other than a number, in one operation with the device's."""
    packet = func.overloadpacket
    if not any_there or packet in _CROSSINGS:
        return
    if packet in _PICKS and isinstance(args[0], _There):
        tensors = _tensors_in([args[0], *args[2:3]])
    left = [value for value in tensors if not isinstance(value, _There) and value.dim() > 0]
    if left:
        raise RuntimeError(
            f"{func}: expected all tensors to be on the same device, found {DEVICE} and {left[0].device}"
        )
