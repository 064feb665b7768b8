"""Walkers in torch on any device: closed forms, the compiled walkers, and a device that is not there."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from bgbench import BgbenchError, peptide
from bgbench.core import devices
from bgbench.core.devices import CPU
from bgbench.core.units import kt
from bgbench.dynamics import engines
from bgbench.dynamics.device import DeviceLadders, Rungs, build_energy, make_generator
from bgbench.dynamics.engines import SOLUTE_SCALING, find_engine, start_engine
from bgbench.dynamics.langevin import Integrator, with_hydrogen_mass
from bgbench.dynamics.solute_scaling import FLIP_WIDTH, TorsionMoves, scale_solute
from bgbench.energies.batched import BatchedEnergy
from bgbench.energies.eager import EagerEngine
from bgbench.references.providers import find_reference
from bgbench.references.simulate import Job, simulate_together
from bgbench.references.store import read_frames
from bgbench.testing import elsewhere

STIFFNESS, MASS, T = 500.0, 12.0, 310.0
TINY = replace(
    SOLUTE_SCALING, replicas=2, rungs=2, anneal_steps=5, warm_up=1, round_steps=1, rounds_per_frame=1,
    torsion_moves=1,
)  # fmt: skip


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Small tensors, for which a second thread only waits, and starts that are hardly minimised."""
    monkeypatch.setattr(engines, "MINIMISER_EVALUATIONS", 100)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class Spring:
    """½ k |x|² of every atom: energies and forces in closed form."""

    def __init__(self, stiffness=STIFFNESS):
        self.stiffness = stiffness

    def energy(self, x):
        return 0.5 * self.stiffness * x.double().square().sum((1, 2))

    def energy_and_force(self, x):
        return self.energy(x), -self.stiffness * x


def springs(temperatures, replicas, seed, *, step=0.004, friction=5.0, scales=None):
    """Ladders of one atom on a spring, by temperature or by stiffness."""
    kts = np.array([kt(t) for t in temperatures])
    rungs = Rungs(kts, [Spring()], None, 1 / kts)
    if scales is not None:
        rungs = Rungs(kts, [Spring(s * STIFFNESS) for s in scales], Spring(), np.asarray(scales) / kts)
    start = np.random.default_rng(seed).standard_normal((replicas, 1, 3)) * np.sqrt(kts[0] / STIFFNESS)
    integrator = Integrator(np.array([MASS]), step, friction)
    return DeviceLadders(start, rungs, integrator, CPU, [seed])


def test_variance_and_velocities_of_a_spring_are_those_of_its_temperature(seed):
    """⟨x²⟩ = kT/k, which LangevinMiddle has exactly, and ⟨v²⟩ = kT/m, within 5 standard errors."""
    ladders = springs([T], 4000, seed)
    ladders.advance(300)
    state = ladders.freeze()
    for values, expected in ((state["x"], kt(T) / STIFFNESS), (state["v"], kt(T) / MASS)):
        square = values.astype(float) ** 2
        assert abs(square.mean() - expected) < 5 * square.std() / np.sqrt(square.size)


@pytest.mark.parametrize(
    ("temperatures", "scales"), [([T, 450.0, 620.0], None), ([T, T, T], [1.0, 0.7, 0.5])]
)
def test_exchanges_leave_every_rung_its_distribution(temperatures, scales, seed):
    """Variances on all rungs within 5 standard errors, most swaps accepted, by both kinds of ladder."""
    ladders = springs(temperatures, 3000, seed, scales=scales)
    for _ in range(30):
        ladders.round(10)
    x = ladders.freeze()["x"].reshape(3, -1).astype(float) ** 2
    stiffness = STIFFNESS * np.array(scales or [1.0] * 3)
    expected = np.array([kt(t) for t in temperatures]) / stiffness
    assert (ladders.swaps_accepted / ladders.swaps_tried > 0.5).all()
    assert (np.abs(x.mean(1) - expected) < 5 * x.std(1) / np.sqrt(x.shape[1])).all()


def test_exchange_is_metropolis_and_carries_velocities(seed):
    """Fixed energies: accepted at min(1, exp(Δβ ΔE)) within 4 standard errors; velocities scale by √T."""
    n, gap = 4000, 1.0
    ladders = springs([T, 400.0], n, seed)
    before = ladders.freeze()
    ladders.rounds = 1
    ladders._exchange(torch.tensor([0.0, gap]).double().repeat_interleave(n))
    expected = np.exp((1 / kt(T) - 1 / kt(400.0)) * (0.0 - gap))
    rate = ladders.swaps_accepted[0] / n
    assert abs(rate - expected) < 4 * np.sqrt(expected * (1 - expected) / n)
    after = ladders.freeze()
    swapped = (after["v"][:n] != before["v"][:n]).any((1, 2))
    assert swapped.mean() == pytest.approx(rate)
    assert np.allclose(after["v"][:n][swapped], before["v"][n:][swapped] * np.sqrt(T / 400.0), rtol=1e-5)
    assert np.array_equal(after["x"][n:][swapped], before["x"][:n][swapped])
    ladders._exchange(torch.tensor([gap, 0.0]).double().repeat_interleave(n))
    assert ladders.swaps_accepted[0] == pytest.approx(rate * n + n)


def test_without_friction_the_energy_does_not_drift(seed):
    """2,000 steps: the mean of kinetic and potential energy, level with each other, moves by under 1 %."""
    ladders = springs([T], 200, seed, step=0.002, friction=1e-9)

    def total():
        state = ladders.freeze()
        v = state["v"] - 0.5 * 0.002 / MASS * STIFFNESS * state["x"]
        return (0.5 * MASS * v**2 + 0.5 * STIFFNESS * state["x"] ** 2).sum((1, 2)).mean()

    before = total()
    ladders.advance(2000)
    assert total() == pytest.approx(before, rel=0.01)


@pytest.fixture(scope="module")
def molecule(alanine):
    """AA: parameters of its energy, its moves, and frames of its reference."""
    p = BatchedEnergy(alanine, "eager").parameters
    return p, TorsionMoves.of_system(alanine, p.torsions), find_reference(alanine)


def ladders_of(molecule, n, scales, device, seed, *, moves=3, friction=20.0):
    p, torsion_moves, reference = molecule
    integrator = Integrator(with_hydrogen_mass(p.masses, p.bonds, 3.0), 0.002, friction)
    rungs = Rungs.by_scale(p, torsion_moves, np.asarray(scales), T, device)
    x = reference.x[:n].numpy()
    return DeviceLadders(x, rungs, integrator, device, [seed], torsion_moves, moves)


def test_dynamics_and_moves_leave_the_distribution_of_the_compiled_engine(molecule, seed):
    """From frames of the reference, made by compiled walkers, the energy stays within 5 standard errors.

    Velocities that are neither brought level nor rotated would raise it by some 40 kJ/mol.
    """
    ladders, n = ladders_of(molecule, 256, [1.0], CPU, seed), 256
    u = [ladders.round(10).numpy() for _ in range(12)]
    change = np.mean(u[6:], axis=0) + molecule[0].torsion_constant - molecule[2].u[:n].numpy() * kt(T)
    assert abs(change.mean()) < 5 * change.std() / np.sqrt(n)
    assert ladders.moves_accepted[0] > 0.05 * 12 * 3 * n
    assert np.isfinite(ladders.target_positions).all()


def test_a_torsion_move_is_rigid(molecule, alanine, seed):
    """Moves alone, no dynamics: bonds keep their lengths, and every kept proposal turned something."""
    ladders = ladders_of(molecule, 64, [1.0], CPU, seed, moves=6)
    before = ladders.target_positions
    ladders.round(0)
    after = ladders.target_positions
    i, j = np.array(alanine.bonds).T
    lengths = [np.linalg.norm(x[:, i] - x[:, j], axis=-1) for x in (before, after)]
    assert np.abs(lengths[0] - lengths[1]).max() < 1e-5
    assert (np.abs(after - before).max((1, 2)) > 0.01).mean() > 0.3


def test_flips_are_about_half_a_turn(seed):
    """Moves of ω before proline are by π ± FLIP_WIDTH, all others by any angle."""
    system = peptide("AP")
    p = BatchedEnergy(system, "eager").parameters
    moves = TorsionMoves.of_system(system, p.torsions)
    rungs = Rungs.by_scale(p, moves, np.ones(1), T, CPU)
    x = system.positions[None].expand(4, -1, -1).float().numpy()
    ladders = DeviceLadders(x, rungs, Integrator(p.masses), CPU, [seed], moves, 1)
    which = torch.arange(20_000) % len(moves.axes)
    angle, flips = ladders._draw_angles(which).numpy(), moves.flips[which.numpy()]
    assert np.abs(angle[flips] - np.pi).max() < 6 * FLIP_WIDTH
    assert np.abs(angle[~flips]).mean() == pytest.approx(np.pi / 2, rel=0.05)


def test_the_same_walk_on_another_device_and_again_from_a_saved_state(molecule, seed):
    """Bit for bit: the device computes in the CPU's arithmetic here, and noise is of the CPU's generator."""
    here = ladders_of(molecule, 4, [1.0, 0.7], CPU, seed)
    here.round(5)
    middle = here.freeze()
    u = here.round(5)
    with elsewhere() as device:
        there = ladders_of(molecule, 4, [1.0, 0.7], device, seed)
        there.round(5)
        assert torch.equal(there.round(5).cpu(), u)
        for name, array in there.freeze().items():
            assert np.array_equal(array, here.freeze()[name]), name
    resumed = ladders_of(molecule, 4, [1.0, 0.7], CPU, seed + 1)
    resumed.thaw(middle)
    assert torch.equal(resumed.round(5), u)
    assert np.array_equal(resumed.target_positions, here.target_positions)
    assert not np.array_equal(ladders_of(molecule, 4, [1.0, 0.7], CPU, seed + 1).freeze()["v"], middle["v"])


def test_seeds_of_several_numbers_are_streams_of_their_own():
    draws = {
        float(torch.rand(1, generator=make_generator(CPU, *s))) for s in ((0, 0), (0, 1), (1, 0), (1, 1))
    }
    assert len(draws) == 4


def test_the_placed_energy_is_that_of_openmms_numbers(molecule):
    """Both parts of the scaled energy and its forces, placed, within float32's rounding of float64's."""
    p, moves, reference = molecule
    x = reference.x[:8]
    for scaled in (p, scale_solute(p, moves, 0.6), scale_solute(p, moves, 1.0, stiff=0.0)):
        u, force = build_energy(scaled, CPU).energy_and_force(x.float())
        exact, exact_force = EagerEngine(scaled).energy_and_force(x.double())
        assert torch.allclose(u, exact, atol=0.02)
        assert torch.allclose(force.double(), exact_force, rtol=1e-3, atol=1.0)


@pytest.mark.parametrize("engine", ["batched", "softened"])
def test_an_engine_of_a_device_goes_on_from_its_state(engine, alanine):
    settings = replace(TINY, engine=engine)
    with elsewhere() as device:
        walk = start_engine(alanine, settings, device)
        walk.advance(1)
        state = walk.freeze()
        walk.advance(2)
        again = start_engine(alanine, replace(settings, seed=5), device)
        again.thaw(state)
        again.advance(2)
        assert np.array_equal(again.copy_target_positions(), walk.copy_target_positions())
        assert again.describe() == walk.describe()
        plain = walk.start_langevin()
        assert np.array_equal(plain.copy_target_positions(), walk.copy_target_positions())
    assert len(walk.describe()["swap_rates"]) == 1


def test_engines_of_the_cpu_alone_refuse_other_devices_by_name(alanine, tmp_path):
    settings = replace(TINY, engine="openmm")
    with pytest.raises(
        BgbenchError, match=r"^device=cuda:1: engine 'openmm' computes on the CPU; choose cpu"
    ):
        find_engine(settings, torch.device("cuda", 1))
    with pytest.raises(BgbenchError, match="engine 'openmm' computes on the CPU"):
        Job(alanine, settings, 400, tmp_path / "AA.npz", device=torch.device("cuda", 0))


@pytest.fixture
def gpu(monkeypatch):
    """A device that every word but cpu names."""
    with elsewhere() as device:
        monkeypatch.setattr(devices, "find_device", lambda word: CPU if word == "cpu" else device)
        yield device


WORDS = (
    "data",
    "simulate",
    "GG",
    "AG",
    "--engine",
    "softened",
    "--short",
    "--frames",
    "40",
    "--replicas",
    "2",
)
SETTINGS = (
    "rungs=1",
    "anneal_steps=2",
    "warm_up=1",
    "round_steps=1",
    "rounds_per_frame=1",
    "torsion_moves=0",
)


def test_the_command_simulates_on_the_device_and_the_certificate_names_it(gpu, cli, tmp_path):
    """Two peptides at once give the frames that each gives alone."""
    words = [*WORDS, *(word for pair in SETTINGS for word in ("--set", pair))]
    code, out, err = cli(*words, "--device", "cuda", "--out", tmp_path / "both")
    assert code == 0, err
    assert [line.partition(":")[0] for line in out.splitlines()] == ["GG", "AG"]
    words.remove("AG")
    assert cli(*words, "--device", "auto", "--out", tmp_path / "one")[0] == 0
    for name in ("GG", "AG"):
        certificate = json.loads((tmp_path / "both" / f"{name}.certificate.json").read_text())["certificate"]
        assert certificate["device"]["device"] == str(gpu)
        assert "torch" in certificate["versions"]
    frames = [read_frames(tmp_path / folder / "GG.npz")[1] for folder in ("both", "one")]
    assert torch.equal(*frames)


def test_a_state_of_a_device_goes_on_there_alone(gpu, tmp_path):
    """Of two jobs the longer is stopped when the shorter is done; what it left goes on on the device."""
    settings = replace(TINY, torsion_moves=0, rungs=1)
    short = Job(peptide("GG"), settings, 12, tmp_path / "short.npz", training=True, device=gpu)
    long = replace(short, frames=20, out=tmp_path / "long.npz")
    running = simulate_together([long, short], 2)
    assert next(running)[0] is short
    running.close()
    with pytest.raises(BgbenchError, match="other settings or of another device"):
        list(simulate_together([replace(long, device=CPU)], 1))
    [(_, resumed)] = simulate_together([long], 1)
    [(_, whole)] = simulate_together([replace(long, out=tmp_path / "whole.npz")], 1)
    assert torch.equal(resumed.x, whole.x)
