"""Positions in whole steps of a resolution, stored small and exactly: each atom relative to a bonded one.

A bond is short compared with a molecule, so that the high bytes of the differences are mostly zero and
compress well; the low bytes are noise and are stored apart. Nothing is rounded here.
"""

from collections.abc import Mapping, Sequence

import numpy as np

HIGH, LOW, PARENTS = "steps_high", "steps_low", "parents"


def pack(q: np.ndarray, bonds: Sequence[tuple[int, int]]) -> dict[str, np.ndarray]:
    """Arrays that hold int16 `q (n, atoms, 3)`: high and low bytes of differences, and each atom's parent.

    Raises:
        ValueError: if a bond is too long for int16.
    """
    parents = spanning_forest(q.shape[1], bonds)
    bonded = parents >= 0
    steps = q.astype(np.int32)
    steps[:, bonded] -= q[:, parents[bonded]]
    if np.abs(steps).max(initial=0) > 32767:
        raise ValueError("a bond is too long for int16 steps")
    return {
        HIGH: (steps >> 8).astype(np.int8),
        LOW: (steps & 0xFF).astype(np.uint8),
        PARENTS: parents.astype(np.int16),
    }


def unpack(arrays: Mapping[str, np.ndarray]) -> np.ndarray:
    """`q (n, atoms, 3)` int32 of packed arrays.

    Raises:
        ValueError: if the parents are not one of each atom, or go round in a ring.
        KeyError: if an array is missing.
    """
    q = (arrays[HIGH].astype(np.int32) << 8) + arrays[LOW]
    parents = arrays[PARENTS].astype(np.int64)
    if parents.shape != q.shape[1:2] or parents.max(initial=-1) >= q.shape[1]:
        raise ValueError(f"parents of {len(parents)} atoms for positions of {q.shape[1]}")
    placed, waiting = set(np.flatnonzero(parents < 0).tolist()), np.flatnonzero(parents >= 0).tolist()
    while waiting:
        ready = [atom for atom in waiting if int(parents[atom]) in placed]
        if not ready:
            raise ValueError(f"the parents of atoms {waiting} go round in a ring")
        q[:, ready] += q[:, parents[ready]]
        placed.update(ready)
        waiting = [atom for atom in waiting if atom not in placed]
    return q


def spanning_forest(n_atoms: int, bonds: Sequence[tuple[int, int]]) -> np.ndarray:
    """A parent `(atoms,)` of each atom along bonds, −1 of one atom a molecule."""
    neighbours: list[list[int]] = [[] for _ in range(n_atoms)]
    for i, j in bonds:
        neighbours[i].append(j)
        neighbours[j].append(i)
    parents = np.full(n_atoms, -2)
    for root in range(n_atoms):
        if parents[root] != -2:
            continue
        parents[root], queue = -1, [root]
        for atom in queue:
            for other in neighbours[atom]:
                if parents[other] == -2:
                    parents[other] = atom
                    queue.append(other)
    return parents
