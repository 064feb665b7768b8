"""Faster ways through the flow, where the machine has them; the plain way where it has not.

`bfloat16` halves the memory traffic of a GPU, and the density is then only as exact as eight bits allow: the
audit in every record says so. `tf32` lets a GPU round the factors of products to ten bits, and changes
nothing elsewhere. `compile` lets torch.compile fuse the forward pass (CUDA graphs where there is CUDA) and
changes nothing but time.
"""

import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Literal, get_args

import torch
from torch import Tensor

import bgbench
import bgbench.data
from bgbench_prose.cuda import Decoders
from bgbench_prose.decode import invert
from bgbench_prose.network import Prose, Tokens

FlowPath = Literal["plain", "bfloat16", "tf32", "compile"]
PATHS: tuple[FlowPath, ...] = get_args(FlowPath)

PRECISION_OF: dict[str, Literal["float32", "TF32", "bfloat16"]] = {
    "plain": "float32",
    "bfloat16": "bfloat16",
    "tf32": "TF32",
    "compile": "float32",
}
"""Of a path's matrix products."""

Pass = Callable[[Tensor, Tokens], tuple[Tensor, Tensor]]


class FastPath:
    """Forward and inverse of a flow along one of `PATHS`.

    Raises:
        BgbenchError: for another path.
    """

    def __init__(self, flow: Prose, path: str) -> None:
        bgbench.data.refuse_unknown_word("prose: path", path, PATHS)
        self.flow, self.path = flow, path
        self._decoders = Decoders(flow)
        self._compiled: Pass | None = _compiled(flow) if path == "compile" else None

    def forward(self, x: Tensor, t: Tokens) -> tuple[Tensor, Tensor]:
        """`x (batch, tokens, 3)` → z and log|det ∂z/∂x| in the precision of x."""
        with self._precision(x):
            z, log_det = self._pass(x, t)
        return z.to(x), log_det.to(x)

    def invert(self, z: Tensor, t: Tokens) -> tuple[Tensor, Tensor]:
        """`z (batch, tokens, 3)` → x and log|det ∂x/∂z|."""
        with self._precision(z):
            return invert(self.flow, z, t, self._decoders)

    def factors(self, x: Tensor) -> AbstractContextManager[None]:
        """What PyTorch may do to factors of products inside the block, those of gradients too."""
        return rounded_factors() if self.path == "tf32" and x.device.type == "cuda" else nullcontext()

    def _precision(self, x: Tensor) -> AbstractContextManager[None]:
        if self.path != "bfloat16":
            return self.factors(x)
        return torch.autocast(x.device.type, dtype=torch.bfloat16)

    def _pass(self, x: Tensor, t: Tokens) -> tuple[Tensor, Tensor]:
        if self._compiled is not None:
            try:
                return self._compiled(x, t)
            except Exception as error:
                warnings.warn(
                    f"prose: torch.compile failed ({type(error).__name__}); going on without it",
                    RuntimeWarning,
                    stacklevel=2,
                )
                self._compiled = None
        return self.flow(x, t)


@contextmanager
def rounded_factors() -> Iterator[None]:
    """Inside the block PyTorch may use TF32 for products of float32; afterwards what it did before."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def _compiled(flow: Prose) -> Pass:
    mode = "reduce-overhead" if torch.cuda.is_available() else "default"
    with warnings.catch_warnings():
        # torch.compile imports parts of PyTorch that PyTorch itself calls deprecated.
        warnings.simplefilter("ignore", DeprecationWarning)
        return torch.compile(flow, mode=mode, dynamic=True)
