"""The batched energy against OpenMM's Reference platform, both engines, both precisions."""

import numpy as np
import openmm
import pytest
import torch

import bgbench
from bgbench import BgbenchError, peptide
from bgbench.core.elsewhere import elsewhere
from bgbench.energies.batched import REPAYS, BatchedEnergy
from bgbench.energies.compiled import force_sweep
from bgbench.energies.eager import EagerEngine
from bgbench.energies.openmm import OpenMMEnergy
from bgbench.energies.packed import pack
from bgbench.energies.parameters import read_parameters
from bgbench.energies.spotcheck import spot_check

LETTERS = "ACDEFGHIKLMNPQRSTVWY"
TRIPLES = [LETTERS[k] + LETTERS[(k + 7) % 20] + LETTERS[(k + 13) % 20] for k in range(20)]
ENGINES = ("compiled", "eager")


def geometries(system, generator):
    """Near the start, shaken hard (clashing), and stretched beyond the cut-off of 2 nm."""
    noise = torch.randn(6, system.n_atoms, 3, generator=generator, dtype=torch.float64)
    x = system.positions + torch.tensor([0.003, 0.01, 0.02, 0.05, 0.1, 0.0])[:, None, None] * noise
    x[5] *= 4.0
    return x


@pytest.mark.parametrize("sequence", TRIPLES)
def test_batched_equals_openmm_for_every_residue_in_every_place(sequence, generator):
    system = peptide(sequence)
    x = geometries(system, generator)
    assert (x[5].max() - x[5].min()) > 2.0
    u, force = OpenMMEnergy(system, "Reference").energy_and_force(x)
    size = force.flatten(1).norm(dim=1)
    for engine in ENGINES:
        ours, push = BatchedEnergy(system, engine).energy_and_force(x)
        assert ((ours - u).abs() <= 1e-4 + 1e-12 * u.abs()).all()
        assert ((push - force).flatten(1).norm(dim=1) / size).max() < 1e-10
        ours, push = BatchedEnergy(system, engine).energy_and_force(x.float())
        assert ((ours - u).abs() <= torch.clamp(1e-5 * u.abs(), min=1e-2)).all()
        assert ((push - force).flatten(1).norm(dim=1) / size).max() < 1e-4


@pytest.mark.parametrize("engine", ENGINES)
def test_batched_energy_alone_equals_energy_with_force(engine, alanine, generator):
    x = geometries(alanine, generator)
    energy = BatchedEnergy(alanine, engine)
    assert torch.allclose(energy.energy(x), energy.energy_and_force(x)[0], rtol=1e-12, atol=0)


def test_eager_energy_alone_computes_no_force(alanine, generator, monkeypatch):
    """Forces are added up in place; the energy alone never does, and is the same to the last bit."""
    x = geometries(alanine, generator)
    energy = BatchedEnergy(alanine, "eager")
    expected, _ = energy.energy_and_force(x)

    def refuse(*_):
        raise AssertionError("a force was added up")

    monkeypatch.setattr(torch.Tensor, "index_add_", refuse)
    assert torch.equal(energy.energy(x), expected)
    with pytest.raises(AssertionError, match="a force was added up"):
        energy.energy_and_force(x)


@pytest.mark.parametrize("engine", ENGINES)
def test_half_precision_and_integers_are_computed_in_float64(engine, alanine):
    energy = BatchedEnergy(alanine, engine)
    x = alanine.positions[None]
    for other in (x.half(), x.bfloat16(), (64 * x).int()):
        u, force = energy.energy_and_force(other)
        expected = energy.energy_and_force(other.double())
        assert u.dtype == force.dtype == torch.float64
        assert torch.equal(u, expected[0])
        assert torch.equal(force, expected[1])
        assert torch.equal(energy.energy(other), energy.energy(other.double()))


def test_results_of_the_eager_engine_lie_on_the_callers_device(alanine):
    """On PyTorch's meta device, which any operation with a tensor of the CPU breaks."""
    engine = BatchedEnergy(alanine, "eager")._eager
    x = alanine.positions[None].repeat(3, 1, 1).to("meta")
    u, force = engine.energy_and_force(x)
    assert u.device == force.device == engine.energy(x).device == x.device
    assert (u.shape, force.shape) == ((3,), x.shape)
    assert engine.energy(x[:0]).device == x.device


def test_the_eager_engine_sends_its_parameters_to_a_device_once(alanine, monkeypatch):
    """Each array sent makes a GPU wait; chunks and later calls send none."""
    engine = BatchedEnergy(alanine, "eager")._eager
    monkeypatch.setattr("bgbench.energies.eager.BYTES", 8.0 * alanine.n_atoms**2)
    x = alanine.positions.repeat(7, 1, 1)
    expected = engine.energy_and_force(x)
    with elsewhere() as device:
        engine.energy_and_force(x[:1].to(device))
        there = x.to(device)

        def refuse(*_, **__):
            raise AssertionError("an array was made a tensor again")

        for name in ("as_tensor", "from_numpy", "tensor", "triu_indices"):
            monkeypatch.setattr(torch, name, refuse)
        u, force = engine.energy_and_force(there)
    assert torch.equal(u.cpu(), expected[0])
    assert torch.equal(force.cpu(), expected[1])


def test_an_unknown_engine_is_refused(alanine):
    with pytest.raises(
        BgbenchError, match="engine must be one of auto, compiled, eager, triton, got 'numba'"
    ):
        BatchedEnergy(alanine, "numba")


@pytest.mark.parametrize("engine", ENGINES)
def test_batched_gradient_flows_through_autograd(engine, alanine):
    x = alanine.positions[None].clone().requires_grad_()
    energy = BatchedEnergy(alanine, engine)
    energy.energy(x).sum().backward()
    assert torch.allclose(x.grad, -energy.energy_and_force(x.detach())[1])


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_batched_is_never_nan_on_overlapping_or_missing_atoms(engine, dtype, alanine):
    x = alanine.positions.repeat(5, 1, 1).to(dtype)
    x[1] = 0.0
    x[2, 3] = x[2, 4]
    x[3, 0] = torch.nan
    x[4, 0, 0] = torch.inf
    energy = BatchedEnergy(alanine, engine)
    u, force = energy.energy_and_force(x)
    assert not torch.isnan(u).any()
    assert not torch.isnan(force).any()
    assert torch.isfinite(u[0])
    assert u[1] > 1e6
    assert u[3:].tolist() == [torch.inf, torch.inf]
    alone = energy.energy(x[:1])
    assert torch.allclose(alone, u[:1])


def test_batched_answers_do_not_depend_on_the_batch(alanine, generator):
    noise = torch.randn(333, alanine.n_atoms, 3, generator=generator)
    x = alanine.positions.float() + 0.01 * noise
    energy = BatchedEnergy(alanine, "compiled")
    whole = energy.energy(x)
    parts = torch.cat([energy.energy(part) for part in x.split(7)])
    assert torch.equal(whole, parts)
    assert energy.energy(x[:0]).shape == (0,)


def test_batched_compiles_only_when_it_repays_and_the_record_says_so(alanine):
    energy = bgbench.energy(alanine, backend="batched")
    energy.energy(alanine.positions[None])
    assert energy.describe()["engines"] == {"eager": 1}
    energy.energy(alanine.positions.expand(REPAYS, -1, -1))
    assert energy.describe()["engines"] == {"eager": 1, "compiled": REPAYS}


def test_batched_follows_the_force_field_spec(generator):
    spec = bgbench.ForceFieldSpec("obc2", ("amber14-all.xml", "implicit/obc2.xml"), "NoCutoff")
    system = peptide("GS", forcefield=spec)
    x = geometries(system, generator)
    truth = OpenMMEnergy(system, "Reference").energy(x)
    assert torch.allclose(BatchedEnergy(system, "compiled").energy(x), truth, rtol=1e-12, atol=1e-8)


@pytest.mark.parametrize("method", ["NoCutoff", "CutoffNonPeriodic"])
def test_batched_knows_openmms_own_force_for_obc2(method, generator):
    """`amber99_obc.xml` makes a GBSAOBCForce, where `implicit/obc2.xml` makes a CustomGBForce."""
    spec = bgbench.ForceFieldSpec("ff99", ("amber99sbildn.xml", "amber99_obc.xml"), method, cutoff=0.9)
    system = peptide("KWD", forcefield=spec)
    x = geometries(system, generator)
    u, force = OpenMMEnergy(system, "Reference").energy_and_force(x)
    size = force.flatten(1).norm(dim=1)
    for engine in ENGINES:
        ours, push = BatchedEnergy(system, engine).energy_and_force(x)
        assert ((ours - u).abs() <= 1e-3 + 1e-12 * u.abs()).all()
        assert ((push - force).flatten(1).norm(dim=1) / size).max() < 1e-6


def test_a_force_it_does_not_know_is_an_error():
    system = openmm.System()
    system.addParticle(1.0)
    system.addForce(openmm.CustomExternalForce("x^2"))
    with pytest.raises(BgbenchError, match="does not know CustomExternalForce"):
        read_parameters(system)
    system = openmm.System()
    system.addParticle(1.0)
    force = openmm.CustomGBForce()
    force.addComputedValue("I", "r", openmm.CustomGBForce.ParticlePair)
    system.addForce(force)
    with pytest.raises(BgbenchError, match="OBC1 and OBC2"):
        read_parameters(system)
    system.addForce(openmm.GBSAOBCForce())
    with pytest.raises(BgbenchError, match="one force of implicit solvent"):
        read_parameters(system)


def springs(*forces):
    """An OpenMM system of three atoms with these forces."""
    system = openmm.System()
    for _ in range(3):
        system.addParticle(12.0)
    for force in forces:
        system.addForce(force)
    return system


def spring(i=0, j=1):
    force = openmm.HarmonicBondForce()
    force.addBond(i, j, 0.15, 1e5)
    return force


@pytest.mark.parametrize("engine", ["eager", "compiled"])
@pytest.mark.parametrize("forces", [(), (spring,), (spring, openmm.CMMotionRemover)])
def test_a_system_without_a_non_bonded_force_has_its_other_terms(engine, forces, generator):
    """It was a TypeError that named the fields of a dataclass."""
    parameters = read_parameters(springs(*(force() for force in forces)))
    x = 0.1 * torch.randn(4, 3, 3, generator=generator, dtype=torch.float64)
    length = (x[:, 0] - x[:, 1]).norm(dim=1)
    expected = 0.5e5 * (length - 0.15) ** 2 if forces else torch.zeros(4, dtype=torch.float64)
    if engine == "eager":
        u, force = EagerEngine(parameters).energy_and_force(x)
    else:
        numbers = np.empty(4), np.empty((4, 3, 3))
        force_sweep(x.numpy(), *numbers, pack(parameters, np.float64))
        u, force = (torch.from_numpy(values) for values in numbers)
    assert torch.allclose(u, expected)
    assert torch.allclose(force.norm(dim=2)[:, 0], 1e5 * (length - 0.15).abs() if forces else expected)


def periodic(make):
    force = make()
    if isinstance(force, openmm.HarmonicBondForce):
        force.setUsesPeriodicBoundaryConditions(True)
    else:
        force.setNonbondedMethod(force.CutoffPeriodic)
    return force


def with_offset(kind):
    force = openmm.NonbondedForce()
    force.addGlobalParameter("scale", 1.0)
    for _ in range(3):
        force.addParticle(0.1, 0.3, 0.5)
    if kind == "particle":
        force.addParticleParameterOffset("scale", 0, 0.1, 0.0, 0.0)
    else:
        force.addException(0, 1, 0.0, 0.3, 0.0)
        force.addExceptionParameterOffset("scale", 0, 0.1, 0.0, 0.0)
    return force


@pytest.mark.parametrize(
    ("forces", "complaint"),
    [
        ((spring(), spring(1, 2)), "knows one HarmonicBondForce a system, not 2; use energy: openmm"),
        ((periodic(spring),), "knows no periodic boxes, as HarmonicBondForce has"),
        ((periodic(openmm.NonbondedForce),), "knows no periodic boxes, as NonbondedForce has"),
        ((periodic(openmm.CustomGBForce),), "knows no periodic boxes, as CustomGBForce has"),
        ((with_offset("particle"),), "no switching function and no parameter offsets"),
        ((with_offset("exception"),), "no switching function and no parameter offsets"),
    ],
)
def test_what_would_be_left_out_of_the_energy_is_an_error(forces, complaint):
    """Of two forces of one kind the second counted alone; the box of a Born force and offsets did not."""
    with pytest.raises(BgbenchError, match=complaint):
        read_parameters(springs(*forces))


def test_spot_check_sees_a_wrong_constant(alanine, generator):
    x = geometries(alanine, generator)[:3]
    judge = OpenMMEnergy(alanine, "Reference")
    assert spot_check(BatchedEnergy(alanine), judge, x) < 1e-6
    assert spot_check(BatchedEnergy(alanine.at(300.0)), judge, x) > 1.0


def test_lane_functions_are_good_to_single_precision(rng):
    from numba import njit

    from bgbench.energies import lanes

    @njit
    def run(x, cosine, t):
        out = np.empty((5, len(x)), np.float32)
        for k in range(len(x)):
            out[0, k] = lanes.lane_exp(x[k])
            out[1, k] = lanes.lane_log(abs(x[k]) + np.float32(1e-6))
            out[2, k] = lanes.lane_angle(cosine[k])
            out[3, k], out[4, k] = lanes.lane_turn(t[k])
        return out

    x = rng.uniform(-80, 80, 2000).astype(np.float32)
    cosine = rng.uniform(-1, 1, 2000).astype(np.float32)
    t = rng.uniform(-0.5, 0.5, 2000).astype(np.float32)
    out = run(x, cosine, t)
    wide = x.astype(float)
    assert np.abs(out[0] / np.exp(wide) - 1).max() < 5e-6
    assert np.abs(out[1] - np.log(np.abs(wide) + 1e-6)).max() < 2e-6
    assert np.abs(out[2] - np.arccos(cosine.astype(float))).max() < 1e-6
    assert np.abs(out[3] - np.cos(2 * np.pi * t.astype(float))).max() < 1e-6
    assert np.abs(out[4] - np.sin(2 * np.pi * t.astype(float))).max() < 1e-6
