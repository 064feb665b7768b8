"""The compiled engine: parameters packed for the kernels, and whole batches sent through them by threads."""

import itertools
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from bgbench.energies import bonded, kernels
from bgbench.energies.kernels import ENERGY, FORCE, ROWS, STEP, WIDE, jit, place
from bgbench.energies.lanes import LANES
from bgbench.energies.parameters import BornTerms, Parameters

SMALLEST = 1e-3
"""Distances below this (nm) are treated as this: energies of overlapping atoms stay finite."""


class Packed(NamedTuple):
    """Parameters in one float type, as the kernels take them."""

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


def pack(parameters: Parameters, dtype: Any) -> Packed:
    """Parameters → kernel arrays of `dtype` (float32 or float64)."""
    p = parameters
    born = p.born or _no_born(p.n_atoms)
    i, j = np.triu_indices(p.n_atoms, 1)
    pair = [p.pair_charge, p.pair_c12, p.pair_c6, born.pair_scale * born.charge[i] * born.charge[j]]
    atoms = [born.offset_radius, born.scaled_radius, born.radius, born.self_energy, born.surface]
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
        pair=as_type(np.stack(pair, axis=1)),
        born=as_type(np.stack(atoms, axis=1)),
        tanh=as_type(born.tanh),
        limits=as_type(limits),
    )


def _no_born(n: int) -> BornTerms:
    zero, one = np.zeros(n), np.ones(n)
    return BornTerms(one, one, one, zero, zero, np.array([1.0, 0.0, 0.0]), zero, 0.0, 0.0, np.inf)


def _block(forces: bool) -> Any:
    integrals, pairs = kernels.born_integrals[forces], kernels.pairs[forces]

    @jit
    def run(state, slopes, packed):  # type: ignore[no-untyped-def]
        n, width = packed.born.shape[0], place(packed.limits[6])
        zero = state.dtype.type(0)
        for i in range(n):
            for k in range(place(i) * STEP + kernels.INTEGRAL, place(i + 1) * STEP):
                state[k] = zero
        integrals(state, slopes, packed.born, packed.limits)
        kernels.born_radii(state, packed.born, packed.tanh, width)
        pairs(state, packed.pair, packed.limits, n)
        if forces:
            kernels.born_chain(state, slopes, n, width)
        bonded.bonds(state, packed.bonds, packed.bond_values, packed.limits)
        bonded.angles(state, packed.angles, packed.angle_values, packed.limits)
        bonded.torsions(state, packed.torsions, packed.torsion_values, packed.limits)
        bonded.scaled_pairs(state, packed.exceptions, packed.exception_values, packed.limits)

    return run


block_energy = _block(False)
block_force = _block(True)


@jit
def load(state, x, first):  # type: ignore[no-untyped-def]
    """Positions of conformers first…first+LANES into the state; the last one fills idle lanes."""
    last = x.shape[0] - 1
    for k in range(LANES):
        row = min(first + k, last)
        for i in range(x.shape[1]):
            for axis in range(3):
                state[place(i) * STEP + place(axis) * WIDE + place(k)] = x[row, i, axis]


@jit
def energy_sweep(x, u, packed):  # type: ignore[no-untyped-def]
    """Energies (kJ/mol) of x (n, atoms, 3) nm into u (n,) float64."""
    n = x.shape[1]
    state = np.empty(n * ROWS * LANES, x.dtype)
    slopes = np.empty(1, x.dtype)
    for first in range(0, x.shape[0], LANES):
        load(state, x, first)
        block_energy(state, slopes, packed)
        for k in range(min(LANES, x.shape[0] - first)):
            total = 0.0
            for i in range(n):
                total += state[place(i) * STEP + ENERGY + place(k)]
            u[first + k] = total


@jit
def force_sweep(x, u, force, packed):  # type: ignore[no-untyped-def]
    """As `energy_sweep`, with forces (kJ/mol/nm) into force (n, atoms, 3)."""
    n = x.shape[1]
    state = np.empty(n * ROWS * LANES, x.dtype)
    slopes = np.empty(max(1, n * (n - 1) * LANES), x.dtype)
    for first in range(0, x.shape[0], LANES):
        load(state, x, first)
        block_force(state, slopes, packed)
        for k in range(min(LANES, x.shape[0] - first)):
            total = 0.0
            for i in range(n):
                total += state[place(i) * STEP + ENERGY + place(k)]
                for axis in range(3):
                    force[first + k, i, axis] = state[place(i) * STEP + FORCE + place(axis) * WIDE + place(k)]
            u[first + k] = total


def spread(task: Callable[[int, int], None], n: int, threads: int, grain: int = 2 * LANES) -> None:
    """Call `task(start, stop)` on slices of range(n), by several threads where that pays."""
    pieces = max(1, min(4 * threads, n // grain)) if threads > 1 else 1
    edges = [LANES * round(k * n / pieces / LANES) for k in range(pieces)] + [n]
    slices = [(a, b) for a, b in itertools.pairwise(edges) if b > a]
    each(lambda k: task(*slices[k]), len(slices), threads)


def each(task: Callable[[int], object], n: int, threads: int) -> None:
    """Call `task(k)` for every k below n, on several threads where there are several of both."""
    if threads < 2 or n < 2:
        for k in range(n):
            task(k)
        return
    list(_pool(threads, os.getpid()).map(task, range(n)))


@lru_cache(maxsize=4)
def _pool(threads: int, process: int) -> ThreadPoolExecutor:
    """Threads are kept between calls; a forked process gets its own."""
    del process
    return ThreadPoolExecutor(threads, thread_name_prefix="bgbench-energy")
