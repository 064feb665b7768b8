"""Asking the processor for memory before it is needed: its own prefetching stops at every page."""

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

_BYTES, _WORD = ir.IntType(8).as_pointer(), ir.IntType(32)


def prefetched(builder: Any, pointer: Any) -> None:
    """LLVM code that fetches the cache line at `pointer`, to read it, into the nearest cache."""
    kind = ir.FunctionType(ir.VoidType(), [_BYTES, _WORD, _WORD, _WORD])
    fetch = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
    builder.call(fetch, [builder.bitcast(pointer, _BYTES), _WORD(0), _WORD(3), _WORD(1)])


@intrinsic
def prefetch(typing_context, address):  # type: ignore[no-untyped-def]  # noqa: ARG001
    """Fetch the cache line at an address, which may lie past an array's end."""

    def generate(context, builder, signature, args):  # type: ignore[no-untyped-def]  # noqa: ARG001
        prefetched(builder, builder.inttoptr(args[0], _BYTES))
        return context.get_dummy_value()

    return types.void(address), generate
