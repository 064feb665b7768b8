"""Uniform rotations from normal quaternions."""

import numpy as np
import torch
from torch import Tensor


def rotation_matrices(q: Tensor) -> Tensor:
    """Rotation matrices `(n, 3, 3)` of quaternions `q (n, 4)` of any length; uniform if those are normal."""
    w, x, y, z = (q / q.norm(dim=1, keepdim=True)).T
    rows = [
        torch.stack([1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)], dim=-1),
        torch.stack([2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)], dim=-1),
        torch.stack([2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)], dim=-1),
    ]
    return torch.stack(rows, dim=1)


def rotations(random: np.random.Generator, n: int) -> Tensor:
    """Uniform rotations `(n, 3, 3)`, float32."""
    return rotation_matrices(torch.from_numpy(random.standard_normal((n, 4)))).float()
