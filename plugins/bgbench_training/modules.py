"""A container of network modules that all have the same interface."""

from collections.abc import Iterable, Iterator
from typing import Generic, TypeVar

from torch import nn

Item = TypeVar("Item", bound=nn.Module)


class ModulesOf(nn.ModuleList, Generic[Item]):
    """Modules of one kind in order. One of another kind is an error, never left out of the pass.

    Args:
        kind: what every module must be.
        modules: the modules.

    Raises:
        TypeError: on iteration, for a module of another kind, however it came in.
    """

    def __init__(self, kind: type[Item], modules: Iterable[Item]) -> None:
        super().__init__(modules)
        self.kind = kind

    def __iter__(self) -> Iterator[Item]:
        for module in super().__iter__():
            if not isinstance(module, self.kind):
                raise TypeError(f"a {type(module).__name__} stands among modules of {self.kind.__name__}")
            yield module
