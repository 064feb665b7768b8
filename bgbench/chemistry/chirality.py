"""Handedness: the sign of the tetrahedron at every stereocentre. Natural residues are L at Cα."""

import torch
from torch import Tensor

from bgbench.chemistry.features import HasAtoms

CENTRES = {
    "*": ("CA", ("N", "C", "CB")),
    "ILE": ("CB", ("CA", "CG1", "CG2")),
    "THR": ("CB", ("CA", "OG1", "CG2")),
}
"""Centre and three neighbours whose triple product is positive in the natural form (for `*`, Cα)."""


def centres(system: HasAtoms) -> Tensor:
    """Quadruples `(k, 4)`, centre and neighbours; GLY has none."""
    index = {(atom.residue, atom.name): k for k, atom in enumerate(system.atoms)}
    names = {atom.residue: atom.residue_name for atom in system.atoms}
    quads = []
    for residue, name in names.items():
        for kind in ("*", name):
            centre, others = CENTRES.get(kind, ("", ()))
            keys = [(residue, atom) for atom in (centre, *others)]
            if centre and all(key in index for key in keys):
                quads.append([index[key] for key in keys])
    return torch.tensor(quads, dtype=torch.long).reshape(-1, 4)


def chirality(system: HasAtoms, x: Tensor) -> Tensor:
    """`(n, centres)`: +1 where a stereocentre of `x (n, atoms, 3)` is natural, −1 where it is mirrored."""
    quads = centres(system)
    a, b, c, d = (x[:, quads[:, k]] for k in range(4))
    volume = (torch.linalg.cross(b - a, c - a) * (d - a)).sum(-1)
    return torch.sign(volume)


def is_wrong(system: HasAtoms, x: Tensor) -> Tensor:
    """`(n,)` True where any stereocentre is not natural."""
    return (chirality(system, x) < 0).any(1)


def is_mirrored(system: HasAtoms, x: Tensor) -> Tensor:
    """`(n,)` True where every stereocentre is mirrored: x → −x repairs it."""
    signs = chirality(system, x)
    return (signs < 0).all(1) & (signs.shape[1] > 0)
