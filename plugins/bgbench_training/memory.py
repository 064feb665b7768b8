"""How many samples a device has memory for, and work that is split so that it fits."""

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

SHARE = 0.7
"""Of the free memory that is planned for: allocators lose some of it to fragments, libraries take some."""

EVEN = 32
"""Many samples are a multiple of this, whatever memory is free: fewer shapes to choose kernels for."""

Result = TypeVar("Result")


def free_bytes(device: torch.device) -> int | None:
    """Bytes that this process can still allocate on a GPU; None for another device, where it is not asked.

    What PyTorch keeps for later without using it counts as free.
    """
    if device.type != "cuda":
        return None
    free, _ = torch.cuda.mem_get_info(device)
    return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)


def samples_that_fit(free: int | None, each: int, most: int, fixed: int = 0) -> int:
    """How many samples to compute at once: 1 to `most`.

    Args:
        free: bytes, as `free_bytes` says; None where memory is not looked at.
        each: bytes that one sample needs.
        most: samples that are never exceeded.
        fixed: bytes that are needed however few samples there are.
    """
    if free is None:
        return most
    fitting = int(SHARE * free - fixed) // each
    if fitting >= EVEN:
        fitting -= fitting % EVEN
    return max(1, min(most, fitting))


def in_parts(compute: Callable[[slice], Result], n: int, most: int) -> list[Result]:
    """Compute n samples in parts, smaller ones from where memory runs out.

    Args:
        compute: returns the result of a slice of the samples.
        n: samples.
        most: of a part.

    Returns:
        The results in order.

    Raises:
        torch.cuda.OutOfMemoryError: if memory runs out with a single sample.
    """
    results: list[Result] = []
    start = 0
    while start < n:
        part = slice(start, min(start + most, n))
        size = part.stop - part.start
        try:
            results.append(compute(part))
            start = part.stop
        except torch.cuda.OutOfMemoryError:
            if size == 1:
                raise
            most = (size + 1) // 2
        # Outside of the handler, whose exception would keep the tensors of the failed part alive.
        if most < size:
            release_memory()
    return results


def release_memory() -> None:
    """Give back to the GPU's driver what PyTorch keeps for later."""
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        torch.cuda.empty_cache()


def density_in_parts(density: Callable[[Tensor, slice], Tensor], x: Tensor, most: int) -> Tensor:
    """log-densities `(n,)` of `x (n, …)`, at most `most` samples at a time; once differentiable in x.

    Where x needs a gradient it is computed with each part, so that no more than the intermediate results of
    one part are in memory at any time, and nothing is computed twice.

    Args:
        density: of some of the samples, and which these are; that of a sample depends on no other one.
        x: the samples.
        most: samples of a part.
    """
    if torch.is_grad_enabled() and x.requires_grad:
        value: Tensor = _DensityInParts.apply(x, density, most)
        return value
    return torch.cat(in_parts(lambda rows: density(x[rows], rows), len(x), most))


class _DensityInParts(torch.autograd.Function):
    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, *arguments: object) -> Tensor:
        x, density, most = arguments
        if not (isinstance(x, Tensor) and callable(density) and isinstance(most, int)):
            raise TypeError(f"expected a tensor, a function and a number, got {arguments}")

        def compute(rows: slice) -> tuple[Tensor, Tensor]:
            with torch.enable_grad():
                at = x[rows].detach().requires_grad_()
                values: Tensor = density(at, rows)
                (gradient,) = torch.autograd.grad(values.sum(), at)
            return values.detach(), gradient

        parts = in_parts(compute, len(x), most)
        ctx.save_for_backward(torch.cat([gradient for _, gradient in parts]))
        return torch.cat([values for values, _ in parts])

    @staticmethod
    @once_differentiable
    def backward(ctx: torch.autograd.function.FunctionCtx, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (gradient,) = ctx.saved_tensors  # type: ignore[attr-defined]
        rows = gradients[0].view(-1, *[1] * (gradient.dim() - 1))
        return gradient * rows.to(gradient), None, None
