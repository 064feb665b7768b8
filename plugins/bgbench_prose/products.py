"""Matrix products for few samples on one thread with AVX-512: weights packed once, and fetched ahead.

With 32 samples a product waits for its weights: a block's do not fit into a core's cache, and the processor's
own prefetching stops at every page. This one asks for them `AHEAD` numbers early. Speed: benchmarks/speed.
"""

from typing import Any

import numpy as np
from llvmlite import binding, ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from bgbench.data import compiled
from bgbench_prose.prefetch import prefetched

ROWS, LANES, AHEAD = 12, 16, 4096
"""Rows of weights and samples (twice LANES) of a tile whose sums stay in registers; floats fetched ahead."""


def able() -> bool:
    """Whether this processor has the registers the tile wants."""
    return bool(binding.get_host_cpu_features().get("avx512f", False))


_PACKED = WeakTensorKeyDictionary()


def packed(weight: Tensor) -> np.ndarray:
    """`pack` of a network's weight, remembered while the weight lives and is not written to."""
    state = weight._version, weight.data_ptr()
    cached = _PACKED.get(weight)
    if cached is None or cached[0] != state:
        cached = state, pack(weight.detach().numpy())
        _PACKED[weight] = cached
    panels: np.ndarray = cached[1]
    return panels


@compiled(nogil=True, error_model="numpy")
def pack(weight):  # type: ignore[no-untyped-def]
    """`(rows, depth)` → `(rows / ROWS, depth, ROWS)`: a tile's weights in the order of their use."""
    rows, depth = weight.shape
    out = np.empty((rows // ROWS, depth, ROWS), weight.dtype)
    for p in range(rows // ROWS):
        panel, into = weight[p * ROWS : (p + 1) * ROWS], out[p]
        for k in range(depth):
            for r in range(ROWS):
                into[k, r] = panel[r, k]
    return out


@compiled(nogil=True, error_model="numpy")
def product(panels, x, out):  # type: ignore[no-untyped-def]
    """out ← weights · x; `panels` from `pack`, `x (depth, samples)`, samples a multiple of 2 LANES."""
    count, depth, rows = panels.shape
    width = x.shape[1]
    for p in range(count):
        for b in range(0, width, 2 * LANES):
            weights = panels.ctypes.data + 4 * p * depth * rows
            _tile(weights, x.ctypes.data + 4 * b, out.ctypes.data + 4 * (p * rows * width + b), depth, width)


@intrinsic
def _tile(typing_context, weights, x, out, depth, width):  # type: ignore[no-untyped-def]  # noqa: ARG001
    """ROWS × 2 LANES sums over depth, at addresses of float32; rows of x and out are `width` apart."""

    def generate(context, builder, signature, args):  # type: ignore[no-untyped-def]  # noqa: ARG001
        tile = _Tile(builder, args)
        sums = tile.loop(args[3])
        tile.store(sums)
        return context.get_dummy_value()

    return types.void(weights, x, out, depth, width), generate


_FLOAT, _WORD, _INDEX = ir.FloatType(), ir.IntType(32), ir.IntType(64)
_VECTOR = ir.VectorType(_FLOAT, LANES)


class _Tile:
    """LLVM code of one tile."""

    def __init__(self, builder: Any, args: Any) -> None:
        self.builder, self.width = builder, args[4]
        self.weights, self.x, self.out = (builder.inttoptr(a, _FLOAT.as_pointer()) for a in args[:3])
        fma = ir.FunctionType(_VECTOR, [_VECTOR] * 3)
        self.fma = cgutils.get_or_insert_function(builder.module, fma, f"llvm.fma.v{LANES}f32")

    def loop(self, depth: Any) -> list[list[Any]]:
        """The loop over depth; its ROWS × 2 sums."""
        b, entry = self.builder, self.builder.block
        body, done = b.append_basic_block("depth"), b.append_basic_block("done")
        b.branch(body)
        b.position_at_end(body)
        k = b.phi(_INDEX)
        sums = [[b.phi(_VECTOR) for _ in range(2)] for _ in range(ROWS)]
        after = self._step(k, sums)
        following = b.add(k, _INDEX(1))
        b.cbranch(b.icmp_signed("<", following, depth), body, done)
        for phi, start, value in [(k, _INDEX(0), following)] + [
            (phi, _VECTOR([0.0] * LANES), value)
            for row, new in zip(sums, after, strict=True)
            for phi, value in zip(row, new, strict=True)
        ]:
            phi.add_incoming(start, entry)
            phi.add_incoming(value, body)
        b.position_at_end(done)
        return after

    def _step(self, k: Any, sums: list[list[Any]]) -> list[list[Any]]:
        b, first = self.builder, self.builder.mul(k, _INDEX(ROWS))
        prefetched(b, b.gep(self.weights, [b.add(first, _INDEX(AHEAD))]))
        x = [b.load(self._vector(self.x, k, half), align=4) for half in range(2)]
        nothing, zeros = (
            ir.Constant(_VECTOR, ir.Undefined),
            ir.Constant(ir.VectorType(_WORD, LANES), [0] * LANES),
        )
        after = []
        for r, row in enumerate(sums):
            weight = b.load(b.gep(self.weights, [b.add(first, _INDEX(r))]), align=4)
            spread = b.shuffle_vector(b.insert_element(nothing, weight, _WORD(0)), nothing, zeros)
            after.append([b.call(self.fma, [spread, x[half], row[half]]) for half in range(2)])
        return after

    def store(self, sums: list[list[Any]]) -> None:
        """The sums into `out`."""
        for r, row in enumerate(sums):
            for half, value in enumerate(row):
                self.builder.store(value, self._vector(self.out, _INDEX(r), half), align=4)

    def _vector(self, base: Any, row: Any, half: int) -> Any:
        b = self.builder
        place = b.add(b.mul(row, self.width), _INDEX(LANES * half))
        return b.bitcast(b.gep(base, [place]), _VECTOR.as_pointer())
