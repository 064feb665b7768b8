"""The compiled engine: whole batches sent through the kernels, by threads."""

import itertools
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Any

import numpy as np

from bgbench.energies import bonded, kernels
from bgbench.energies.kernels import ENERGY, FORCE, ROWS, STEP, WIDE, jit, place
from bgbench.energies.lanes import LANES


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
