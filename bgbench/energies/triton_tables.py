"""Parameters as the Triton kernels read them, in float32: terms by the atom they push, pairs by both."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from bgbench.energies.parameters import Parameters

ANGLE_ROLES = np.array([[1.0, 0.0], [-1.0, -1.0], [0.0, 1.0]])
"""Force on each atom of an angle, in those on its first and its last atom."""

TORSION_ROLES = np.array(
    [[1.0, 0.0, 0.0, 0.0], [-1.0, 1.0, 0.0, -1.0], [0.0, -1.0, -1.0, 1.0], [0.0, 0.0, 1.0, 0.0]]
)
"""Force on each atom of a torsion i-j-k-m: p₁ + p₂ s times that on i, and p₃ + p₄ t times that on m.

s and t: u·v/v² and w·v/v², of the bond vectors u = i − j, v = k − j and w = k − m.
"""


@dataclass(frozen=True)
class Terms:
    """Terms of one kind, once for each of their atoms, in the order of these atoms.

    Attributes:
        spans: `(atoms, 3)` int32: first term of an atom, end of those whose energy it counts, end of all.
        atoms: `(terms, k)` int32, the atoms that a term is computed from, besides the atom itself for pairs.
        values: `(terms, columns)` float32.
    """

    spans: Tensor
    atoms: Tensor
    values: Tensor


@dataclass(frozen=True)
class Tables:
    """All that the kernels read beside positions, on one device.

    Attributes:
        bonds: other atom; r₀, k.
        exceptions: other atom; charges, c12, c6.
        angles: three atoms; θ₀, k, and the row of ANGLE_ROLES.
        torsions: four atoms; amplitudes of cos and sin, and the row of TORSION_ROLES.
        atoms: `(atoms, 6)`: offset radius, scaled radius, radius, self energy, surface, charge.
        pairs: `(atoms, atoms, 3)`: charges, c12, c6; 0 where an exception replaces the pair.
    """

    bonds: Terms
    exceptions: Terms
    angles: Terms
    torsions: Terms
    atoms: Tensor
    pairs: Tensor


def make_tables(p: Parameters, device: torch.device) -> Tables:
    """Tables of `p` on `device`."""
    tables = []
    for index, values, roles in (
        (p.bonds, p.bond_values.reshape(-1, 2), None),
        (p.exceptions, p.exception_values.reshape(-1, 3), None),
        (p.angles, p.angle_values.reshape(-1, 2), ANGLE_ROLES),
        (p.torsions, p.torsion_coefficients, TORSION_ROLES),
    ):
        tables.append(_terms(index, values, roles, p.n_atoms, device))
    bonds, exceptions, angles, torsions = tables
    return Tables(bonds, exceptions, angles, torsions, _single(_atoms(p), device), _single(_pairs(p), device))


def _terms(
    index: np.ndarray, values: np.ndarray, roles: np.ndarray | None, n_atoms: int, device: torch.device
) -> Terms:
    """Each term once for each of its atoms; without `roles` it has two atoms, and names the other one."""
    m, size = index.shape
    owner = index.T.reshape(-1)
    place = np.repeat(np.arange(size), m)
    order = np.lexsort((place > 0, owner))
    ends = np.searchsorted(owner[order], np.arange(n_atoms + 1))
    counted = np.bincount(owner[place == 0], minlength=n_atoms)
    columns = np.tile(values, (size, 1))
    if roles is None:
        atoms = index[:, ::-1].T.reshape(-1, 1)
    else:
        atoms = np.tile(index, (size, 1))
        columns = np.concatenate([columns, roles[place]], axis=1)
    return Terms(
        _whole(np.stack([ends[:-1], ends[:-1] + counted, ends[1:]], axis=1), device),
        _whole(_never_empty(atoms[order]), device),
        _single(_never_empty(columns[order]), device),
    )


def _never_empty(rows: np.ndarray) -> np.ndarray:
    """Rows, or one of zeros that nobody reads: a kernel is handed an address."""
    return rows if rows.size else np.zeros((1, 1))


def _atoms(p: Parameters) -> np.ndarray:
    if p.born is None:
        return np.ones((p.n_atoms, 6))
    b = p.born
    return np.stack([b.offset_radius, b.scaled_radius, b.radius, b.self_energy, b.surface, b.charge], axis=1)


def _pairs(p: Parameters) -> np.ndarray:
    table = np.zeros((p.n_atoms, p.n_atoms, 3))
    i, j = np.triu_indices(p.n_atoms, 1)
    table[i, j] = table[j, i] = np.stack([p.pair_charge, p.pair_c12, p.pair_c6], axis=1)
    return table


def _whole(values: np.ndarray, device: torch.device) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(values, dtype=np.int32)).to(device)


def _single(values: np.ndarray, device: torch.device) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32)).to(device)
