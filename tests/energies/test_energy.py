import pytest
import torch

import bgbench
from bgbench import BgbenchError, BudgetExhausted
from bgbench.core.units import GAS_CONSTANT, kt
from bgbench.energies.meter import MeteredEnergy
from bgbench.energies.openmm import OpenMMEnergy


@pytest.fixture(scope="module")
def energy(alanine):
    return OpenMMEnergy(alanine, "Reference")


def test_kt_in_kilojoule_per_mole():
    assert kt(310.0) == pytest.approx(2.5775, abs=1e-4)
    assert kt(1.0) == GAS_CONSTANT
    with pytest.raises(ValueError, match="-5"):
        kt(-5.0)


def test_force_is_minus_the_numerical_gradient(energy, alanine, generator):
    x = alanine.positions[None] + 0.005 * torch.randn(1, 23, 3, generator=generator, dtype=torch.float64)
    _, force = energy.energy_and_force(x)
    for atom, axis in [(0, 0), (5, 1), (22, 2)]:
        step = torch.zeros_like(x)
        step[0, atom, axis] = 1e-5
        slope = (energy.energy(x + step) - energy.energy(x - step)) / 2e-5
        assert slope.item() == pytest.approx(-force[0, atom, axis].item(), rel=1e-4, abs=1e-2)


def test_gradient_through_autograd_is_minus_the_force(energy, alanine):
    x = alanine.positions[None].clone().requires_grad_()
    energy.energy(x).sum().backward()
    _, force = energy.energy_and_force(x.detach())
    assert torch.equal(x.grad, -force)


def test_energy_is_reduced_by_the_temperature(alanine):
    warm = bgbench.energy(alanine.at(620.0))
    cold = bgbench.energy(alanine)
    x = alanine.positions[None]
    assert warm.energy(x).item() == pytest.approx(cold.energy(x).item() / 2, rel=1e-6)


def test_nonfinite_becomes_infinity_and_no_exception(alanine):
    energy = OpenMMEnergy(alanine, "Reference")
    x = alanine.positions[None].repeat(3, 1, 1)
    x[1] = torch.nan
    x[2] = 0.0
    u, force = energy.energy_and_force(x)
    assert torch.isfinite(u[0])
    assert u[1:].tolist() == [torch.inf, torch.inf]
    assert force[1:].abs().max() == 0.0


def test_wrong_shape_says_both_shapes(energy):
    with pytest.raises(ValueError, match=r"\(2, 5, 3\), expected \(·, 23, 3\)"):
        energy.energy(torch.zeros(2, 5, 3))


def test_unknown_backend_lists_the_known(alanine):
    with pytest.raises(BgbenchError, match="openmm"):
        bgbench.energy(alanine, backend="nosuch")


def test_meter_stops_hard_and_charges_nothing_for_what_it_refuses(energy, alanine):
    meter = MeteredEnergy(energy, 5)
    x = alanine.positions[None].repeat(3, 1, 1)
    with meter.phase("tune"):
        meter.energy(x)
    with pytest.raises(BudgetExhausted, match="3 evaluations asked for, 2 left of a budget of 5"):
        meter.energy_and_force(x)
    assert (meter.used, meter.remaining) == (3, 2)
    meter.charge(2)
    with pytest.raises(BudgetExhausted):
        meter.charge(1)
    assert meter.ledger["tune"]["energy"]["calls"] == 3
    assert meter.ledger["sample"]["energy_and_force"]["calls"] == 2
    meter.count("drawn", 100, 0.5)
    assert meter.used == 5


@pytest.mark.parametrize("limit", [0, -5])
def test_a_budget_below_one_is_refused(energy, limit):
    with pytest.raises(BgbenchError, match=str(limit)):
        MeteredEnergy(energy, limit)
