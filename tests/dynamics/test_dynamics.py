"""Batched Langevin and parallel tempering against closed forms."""

import doctest
import importlib

import numpy as np
import openmm
import pytest
import torch

from bgbench import BgbenchError, Tempered
from bgbench.core.units import kt
from bgbench.dynamics.langevin import Integrator, Walkers, with_hydrogen_mass
from bgbench.dynamics.tempering import Tempering, ladder
from bgbench.energies.batched import BatchedEnergy
from bgbench.energies.compiled import energy_sweep
from bgbench.energies.packed import pack
from bgbench.energies.parameters import read_parameters

STIFF, LENGTH = 20_000.0, 0.15


@pytest.fixture(scope="module")
def diatomic():
    """Two atoms of 12 Da on a stiff spring: energy ½k(r − r₀)², kinetic and potential parts known."""
    system = openmm.System()
    for _ in range(2):
        system.addParticle(12.0)
    bond = openmm.HarmonicBondForce()
    bond.addBond(0, 1, LENGTH, STIFF)
    system.addForce(bond)
    nonbonded = openmm.NonbondedForce()
    for _ in range(2):
        nonbonded.addParticle(0.0, 0.1, 0.0)
    system.addForce(nonbonded)
    return read_parameters(system)


def walkers_of(parameters, n, temperature, seed):
    x = np.zeros((n, 2, 3), np.float32)
    x[:, 1, 0] = LENGTH
    return Walkers.start(x, np.full(n, kt(temperature)), parameters.masses, seed)


def test_kinetic_and_potential_temperature_of_a_spring(diatomic, seed):
    """⟨E_kin⟩ = 3 kT (6 degrees of freedom), ⟨½k(r − r₀)²⟩ = ½ kT, within 5 standard errors; no drift."""
    n, t = 256, 310.0
    walkers = walkers_of(diatomic, n, t, seed)
    integrator = Integrator(diatomic.masses, step=0.001, friction=10.0)
    packed = pack(diatomic, np.float32)
    integrator.advance(walkers, 2000, packed, 2)
    kinetic, potential = [], []
    for _ in range(60):
        integrator.advance(walkers, 200, packed, 2)
        u = np.empty(n)
        energy_sweep(walkers.x, u, packed)
        potential.append(u)
        kinetic.append(0.5 * 12.0 * (walkers.v.astype(float) ** 2).sum((1, 2)))
    for values, expected in ((kinetic, 3.0), (potential, 0.5)):
        ratio = np.array(values) / kt(t)
        per_walker = ratio.mean(0)
        error = per_walker.std(ddof=1) / np.sqrt(n)
        assert abs(per_walker.mean() - expected) < 5 * error + 0.005 * expected
        halves = ratio[:30].mean(0) - ratio[30:].mean(0)
        assert abs(halves.mean()) < 5 * halves.std(ddof=1) / np.sqrt(n)


def test_swaps_keep_every_rung_at_its_temperature(diatomic, seed):
    temperatures = ladder(310.0, 620.0, 3)
    x = np.zeros((128, 2, 3), np.float32)
    x[:, 1, 0] = LENGTH
    tempering = Tempering.start(x, temperatures, diatomic.masses, seed)
    integrator = Integrator(diatomic.masses, friction=10.0)
    packed = pack(diatomic, np.float32)
    for _ in range(20):
        tempering.round(integrator, 100, packed, 2)
    energies = np.array([tempering.round(integrator, 50, packed, 2).reshape(-1, 3) for _ in range(80)])
    assert (tempering.swaps_accepted / tempering.swaps_tried > 0.3).all()
    per_replica = energies.mean(0)
    for rung, temperature in enumerate(temperatures):
        values = per_replica[:, rung] / kt(temperature)
        error = values.std(ddof=1) / np.sqrt(len(values))
        assert abs(values.mean() - 0.5) < 5 * error + 0.0025


def test_exchange_is_metropolis(diatomic, seed):
    """Two rungs, fixed energies: the acceptance rate is min(1, exp(Δβ ΔE)) within 4 standard errors."""
    replicas, gap = 4000, 1.0
    x = np.zeros((replicas, 2, 3), np.float32)
    tempering = Tempering.start(x, np.array([310.0, 400.0]), diatomic.masses, seed)
    u = np.tile([0.0, gap], replicas).reshape(-1)
    tempering.exchange(u.copy())
    beta = 1 / kt(310.0), 1 / kt(400.0)
    expected = np.exp((beta[0] - beta[1]) * (0.0 - gap))
    observed = tempering.swaps_accepted[0] / replicas
    assert abs(observed - expected) < 4 * np.sqrt(expected * (1 - expected) / replicas)
    before = tempering.swaps_accepted[0]
    tempering.rounds = 0
    tempering.exchange(np.tile([gap, 0.0], replicas))
    assert tempering.swaps_accepted[0] - before == replicas


def test_saved_walkers_go_on_as_if_nothing_had_happened(diatomic, seed):
    packed, integrator = pack(diatomic, np.float32), Integrator(diatomic.masses)
    one, two = (walkers_of(diatomic, 20, 310.0, seed) for _ in range(2))
    integrator.advance(one, 100, packed, 1)
    integrator.advance(two, 40, packed, 2)
    copied = Walkers(two.x.copy(), two.v.copy(), two.random.copy(), two.kt.copy())
    integrator.advance(copied, 60, packed, 2)
    assert np.array_equal(one.x, copied.x)
    assert np.array_equal(one.v, copied.v)


def test_random_numbers_are_normal(seed):
    """Mean, variance and fourth moment of the compiled normals, within 5 standard errors."""
    from bgbench.dynamics.langevin import _normals
    from bgbench.energies.lanes import LANES

    random = np.random.default_rng(seed).integers(1, 2**32, 4 * LANES, dtype=np.uint32)
    noise = np.empty(2 * 5000 * LANES, np.float32)
    _normals(noise, random, 5000, np.uintp(LANES))
    n = len(noise)
    assert abs(noise.mean()) < 5 / np.sqrt(n)
    assert abs((noise**2).mean() - 1) < 5 * np.sqrt(2 / n)
    assert abs((noise.astype(float) ** 4).mean() - 3) < 5 * np.sqrt(96 / n)
    assert abs((noise[0::2] * noise[1::2]).mean()) < 5 / np.sqrt(n / 2)


def test_hydrogen_mass_moves_mass_and_keeps_the_sum():
    masses = np.array([12.0, 1.0, 1.0, 16.0])
    moved = with_hydrogen_mass(masses, np.array([[0, 1], [0, 2], [0, 3]]), 3.0)
    assert moved.tolist() == [8.0, 3.0, 3.0, 16.0]


def test_ladder_is_geometric():
    assert np.allclose(np.diff(np.log(ladder(310, 700, 6))), np.log(700 / 310) / 5)
    assert ladder(310, 700, 1).tolist() == [310]


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ((310.0, 700.0, 0), "a ladder has 1 rung or more, got 0"),
        ((0.0, 700.0, 1), "must be positive and finite, got 0 K"),
        ((310.0, float("inf"), 2), "must be positive and finite, got inf K"),
    ],
)
def test_a_ladder_without_temperatures_is_refused(arguments, complaint):
    with pytest.raises(BgbenchError, match=complaint):
        ladder(*arguments)
    assert ladder(310.0, 0.0, 1).tolist() == [310.0]


def test_a_walk_needs_one_conformer_and_a_temperature(alanine):
    with pytest.raises(BgbenchError, match=r"one conformer of AA, \(23, 3\), got \(2, 23, 3\)"):
        Tempered(alanine, alanine.positions.expand(2, -1, -1), ladder(310.0, 400.0, 2), 0)
    with pytest.raises(BgbenchError, match=r"temperatures must be \(rungs,\), got shape \(0,\)"):
        Tempered(alanine, alanine.positions, np.zeros(0), 0)


def test_the_energy_of_a_walk_is_that_of_its_positions(alanine, seed):
    """In kT of the target, the constant of the torsions among it, to float32's accuracy."""
    walk = Tempered(alanine, alanine.positions, ladder(alanine.temperature, 400.0, 2), seed)
    x, u = walk.round(20)
    assert x.dtype == torch.float32
    assert u == pytest.approx(float(BatchedEnergy(alanine).energy(x[None].double())), abs=1e-2)


@pytest.mark.parametrize("module", ["tempering", "tempered"])
def test_examples_run(module):
    outcome = doctest.testmod(importlib.import_module(f"bgbench.dynamics.{module}"))
    assert outcome.attempted >= 1
    assert outcome.failed == 0
