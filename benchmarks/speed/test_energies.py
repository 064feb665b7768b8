"""The batched energy against OpenMM's CPU platform (2 threads), the same conformers, the same run."""

import math
import time

import pytest
import torch

from bgbench import System, peptide
from bgbench.energies.batched import BatchedEnergy
from bgbench.energies.openmm import OpenMMEnergy
from bgbench.runs.process import peak_memory
from bgbench_md.langevin import WALKS

GOALS = {("AA", False): 100, ("ARIP", False): 40, ("AA", True): 20, ("ARIP", True): 15}


def conformers(system: System, n: int) -> torch.Tensor:
    """Shaken start structures, float32."""
    generator = torch.Generator().manual_seed(0)
    return system.positions.float() + 0.01 * torch.randn(n, system.n_atoms, 3, generator=generator)


def seconds(call, x: torch.Tensor) -> float:
    """Least of three timings."""
    times = []
    for _ in range(3):
        started = time.perf_counter()
        call(x)
        times.append(time.perf_counter() - started)
    return min(times)


@pytest.mark.parametrize(("sequence", "forces"), GOALS)
def test_ratio_to_openmm(sequence, forces, benchmark):
    system = peptide(sequence)
    batched, openmm = BatchedEnergy(system, "compiled"), OpenMMEnergy(system, "CPU", threads=2)
    few, many = conformers(system, 300), conformers(system, 32_000)
    ours, theirs = (e.energy_and_force if forces else e.energy for e in (batched, openmm))
    ours(many[:64])
    per_openmm = seconds(theirs, few) / len(few)
    benchmark.pedantic(ours, (many,), rounds=3)
    per_batched = benchmark.stats.stats.min / len(many)
    ratio = per_openmm / per_batched
    kind = "energy + force" if forces else "energy"
    print(
        f"\n{sequence} {kind}: batched {1 / per_batched:,.0f}/s, OpenMM CPU {1 / per_openmm:,.0f}/s, "
        f"ratio {ratio:.0f} (goal {GOALS[sequence, forces]})"
    )
    assert ratio >= GOALS[sequence, forces]


@pytest.mark.parametrize(("sequence", "goal"), [("AA", 5), ("ARIP", 8)])
def test_steps_of_one_walker(sequence, goal):
    """The two engines of `md`: the same integrator, one thread each, in turn."""
    system, seconds_of = peptide(sequence), dict.fromkeys(WALKS, math.inf)
    walks = {engine: walk(system, system.positions, 1) for engine, walk in WALKS.items()}
    for walk in walks.values():
        walk.advance(500)
    for _ in range(3):
        for engine, walk in walks.items():
            started = time.perf_counter()
            walk.advance(1_000)
            seconds_of[engine] = min(seconds_of[engine], time.perf_counter() - started)
    for walk in walks.values():
        walk.release()
    rates = {engine: f"{1_000 / taken:,.0f}" for engine, taken in seconds_of.items()}
    ratio = seconds_of["openmm"] / seconds_of["compiled"]
    print(f"\n{sequence}: steps/s of one walker {rates}, ratio {ratio:.1f} (goal {goal})")
    assert ratio >= goal


def test_throughput_and_memory_are_flat():
    system = peptide("AA")
    energy = BatchedEnergy(system, "compiled")
    rates, peaks = {}, {}
    for n in (100, 1_000, 10_000, 100_000):
        x = conformers(system, n)
        energy.energy_and_force(x)
        rates[n] = n / seconds(energy.energy_and_force, x)
        peaks[n] = peak_memory() - x.nelement() * 8 / 2**20
    print("\nconformers/s:", {n: f"{rate:,.0f}" for n, rate in rates.items()})
    print("peak MB beyond positions and forces:", {n: round(mb) for n, mb in peaks.items()})
    assert min(rates[1_000], rates[10_000], rates[100_000]) > 0.5 * max(rates.values())
    assert peaks[100_000] - peaks[1_000] < 60


def test_time_against_atoms():
    print()
    for sequence in ("AA", "WS", "ARIP", "YRIQ", "ANKSMIEA", "FWRVDHDM"):
        system = peptide(sequence)
        energy, x = BatchedEnergy(system, "compiled"), conformers(system, 3200)
        energy.energy_and_force(x[:64])
        alone, both = seconds(energy.energy, x) / 3200, seconds(energy.energy_and_force, x) / 3200
        pairs = system.n_atoms * (system.n_atoms - 1) / 2
        print(
            f"{sequence:9s} {system.n_atoms:4d} atoms: energy {alone * 1e6:6.1f} µs, "
            f"with force {both * 1e6:6.1f} µs, {both / pairs * 1e9:5.2f} ns a pair"
        )
