"""Conformers one by one, pairs side by side: the energy, forces and dynamics of the kernels for blocks."""

import numpy as np
import pytest

from bgbench import peptide
from bgbench.core.units import kt
from bgbench.dynamics.langevin import Integrator, Walkers
from bgbench.energies.batched import BatchedEnergy
from bgbench.energies.compiled import energy_sweep, force_sweep
from bgbench.energies.packed import BLOCK, pack
from bgbench.energies.single import FEW, count_in_blocks, single_sweep, sweep_energies, sweep_forces


def shaken(name, n, seed, dtype=np.float32, width=0.01):
    """Parameters of a peptide, and conformers `(n, atoms, 3)` around its start structure."""
    system = peptide(name)
    noise = np.random.default_rng(seed).normal(0, width, (n, system.n_atoms, 3))
    return BatchedEnergy(system).parameters, (system.positions.numpy() + noise).astype(dtype)


@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float32, 2e-6), (np.float64, 1e-12)])
@pytest.mark.parametrize("name", ["AA", "CP", "WHR"])
def test_one_by_one_they_have_the_energy_and_force_of_blocks(name, dtype, tolerance, seed):
    """Within rounding, relative to the largest force; the atoms are no multiple of a row's length."""
    p, x = shaken(name, 5, seed, dtype)
    assert p.n_atoms % BLOCK
    packed = pack(p, dtype)
    u, f, expected_u, expected_f = np.empty(5), np.empty_like(x), np.empty(5), np.empty_like(x)
    force_sweep(x, expected_u, expected_f, packed)
    single_sweep(x, u, f, packed)
    assert np.abs(u - expected_u).max() < tolerance * np.abs(expected_u).max() * p.n_atoms
    assert np.abs(f - expected_f).max() < tolerance * np.abs(expected_f).max()


def test_overlapping_atoms_stay_finite():
    p, x = shaken("AA", 2, 0)
    x[0, 1] = x[0, 0]
    x[1] = 0.0
    u, f = np.empty(2), np.empty_like(x)
    single_sweep(x, u, f, pack(p, np.float32))
    assert not np.isnan(u).any()
    assert not np.isnan(f).any()


@pytest.mark.parametrize(("n", "blocks"), [(0, 0), (1, 0), (9, 0), (10, 10), (16, 16), (20, 16), (31, 31)])
def test_the_last_few_go_one_by_one(n, blocks):
    assert count_in_blocks(n) == blocks


@pytest.mark.parametrize("n", [0, 3, 12, 18])
def test_a_sweep_of_any_number_is_that_of_blocks(n, seed):
    p, x = shaken("GG", n, seed)
    packed = pack(p, np.float32)
    u, only, f, expected_u, expected_f = (
        np.empty(n),
        np.empty(n),
        np.empty_like(x),
        np.empty(n),
        np.empty_like(x),
    )
    force_sweep(x, expected_u, expected_f, packed)
    sweep_forces(x, u, f, packed)
    sweep_energies(x, only, packed)
    assert np.allclose(u, expected_u, rtol=1e-5)
    assert np.allclose(only, expected_u, rtol=1e-5)
    assert np.allclose(f, expected_f, atol=2e-6 * np.abs(expected_f).max(initial=1))
    energy_sweep(x, expected_u, packed)
    assert np.allclose(only, expected_u, rtol=1e-5)


def test_walkers_go_the_same_way_one_by_one_and_in_a_block(seed):
    """The same noise, so that 40 steps part them by rounding alone; threads change nothing at all."""
    p, x = shaken("GG", 1, seed, width=0.0)
    packed, integrator = pack(p, np.float32), Integrator(p.masses)

    def walk(n, threads):
        walkers = Walkers.start(np.repeat(x, 16, axis=0), np.full(16, kt(310.0)), p.masses, seed)
        few = Walkers(walkers.x[:n], walkers.v[:n], walkers.random[:n], walkers.kt[:n])
        integrator.advance(few, 40, packed, threads)
        return few

    block, singles = walk(16, 1), walk(FEW, 1)
    moved = np.abs(singles.x - x).max()
    assert np.abs(singles.x - block.x[:FEW]).max() < 1e-4 < 0.01 < moved
    assert np.array_equal(singles.random, block.random[:FEW])
    threaded = walk(FEW, 2)
    assert np.array_equal(singles.x, threaded.x)
    assert np.array_equal(singles.v, threaded.v)
