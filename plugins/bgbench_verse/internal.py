"""Bond length, angle and dihedral of each atom against the three it is placed by, and back.

With axis g, parent p, third d: e_z = (g − p)/|g − p|, e_y = e_z × (d − p) normalised, e_x = e_y × e_z, and
x = p + r (cos θ e_z + sin θ (cos φ e_x + sin φ e_y)). The volume element is r² sin θ dr dθ dφ.
"""

import torch
from torch import Tensor

from bgbench_verse.tree import Trees


def axes(p: Tensor, g: Tensor, d: Tensor) -> Tensor:
    """Rows e_x, e_y, e_z `(…, 3, 3)` of the local frame of points `(…, 3)`."""
    z = unit(g - p)
    y = unit(torch.linalg.cross(z, d - p))
    return torch.stack([torch.linalg.cross(y, z), y, z], dim=-2)


def unit(v: Tensor) -> Tensor:
    """`v (…, 3)` at length one."""
    return v / v.norm(dim=-1, keepdim=True).clamp_min(1e-9)


def at(x: Tensor, index: Tensor) -> Tensor:
    """Rows `index (b, N)` of `x (n, N, …)`, b dividing n: row k serves the k-th of b equal runs."""
    index = widen(index, len(x))
    return x.gather(1, index.reshape(*index.shape, *(1,) * (x.dim() - 2)).expand(-1, -1, *x.shape[2:]))


def widen(rows: Tensor, n: int) -> Tensor:
    """`rows (b, …)` for n samples."""
    return rows.repeat_interleave(n // len(rows), dim=0)


def frames(x: Tensor, tree: Trees) -> tuple[Tensor, Tensor]:
    """Parents `(n, N, 3)` and local axes `(n, N, 3, 3)` of `x (n, N, 3)` in placing order.

    The first three atoms have no frame: theirs are the unit axes.
    """
    p, g, d = (at(x, index) for index in (tree.parent, tree.axis, tree.third))
    first = (torch.arange(x.shape[1], device=x.device) < 3)[:, None, None]
    return p, torch.where(first, torch.eye(3, dtype=x.dtype, device=x.device), axes(p, g, d))


def internals(x: Tensor, tree: Trees) -> tuple[Tensor, Tensor, Tensor]:
    """r (nm), θ, φ (rad) `(n, N)` each of `x (n, N, 3)` in placing order; constants where there is none."""
    p, local = frames(x, tree)
    steps = torch.arange(x.shape[1], device=x.device)
    gap = torch.where((steps >= 1)[:, None], x - p, x.new_tensor([0.1, 0.0, 0.0]))
    r = gap.norm(dim=-1)
    # Of the third atom only r and θ mean anything; θ comes from the axis, not from a frame.
    cosine = (unit(at(x, tree.axis) - p) * gap).sum(-1) / r
    turned = torch.where(
        (steps >= 3)[:, None], (local @ gap[..., None])[..., 0], x.new_tensor([1.0, 0.0, 1.0])
    )
    across = turned[..., :2].norm(dim=-1)
    theta = torch.where(
        steps == 2, torch.acos(cosine.clamp(-1 + 1e-6, 1 - 1e-6)), torch.atan2(across, turned[..., 2])
    )
    return r, theta, torch.atan2(turned[..., 1], turned[..., 0])


def placed(p: Tensor, local: Tensor, r: Tensor, theta: Tensor, phi: Tensor) -> Tensor:
    """Positions `(n, 3)` from parents `(n, 3)`, axes `(n, 3, 3)` and internal coordinates `(n,)`."""
    sine = torch.sin(theta)
    arm = torch.stack([sine * torch.cos(phi), sine * torch.sin(phi), torch.cos(theta)], dim=-1)
    return p + r[:, None] * (arm[:, None] @ local)[:, 0]


def log_volume(r: Tensor, theta: Tensor) -> Tensor:
    """log volume element of each atom `(n, N)`: r² of the second, r² sin θ of later ones."""
    steps = torch.arange(r.shape[1], device=r.device)
    lengths = torch.where(steps >= 1, 2 * torch.log(r), 0.0)
    return lengths + torch.where(steps >= 2, torch.log(torch.sin(theta).clamp_min(1e-9)), 0.0)
