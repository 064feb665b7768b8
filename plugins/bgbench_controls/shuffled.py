"""Torsions without their correlations: every φ and ψ from a frame of its own, everything else kept."""

import torch
from torch import Tensor

import bgbench


def shuffle_torsions(system: bgbench.System, x: Tensor, generator: torch.Generator) -> Tensor:
    """Frames `x (n, atoms, 3)` whose φ and ψ are permuted over the frames, each torsion on its own.

    Marginals stay what they were, correlations go, atoms may clash. The φ of proline is a ring's and stays.
    """
    angles = bgbench.torsions(system, x)
    index = system.atom_index
    for residue in range(angles.psi.shape[1]):
        order = torch.randperm(len(x), generator=generator)
        psi = angles.psi[:, residue]
        x = rotate_about(system, x, (index[residue, "CA"], index[residue, "C"]), psi[order] - psi)
        order = torch.randperm(len(x), generator=generator)
        phi = angles.phi[:, residue]
        x = rotate_about(system, x, (index[residue + 1, "N"], index[residue + 1, "CA"]), phi[order] - phi)
    return x


def rotate_about(system: bgbench.System, x: Tensor, bond: tuple[int, int], angle: Tensor) -> Tensor:
    """Rotate all atoms beyond `bond` about it by `angle (n,)` rad; a bond in a ring leaves `x` as it is."""
    moved = list(system.atoms_beyond(*bond))
    if bond[0] in moved:
        return x
    axis = torch.nn.functional.normalize(x[:, bond[1]] - x[:, bond[0]], dim=-1)[:, None]
    arm = x[:, moved] - x[:, bond[1], None]
    cosine, sine = torch.cos(angle)[:, None, None], torch.sin(angle)[:, None, None]
    along = (arm * axis).sum(-1, keepdim=True) * axis
    across = torch.linalg.cross(axis.expand_as(arm), arm)
    x = x.clone()
    x[:, moved] = x[:, bond[1], None] + along + cosine * (arm - along) + sine * across
    return x
