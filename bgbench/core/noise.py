"""Random numbers for any device: drawn on the CPU from a generator of the CPU, and moved.

Every device then draws the same conformers, up to rounding: a GPU's own generator gives other numbers than a
CPU's from the same seed. Noise is small beside what is computed from it.
"""

from collections.abc import Sequence

import torch
from torch import Tensor


def normal_noise(generator: torch.Generator, shape: Sequence[int], like: Tensor) -> Tensor:
    """Standard normal numbers.

    Args:
        generator: of the CPU, such as a task's.
        shape: of what is returned.
        like: whose dtype and device the numbers get.

    Returns:
        The numbers, independent of each other.

    >>> normal_noise(torch.Generator().manual_seed(0), (2, 3), torch.zeros(1)).shape
    torch.Size([2, 3])
    """
    return torch.randn(tuple(shape), generator=generator, dtype=like.dtype).to(like.device)


def uniform_noise(generator: torch.Generator, shape: Sequence[int], like: Tensor) -> Tensor:
    """Uniform numbers on 0 to 1.

    Args:
        generator: of the CPU, such as a task's.
        shape: of what is returned.
        like: whose dtype and device the numbers get.

    Returns:
        The numbers, independent of each other.

    >>> uniform_noise(torch.Generator().manual_seed(0), (2,), torch.zeros(1)).max() < 1
    tensor(True)
    """
    return torch.rand(tuple(shape), generator=generator, dtype=like.dtype).to(like.device)
