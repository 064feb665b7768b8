"""Handedness: the sign of the tetrahedron at every stereocentre. Natural residues are L at Cα."""

from collections.abc import Mapping

import torch
from torch import Tensor

from bgbench.systems.features import HasAtoms

ALPHA = ("CA", "N", "C", "CB")
BETA = {"ILE": ("CB", "CA", "CG1", "CG2"), "THR": ("CB", "CA", "OG1", "CG2")}
"""A centre and three neighbours whose triple product is positive in the natural form."""


def alpha_centres(system: HasAtoms) -> Tensor:
    """Quadruples `(k, 4)`, Cα and neighbours, of every residue but GLY, in order of residue."""
    return _quadruples(system, dict.fromkeys(_residue_names(system).values(), ALPHA))


def beta_centres(system: HasAtoms) -> Tensor:
    """Quadruples `(k, 4)`, Cβ and neighbours, of ILE and THR, in order of residue."""
    return _quadruples(system, BETA)


def _residue_names(system: HasAtoms) -> dict[int, str]:
    return {atom.residue: atom.residue_name for atom in system.atoms}


def _quadruples(system: HasAtoms, kinds: Mapping[str, tuple[str, ...]]) -> Tensor:
    index = {(atom.residue, atom.name): k for k, atom in enumerate(system.atoms)}
    rows = [
        [(residue, atom) for atom in kinds[name]]
        for residue, name in sorted(_residue_names(system).items())
        if name in kinds
    ]
    quads = [[index[key] for key in row] for row in rows if all(key in index for key in row)]
    return torch.tensor(quads, dtype=torch.long).reshape(-1, 4)


def chirality(system: HasAtoms, x: Tensor) -> Tensor:
    """`(n, centres)`: +1 where a stereocentre of `x (n, atoms, 3)` is natural, −1 where it is mirrored.

    Columns: every Cα of `alpha_centres`, then every Cβ of `beta_centres`. Flat and non-finite ones give 0.
    """
    quads = torch.cat([alpha_centres(system), beta_centres(system)])
    a, b, c, d = (x[:, quads[:, k]] for k in range(4))
    volume = (torch.linalg.cross(b - a, c - a) * (d - a)).sum(-1)
    return torch.sign(torch.where(torch.isfinite(volume), volume, 0.0))


def is_wrong(system: HasAtoms, x: Tensor) -> Tensor:
    """`(n,)` True where any stereocentre is not natural: mirrored, flat or non-finite."""
    return (chirality(system, x) <= 0).any(1)


def is_mirrored(system: HasAtoms, x: Tensor) -> Tensor:
    """`(n,)` True where every stereocentre is mirrored: x → −x repairs it."""
    signs = chirality(system, x)
    return (signs < 0).all(1) & (signs.shape[1] > 0)
