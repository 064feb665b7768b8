"""Torsions without their correlations: every φ and ψ from a frame of its own, everything else kept."""

from collections.abc import Iterator

import torch
from torch import Tensor

import bgbench


def shuffle_torsions(system: bgbench.System, x: Tensor, generator: torch.Generator) -> Tensor:
    """Frames `x (n, atoms, 3)` whose φ and ψ are permuted over the frames, each torsion on its own.

    Marginals stay what they were, correlations go, atoms may clash. The φ of proline is a ring's and stays.
    """
    angles = bgbench.torsions(system, x)
    for angle, bond in backbone_bonds(system, angles.phi, angles.psi):
        order = torch.randperm(len(x), generator=generator)
        x = rotate_about(system, x, bond, angle[order] - angle)
    return x


def backbone_bonds(
    system: bgbench.System, phi: Tensor, psi: Tensor
) -> Iterator[tuple[Tensor, tuple[int, int]]]:
    """Each of `psi` and `phi (n, k)` in turn, along the chain, with the bond that it is about."""
    index = system.atom_index
    # A residue has a φ where one comes before it, and a ψ where one follows: caps are such neighbours.
    alpha = [residue for residue, name in index if name == "CA"]
    with_psi = [residue for residue in alpha if (residue + 1, "N") in index]
    with_phi = [residue for residue in alpha if (residue - 1, "C") in index]
    for k in range(max(psi.shape[1], phi.shape[1])):
        if k < psi.shape[1]:
            yield psi[:, k], (index[with_psi[k], "CA"], index[with_psi[k], "C"])
        if k < phi.shape[1]:
            yield phi[:, k], (index[with_phi[k], "N"], index[with_phi[k], "CA"])


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
