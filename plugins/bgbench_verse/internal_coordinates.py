"""Bond length, angle and dihedral of each atom against its three reference atoms, and back.

With parent p, angle reference g and dihedral reference d (see `zmatrix`) the local axes are

    e_z = (g − p) / ‖g − p‖,   e_y = e_z × (d − p), normalised,   e_x = e_y × e_z,

and an atom lies at

    x = p + r (cos θ e_z + sin θ (cos φ e_x + sin φ e_y)),   volume element r² sin θ dr dθ dφ.

Of the first three atoms the first has no coordinate, the second r alone, the third r and θ: what is missing
is place and orientation. Lengths are in nm, angles in rad.

Flows on such coordinates: Noé et al. 2019 (Boltzmann generators, doi 10.1126/science.aaw1147); Köhler,
Krämer & Noé 2021 (arXiv 2110.00351), mixtures on intervals and on the torus as here.
"""

import torch
from torch import Tensor

from bgbench_verse.zmatrix import ZMatrixBatch


def local_axes(parent: Tensor, angle_reference: Tensor, dihedral_reference: Tensor) -> Tensor:
    """Rows e_x, e_y, e_z `(…, 3, 3)` of the local frame of points `(…, 3)`."""
    z = normalize(angle_reference - parent)
    y = normalize(torch.linalg.cross(z, dihedral_reference - parent))
    return torch.stack([torch.linalg.cross(y, z), y, z], dim=-2)


def normalize(v: Tensor) -> Tensor:
    """`v (…, 3)` divided by its length; a vector of length zero stays zero."""
    return v / v.norm(dim=-1, keepdim=True).clamp_min(1e-9)


def gather_steps(x: Tensor, steps: Tensor) -> Tensor:
    """The rows `steps (b, N)` of `x (n, N, …)`. b divides n: row k of `steps` serves the k-th of b runs."""
    steps = repeat_for_samples(steps, len(x))
    return x.gather(1, steps.reshape(*steps.shape, *(1,) * (x.dim() - 2)).expand(-1, -1, *x.shape[2:]))


def repeat_for_samples(rows: Tensor, n: int) -> Tensor:
    """`rows (b, …)` of b peptides repeated for n samples, `(n, …)`: equal runs, one a peptide."""
    return rows.repeat_interleave(n // len(rows), dim=0)


def local_frames(x: Tensor, zmatrix: ZMatrixBatch) -> tuple[Tensor, Tensor]:
    """Parents `(n, N, 3)` and local axes `(n, N, 3, 3)` of `x (n, N, 3)` in placing order.

    The first three atoms have no frame: theirs are the unit axes.
    """
    columns = (zmatrix.parent, zmatrix.angle_reference, zmatrix.dihedral_reference)
    parent, angle_reference, dihedral_reference = (gather_steps(x, column) for column in columns)
    first = (torch.arange(x.shape[1], device=x.device) < 3)[:, None, None]
    unit_axes = torch.eye(3, dtype=x.dtype, device=x.device)
    return parent, torch.where(first, unit_axes, local_axes(parent, angle_reference, dihedral_reference))


def to_internal(x: Tensor, zmatrix: ZMatrixBatch) -> tuple[Tensor, Tensor, Tensor]:
    """Internal coordinates of conformers.

    Args:
        x: `(n, N, 3)` nm in placing order.
        zmatrix: Of the b peptides, b dividing n.

    Returns:
        r (nm), θ and φ (rad), `(n, N)` each; constants where an atom does not have the coordinate.
    """
    parent, local = local_frames(x, zmatrix)
    steps = torch.arange(x.shape[1], device=x.device)
    bond = torch.where((steps >= 1)[:, None], x - parent, x.new_tensor([0.1, 0.0, 0.0]))
    r = bond.norm(dim=-1)
    # The third atom has no frame, so that its θ comes from the angle reference and not from local axes.
    cosine = (normalize(gather_steps(x, zmatrix.angle_reference) - parent) * bond).sum(-1) / r
    projected = torch.where(
        (steps >= 3)[:, None], (local @ bond[..., None])[..., 0], x.new_tensor([1.0, 0.0, 1.0])
    )
    across = projected[..., :2].norm(dim=-1)
    theta = torch.where(
        steps == 2, torch.acos(cosine.clamp(-1 + 1e-6, 1 - 1e-6)), torch.atan2(across, projected[..., 2])
    )
    return r, theta, torch.atan2(projected[..., 1], projected[..., 0])


def to_cartesian(parent: Tensor, local: Tensor, r: Tensor, theta: Tensor, phi: Tensor) -> Tensor:
    """Positions `(n, 3)` from parents `(n, 3)`, local axes `(n, 3, 3)` and internal coordinates `(n,)`."""
    sine = torch.sin(theta)
    direction = torch.stack([sine * torch.cos(phi), sine * torch.sin(phi), torch.cos(theta)], dim=-1)
    return parent + r[:, None] * (direction[:, None] @ local)[:, 0]


def log_volume_element(r: Tensor, theta: Tensor) -> Tensor:
    """log volume element of each atom `(n, N)`: r² of the second atom, r² sin θ of the later ones."""
    steps = torch.arange(r.shape[1], device=r.device)
    lengths = torch.where(steps >= 1, 2 * torch.log(r), 0.0)
    return lengths + torch.where(steps >= 2, torch.log(torch.sin(theta).clamp_min(1e-9)), 0.0)
