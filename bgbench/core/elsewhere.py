"""A device that is not there: its tensors compute on the CPU, and refuse what a GPU would refuse.

Inside `elsewhere()` tensors can be made on, and moved to, PyTorch's device `meta`, and hold numbers there all
the same. Whatever a GPU would raise for is raised here: a tensor of the CPU in one operation with a tensor
of the device, a generator of the CPU for numbers of the device, and `numpy()` of a tensor that was not moved
back. Control flow that looks at numbers works, and the numbers are those of the CPU, so that a sampler's
draws on the device can be compared with its draws on the CPU. No GPU is needed, and no CUDA build of PyTorch.

As on a GPU, a number (a tensor without dimensions) of the CPU may stand beside tensors of the device, and
rows of the device may be picked by indices of the CPU.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map, tree_unflatten

DEVICE = torch.device("meta")
"""What the tensors claim. PyTorch has it everywhere and never computes on it."""

CPU = torch.device("cpu")

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
        if func in (torch.tensor, torch.as_tensor, torch.asarray) and _is_there(words.get("device")):
            value: Tensor = func(*args, **{**words, "device": None})
            return value.to(DEVICE)
        return func(*args, **words)


def _is_there(device: Any) -> bool:
    return device is not None and torch.device(device).type == DEVICE.type


def _compute(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """The operation on the CPU; its results are of the device that it would have on a GPU."""
    flat, spec = tree_flatten((tuple(args), dict(kwargs)))
    there = [value for value in flat if isinstance(value, _There)]
    _refuse_mixtures(func, args, flat, bool(there))
    target = kwargs.get("device")
    on_device = bool(there) if target is None else _is_there(target)
    if on_device and kwargs.get("generator") is not None:
        raise RuntimeError(f"{func}: expected a generator of the device, found one of the cpu")
    inner = [value.numbers if isinstance(value, _There) else value for value in flat]
    inner_args, inner_kwargs = tree_unflatten(inner, spec)
    if target is not None:
        inner_kwargs["device"] = CPU
    result = func(*inner_args, **inner_kwargs)
    known = {id(value.numbers): value for value in there}

    def placed(value: Any) -> Any:
        if not isinstance(value, Tensor):
            return value
        # What an operation changed in place is the tensor that it was called with.
        if id(value) in known:
            return known[id(value)]
        return _There(value) if on_device else value

    if func.overloadpacket is _aten._to_copy and not on_device and there:
        return result
    return tree_map(placed, result)


def _refuse_mixtures(func: Any, args: Sequence[Any], flat: Sequence[Any], any_there: bool) -> None:
    """Raise RuntimeError for a tensor of the CPU, other than a number, in one operation with the device's."""
    packet = func.overloadpacket
    if packet in _CROSSINGS:
        return
    checked = flat
    if packet in _PICKS:
        values = args[2:3] if len(args) > 2 else ()
        checked = [args[0], *values] if isinstance(args[0], _There) else flat
    left = [
        value
        for value in checked
        if isinstance(value, Tensor) and not isinstance(value, _There) and value.dim() > 0
    ]
    if any_there and left:
        raise RuntimeError(
            f"{func}: expected all tensors to be on the same device, found {DEVICE} and {left[0].device}"
        )
