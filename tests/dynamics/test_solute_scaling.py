"""Replica exchange with solute scaling: what it scales and moves, and that its lowest rung is the target."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import qmc

from bgbench import BgbenchError, peptide
from bgbench.core.plugins import plugins
from bgbench.core.resources import data_path
from bgbench.core.simulation import SimulationSettings
from bgbench.core.units import kt
from bgbench.dynamics.engines import SOLUTE_SCALING, SoluteScalingEngine, find_engine
from bgbench.dynamics.langevin import Integrator, Walkers
from bgbench.dynamics.solute_scaling import FLIP_WIDTH, SoluteScaling, TorsionMoves, scale_solute
from bgbench.energies.batched import BatchedEnergy
from bgbench.energies.compiled import energy_sweep
from bgbench.energies.minimise import minimise
from bgbench.energies.packed import pack
from bgbench.references.providers import find_reference
from bgbench.references.simulate import Job
from bgbench.references.store import read_reference
from bgbench.systems.broken import cis_fractions
from bgbench.systems.features import chi1_atoms, dihedral, proline_omega_atoms, torsion_atoms, torsions


@pytest.fixture(scope="module")
def parameters(alanine):
    return BatchedEnergy(alanine, "compiled").parameters


def energies(p, x):
    u = np.empty(len(x))
    energy_sweep(np.ascontiguousarray(x, np.float64), u, pack(p, np.float64))
    return u


def test_the_two_parts_make_the_energy(alanine, parameters):
    """A + s·B at any s, and the full energy at s = 1 but for the constant of its torsions."""
    x = find_reference(alanine).x[:50].numpy()
    moves = TorsionMoves.of_system(alanine, parameters.torsions)
    a, b = (energies(scale_solute(parameters, moves, s, stiff), x) for s, stiff in ((0.0, 1.0), (1.0, 0.0)))
    full = energies(replace(parameters, torsion_constant=0.0), x)
    assert np.allclose(a + b, full, atol=1e-6)
    assert np.allclose(energies(scale_solute(parameters, moves, 0.4), x), a + 0.4 * b, atol=1e-6)
    assert b.std() > 5.0
    assert a.std() > 5.0


def test_the_bonds_that_torsion_moves_are_about():
    """φ and ψ but proline's φ, bonds of side chains with heavy atoms to move; no ring. Of peptide bonds
    the one before proline, whose moves are flips."""
    system = peptide("FPI")
    names = [(atom.residue, atom.name) for atom in system.atoms]
    moves = TorsionMoves.of_system(system, BatchedEnergy(system, "compiled").parameters.torsions)
    axes = {frozenset(names[i] for i in axis) for axis in moves.axes.tolist()}
    assert axes == {
        frozenset(((2, "N"), (2, "CA"))),
        frozenset(((0, "CA"), (0, "C"))), frozenset(((1, "CA"), (1, "C"))),
        frozenset(((0, "CA"), (0, "CB"))), frozenset(((0, "CB"), (0, "CG"))),
        frozenset(((2, "CA"), (2, "CB"))), frozenset(((2, "CB"), (2, "CG1"))),
        frozenset(((0, "C"), (1, "N"))),
    }  # fmt: skip
    flipped = [{names[i] for i in axis} for axis in moves.axes[moves.flips].tolist()]
    assert flipped == [{(0, "C"), (1, "N")}]


def test_flips_are_about_half_a_circle_and_as_likely_as_their_opposites(seed):
    system = peptide("AP")
    moves = TorsionMoves.of_system(system, BatchedEnergy(system, "compiled").parameters.torsions)
    which = np.arange(20_000) % 2
    angle = moves.draw_angles(which, np.random.default_rng(seed))
    gap = np.remainder(angle[moves.flips[which]], 2 * np.pi) - np.pi
    assert np.abs(gap).max() < 6 * FLIP_WIDTH
    assert abs(gap.mean()) < 5 * FLIP_WIDTH / np.sqrt(len(gap))
    assert np.abs(angle[~moves.flips[which]]).mean() == pytest.approx(np.pi / 2, rel=0.05)


def angles(system, x):
    """φ, ψ, χ₁ and ω before proline `(n, 2 · (residues − 1) + χ₁ + prolines)` rad."""
    x = torch.from_numpy(np.asarray(x, np.float64))
    backbone, isomers = torsions(system, x), dihedral(x, proline_omega_atoms(system))
    return torch.cat([backbone.phi, backbone.psi, dihedral(x, chi1_atoms(system)), isomers], dim=1)


def parts(sequence):
    """A peptide, its energy's parameters, its torsion moves and frames of it, `(n, atoms, 3)`."""
    system = peptide(sequence)
    energy = BatchedEnergy(system, "compiled")
    p = energy.parameters
    frames = minimise(energy, system.positions, 100)[None] if "P" in sequence else find_reference(system).x
    return system, p, TorsionMoves.of_system(system, p.torsions), frames


@pytest.mark.parametrize("sequence", ["AA", "WS", "HM"])
def test_a_torsion_move_is_rigid_and_changes_one_angle(sequence, generator):
    system, p, moves, frames = parts(sequence)
    n = len(moves.axes)
    x = frames[: 32 * n].double()
    angle = 6.0 * torch.rand(len(x), generator=generator).numpy() - 3.0
    which = np.arange(len(x)) % n
    y = torch.from_numpy(moves.apply(x.numpy(), which, moves.rotation_matrices(x.numpy(), which, angle)))
    i, j = np.array(system.bonds).T
    assert torch.allclose((x[:, i] - x[:, j]).norm(dim=-1), (y[:, i] - y[:, j]).norm(dim=-1), atol=1e-9)
    stiff = replace(scale_solute(p, moves, 0.0), bond_values=p.bond_values * [1, 0], born=None)
    assert np.allclose(energies(stiff, x.numpy()), energies(stiff, y.numpy()), atol=1e-6), (
        "an angle or a plane moved"
    )
    moved = torch.remainder(angles(system, y) - angles(system, x) + torch.pi, 2 * torch.pi) - torch.pi
    about = {frozenset(pair): k for k, pair in enumerate(turned_bonds(system))}
    for k, axis in enumerate(moves.axes.tolist()):
        mine, others = moved[which == k], set(range(moved.shape[1]))
        if frozenset(axis) in about:
            turned = mine[:, about[frozenset(axis)]].abs()
            assert torch.allclose(turned, torch.from_numpy(angle[which == k]).abs().double(), atol=1e-6)
            others -= {about[frozenset(axis)]}
        assert float(mine[:, sorted(others)].abs().max()) < 1e-6


def turned_bonds(system):
    """The bonds that the columns of `angles` are about."""
    quads = torsion_atoms(system)
    rows = [quads["phi"], quads["psi"], chi1_atoms(system), proline_omega_atoms(system)]
    return torch.cat(rows)[:, 1:3].tolist()


@pytest.mark.parametrize(
    ("sequence", "points", "cells"),
    [("AA", 2**14, 4), pytest.param("SS", 2**18, 3, marks=pytest.mark.slow), ("AP", 2**14, 4)],
)
def test_torsion_moves_alone_sample_the_torus_of_a_rigid_molecule(sequence, points, cells, seed):
    """No dynamics, one rung: shares of cells of all turning angles are those of a sum over the torus.

    Over scrambled Sobol points, not a grid: rotamers sit on edges of cells, and a grid's points with them.
    """
    system, p, moves, frames = parts(sequence)
    n, t, frame = 1024, 310.0, frames[:1].float().numpy()
    walkers = Walkers.start(np.repeat(frame, n, 0), np.full(n, kt(t)), p.masses, seed)
    ladder = SoluteScaling.start(system, p, walkers, np.ones(1), 12 * len(moves.axes) // 2, seed)
    for _ in range(20):
        ladder.round(Integrator(p.masses), 0, 1)
    x = np.repeat(frame, points, 0).astype(np.float64)
    for k, angle in enumerate(2 * np.pi * qmc.Sobol(len(moves.axes), seed=seed).random(points).T):
        which = np.full(points, k)
        x = moves.apply(x, which, moves.rotation_matrices(x, which, angle))
    u = energies(scale_solute(p, moves, 1.0), x) / kt(t)
    expected = shares(system, x, np.exp(u.min() - u), cells)
    populations = shares(system, ladder.walkers.x, np.ones(n), cells)
    assert (expected > 0.02).sum() >= 3, "one cell would prove nothing"
    assert np.abs(populations - expected).max() < 5 * np.sqrt(0.25 / n) + 0.02


def shares(system, x, weights, cells):
    """Weights in cells of the angles that turn."""
    edges = [np.linspace(-np.pi, np.pi, cells + 1)] * len(turned_bonds(system))
    return np.histogramdd(angles(system, x).numpy(), bins=edges, weights=weights)[0] / weights.sum()


def test_the_lowest_rung_keeps_the_energy_of_the_reference(alanine, seed):
    """Mean energy of dynamics, moves and swaps together, within 5 standard errors of parallel tempering's.

    With velocities neither brought level nor rotated it lies 15 kT higher.
    """
    engine = SoluteScalingEngine(
        alanine, replace(SOLUTE_SCALING, rungs=2, high=450.0, replicas=32, anneal_steps=2000, seed=seed)
    )
    engine.advance(40)
    energy, rows = BatchedEnergy(alanine, "compiled"), []
    for _ in range(40):
        engine.advance(4)
        rows.append(energy.energy(torch.from_numpy(engine.copy_target_positions()).double()).numpy())
    energies = np.stack(rows).mean(0)
    reference = find_reference(alanine).u.numpy()
    expected = reference.mean()
    assert abs(energies.mean() - expected) < 5 * energies.std(ddof=1) / np.sqrt(len(energies))
    assert np.stack(rows).std() == pytest.approx(reference.std(), rel=0.1)
    assert min(engine.describe()["swap_rates"]) > 0.2
    assert min(engine.describe()["turn_rates"]) > 0.05


@pytest.mark.slow
def test_proline_has_both_isomers_as_two_independent_ways_found_them(seed):
    """AP is cis in .842 ± .008 by another ladder, in .840 ± .004 by OpenMM's Langevin with moves of ω."""
    system = peptide("AP")
    engine = SoluteScalingEngine(system, replace(SOLUTE_SCALING, seed=seed))
    engine.advance(SOLUTE_SCALING.warm_up)
    rows = []
    for _ in range(100):
        engine.advance(8)
        rows.append(cis_fractions(system, torch.from_numpy(engine.copy_target_positions()))["PRO2"])
    blocks = np.array(rows).reshape(10, -1).mean(1)
    error = np.hypot(blocks.std(ddof=1) / np.sqrt(len(blocks)), 0.008)
    assert abs(blocks.mean() - 0.842) < 4 * error


def test_exchanges_leave_level_velocities_as_they_are(alanine, parameters, seed):
    """No dynamics, no moves: velocities half a kick ahead are those of before, in the order of the swaps."""
    n = 32
    x = find_reference(alanine).x[: 2 * n].float().numpy()
    walkers = Walkers.start(x, np.full(2 * n, kt(310.0)), parameters.masses, seed)
    ladder = SoluteScaling.start(alanine, parameters, walkers, np.array([1.0, 0.6]), 0, seed)
    integrator = Integrator(parameters.masses, 0.002)

    def level():
        parts = [ladder._rung(k) for k in (0, 1)]
        ahead = [Walkers(w.x, w.v.copy(), w.random, w.kt) for w in parts]
        for k, part in enumerate(ahead):
            ladder._kick(integrator, part, k, 0.5)
        return np.concatenate([part.v for part in ahead])

    before, placed = level(), {row.tobytes(): k for k, row in enumerate(ladder.walkers.x)}
    ladder.round(integrator, 0, 1)
    order = [placed[row.tobytes()] for row in ladder.walkers.x]
    assert ladder.swaps_accepted[0] > 3
    assert np.allclose(level(), before[order], atol=1e-4)


def test_a_ladder_that_does_not_rise_is_refused(alanine):
    with pytest.raises(BgbenchError, match="not above the system's 600 K; use --engine batched"):
        SoluteScalingEngine(alanine.at(600.0), SOLUTE_SCALING)


def test_settings_are_recorded_under_the_names_that_certificates_have():
    record = SOLUTE_SCALING.to_record()
    assert record["turns"] == 20
    assert "torsion_moves" not in record
    packaged = read_reference(data_path("references", "ARIP.npz"), peptide("ARIP")).certificate["settings"]
    assert set(record) == set(packaged)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"engine": "md"}, "unknown engine 'md'; known: batched, openmm, softened"),
        ({"torsion_moves": -1}, "torsion moves must be 0 or more, got -1"),
        ({"step": float("nan")}, r"step must be 0\.001 or more, got nan"),
        ({"engine": "openmm", "seed": 2_000_001}, "with openmm seed must be 2000000 or less"),
    ],
)
def test_settings_that_no_engine_can_have_are_refused(alanine, changes, complaint):
    with pytest.raises(BgbenchError, match=complaint):
        Job(alanine, SimulationSettings(**changes), 400, Path("AA.npz"))
    assert Job(alanine, SimulationSettings(seed=2_000_001), 400, Path("AA.npz")).settings.seed == 2_000_001


@pytest.mark.parametrize("settings", [SOLUTE_SCALING, SimulationSettings()], ids=lambda s: s.engine)
def test_langevin_dynamics_go_on_from_an_engines_positions(settings, alanine):
    """One temperature, rounds of 1 ps, and the positions the engine was left at."""
    settings = replace(settings, replicas=2, rungs=2, anneal_steps=10)
    engine = find_engine(settings)(alanine, settings)
    plain = engine.start_langevin()
    assert np.array_equal(plain.copy_target_positions(), engine.copy_target_positions())
    assert plain.describe()["temperatures"] == [310.0]
    assert plain.settings.round_steps * plain.settings.step == 1000.0
    assert engine.energy.system is alanine


def test_openmm_goes_on_by_itself_for_its_own_dynamics_are_plain(alanine):
    settings = SimulationSettings(engine="openmm", replicas=1, anneal_steps=0)
    engine = find_engine(settings)(alanine, settings)
    assert engine.start_langevin() is engine


@pytest.mark.parametrize("settings", [SOLUTE_SCALING, SimulationSettings()], ids=lambda s: s.engine)
def test_states_keep_the_names_that_work_folders_have(settings, alanine):
    """Simulations that an earlier version was stopped in go on."""
    engine = find_engine(settings)(alanine, replace(settings, replicas=1, rungs=2, anneal_steps=0))
    names = {"x", "v", "random", "kt", "rounds", "tried", "taken"}
    assert set(engine.freeze()) == names | ({"turned"} if settings.engine == "softened" else set())


@pytest.mark.parametrize("name", [*plugins().engines])
def test_an_engines_own_settings_are_for_it(name):
    engine = plugins().engines[name].engine
    for settings in (engine.reference_settings(), engine.training_settings()):
        assert settings.engine == name
