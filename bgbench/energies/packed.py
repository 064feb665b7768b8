"""Parameters as the compiled kernels take them: one float type, pairs and atoms in the order of the loops."""

from typing import Any, NamedTuple

import numpy as np

from bgbench.energies.lanes import LANES
from bgbench.energies.parameters import BornTerms, Parameters

BLOCK = 8
"""Rows of `pair_rows` and `born_rows` are a multiple of this long: one AVX register of float32."""

SMALLEST = 1e-3
"""Distances below this (nm) are treated as this: energies of overlapping atoms stay finite."""


class Packed(NamedTuple):
    """Parameters in one float type; n atoms, m pairs, rows `padded` to a multiple of BLOCK.

    `pair (m, 4)`: charges, c12, c6, Born charges; `born (n, 5)`: offset radius, scaled radius, radius, self
    energy, surface constant. The same as rows for single conformers: `pair_rows (4, n, padded)`, one row for
    each first atom, 0 where the second is not a later atom; `later (n, padded)`, 1 where it is;
    `born_rows (5, padded)`. `limits`: smallest r², squared Born cut-off, squared cut-off, reaction-field k
    and c, Born shift, conformers side by side; `limits_of_one` says one conformer.
    """

    bonds: np.ndarray
    bond_values: np.ndarray
    angles: np.ndarray
    angle_values: np.ndarray
    torsions: np.ndarray
    torsion_values: np.ndarray
    exceptions: np.ndarray
    exception_values: np.ndarray
    pair: np.ndarray
    born: np.ndarray
    tanh: np.ndarray
    limits: np.ndarray
    pair_rows: np.ndarray
    later: np.ndarray
    born_rows: np.ndarray
    limits_of_one: np.ndarray


def pack(parameters: Parameters, dtype: Any) -> Packed:
    """Parameters → kernel arrays of `dtype` (float32 or float64)."""
    p = parameters
    born = p.born or _no_born(p.n_atoms)
    i, j = np.triu_indices(p.n_atoms, 1)
    pair = np.stack([p.pair_charge, p.pair_c12, p.pair_c6, born.pair_scale * born.charge[i] * born.charge[j]])
    atoms = np.stack([born.offset_radius, born.scaled_radius, born.radius, born.self_energy, born.surface])
    limits = [SMALLEST**2, born.cutoff**2, p.cutoff**2, p.reaction_k, p.reaction_c, born.shift, LANES]
    ones = np.ones((len(p.torsions), 1))

    def as_type(values: Any) -> np.ndarray:
        return np.ascontiguousarray(values, dtype=dtype)

    return Packed(
        bonds=p.bonds,
        bond_values=as_type(p.bond_values.reshape(-1, 2)),
        angles=p.angles,
        angle_values=as_type(p.angle_values.reshape(-1, 2)),
        torsions=p.torsions,
        torsion_values=as_type(np.concatenate([p.torsion_coefficients, ones], axis=1)),
        exceptions=p.exceptions,
        exception_values=as_type(p.exception_values),
        pair=as_type(pair.T),
        born=as_type(atoms.T),
        tanh=as_type(born.tanh),
        limits=as_type(limits),
        pair_rows=as_type(_rows_of_pairs(pair, p.n_atoms)),
        later=as_type(_rows_of_pairs(np.ones((1, len(i))), p.n_atoms)[0]),
        born_rows=as_type(_rows_of_atoms(atoms)),
        limits_of_one=as_type([*limits[:-1], 1]),
    )


def _rows_of_pairs(values: np.ndarray, n: int) -> np.ndarray:
    """`(kinds, pairs)` → `(kinds, n, padded)`."""
    rows = np.zeros((len(values), n, _padded(n)))
    rows[:, *np.triu_indices(n, 1)] = values
    return rows


def _rows_of_atoms(values: np.ndarray) -> np.ndarray:
    """`(kinds, n)` → `(kinds, padded)`: the atoms added have radii of 1 nm and nothing else."""
    rows = np.zeros((len(values), _padded(values.shape[1])))
    rows[[0, 2]] = 1.0
    rows[:, : values.shape[1]] = values
    return rows


def _padded(n: int) -> int:
    return -(-n // BLOCK) * BLOCK


def _no_born(n: int) -> BornTerms:
    zero, one = np.zeros(n), np.ones(n)
    return BornTerms(one, one, one, zero, zero, np.array([1.0, 0.0, 0.0]), zero, 0.0, 0.0, np.inf)
