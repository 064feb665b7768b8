"""Energies are checked against another backend without a mark in the record's budget."""

import pytest
import torch

from bgbench import Ensemble
from bgbench.energies.batched import BatchedEnergy
from bgbench.energies.meter import MeteredEnergy
from bgbench.energies.openmm import OpenMMEnergy
from bgbench.energies.spotcheck import fraction_of_false_energies, spot_check


@pytest.fixture
def conformers(alanine):
    """Three, one of them without an energy."""
    x = alanine.positions[None].repeat(3, 1, 1)
    x[1] = torch.nan
    return x


def test_what_checks_find_is_not_counted_by_the_meter(alanine, conformers):
    energy = BatchedEnergy(alanine)
    oracle = MeteredEnergy(energy, 10)
    u = oracle.energy(conformers)
    assert oracle.n_nonfinite == 1
    spot_check(energy, OpenMMEnergy(alanine, "Reference"), conformers)
    assert fraction_of_false_energies(energy, Ensemble.unweighted(conformers, u)) == 0.0
    assert (oracle.n_nonfinite, oracle.used) == (1, 3)


def test_two_meters_of_one_energy_count_apart(alanine, conformers):
    energy = BatchedEnergy(alanine)
    first, second = MeteredEnergy(energy, 10), MeteredEnergy(energy, 10)
    first.energy_and_force(conformers)
    x = conformers.clone().requires_grad_()
    first.energy(x)
    assert (first.n_nonfinite, second.n_nonfinite) == (2, 0)


def test_false_claims_are_a_fraction_of_those_with_a_weight(alanine):
    energy = BatchedEnergy(alanine)
    x = alanine.positions[None].repeat(4, 1, 1)
    u = energy.energy(x).double()
    u[0] += 2.0 + 1e-3 * abs(float(u[0]))
    log_w = torch.tensor([0.0, -torch.inf, 0.0, 0.0])
    u[1] = torch.inf
    assert fraction_of_false_energies(energy, Ensemble(x, u, log_w)) == pytest.approx(1 / 3)


def test_a_claim_of_infinity_with_a_weight_is_false_where_the_energy_is_finite(alanine):
    energy = BatchedEnergy(alanine)
    x = alanine.positions[None].repeat(4, 1, 1)
    u = torch.full((4,), torch.inf)
    assert fraction_of_false_energies(energy, Ensemble.unweighted(x, u)) == 1.0
    assert fraction_of_false_energies(energy, Ensemble.unweighted(torch.zeros_like(x), u)) == 0.0
