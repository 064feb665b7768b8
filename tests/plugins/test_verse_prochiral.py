"""Verse: hydrogens that only their names tell apart. One naming inside, every naming outside."""

import math

import pytest
import torch

from bgbench import energy, peptide
from bgbench.testing import peptide_task
from bgbench_verse.density import log_density
from bgbench_verse.internal_coordinates import gather_steps, to_internal
from bgbench_verse.mixtures import WrappedNormalMixture
from bgbench_verse.molecule import batch_molecules, build_molecule
from bgbench_verse.network import Verse, VerseConfig
from bgbench_verse.peptides import TrainingPeptide, find_flips, find_rotors
from bgbench_verse.prochiral import (
    canonical_arc,
    count_pairs,
    exchange_partners,
    has_partner,
    is_canonical,
    is_measured_from_partner,
    to_canonical_names,
)
from bgbench_verse.sampler import VerseSampler
from bgbench_verse.sampling import sample_conformers
from bgbench_verse.survey import survey_geometry
from bgbench_verse.weights import TrainedVerse
from bgbench_verse.zmatrix import build_zmatrix, pad_zmatrices

ALL_RESIDUES = ("ACDEF", "GHIKL", "MNPQR", "STVWY", "PGNRK")


def read_zmatrix(name):
    system = peptide(name)
    zmatrix = build_zmatrix([atom.element for atom in system.atoms], system.bonds)
    return system, zmatrix, pad_zmatrices([zmatrix])


def with_noise(system, n, seed, width=0.006):
    noise = torch.randn(n, system.n_atoms, 3, generator=torch.Generator().manual_seed(seed))
    return system.positions.float() + width * noise


@pytest.mark.parametrize("name", ALL_RESIDUES)
def test_of_two_namings_one_is_canonical(name, seed):
    system, zmatrix, zmatrices = read_zmatrix(name)
    x = to_canonical_names(with_noise(system, 12, seed)[:, zmatrix.order], zmatrices)
    _, _, phi = to_internal(x, zmatrices)
    assert is_canonical(phi, zmatrices).all()
    assert torch.equal(to_canonical_names(x, zmatrices), x)
    swap = torch.rand(x.shape[:2], generator=torch.Generator().manual_seed(seed)) < 0.5
    other = exchange_partners(x, zmatrices, swap)
    _, _, phi = to_internal(other, zmatrices)
    wrong = ~is_canonical(phi, zmatrices)
    assert torch.equal(wrong, swap & has_partner(zmatrices))
    assert torch.equal(to_canonical_names(other, zmatrices), x)


@pytest.mark.parametrize("name", ALL_RESIDUES)
def test_the_force_field_does_not_tell_them_apart(name, seed):
    system, zmatrix, zmatrices = read_zmatrix(name)
    x = with_noise(system, 6, seed)[:, zmatrix.order].double()
    planar = is_measured_from_partner(zmatrices).expand(x.shape[:2])
    target = energy(system)

    def exchanged_energy(swap):
        return target.energy(exchange_partners(x, zmatrices, swap)[:, zmatrix.step_of_atom])

    u = target.energy(x[:, zmatrix.step_of_atom])
    assert torch.allclose(exchanged_energy(~planar), u, atol=1e-2, rtol=1e-5)
    # The improper of a planar NH2 names its atoms in an order: bent, the two are not quite alike.
    assert ((exchanged_energy(planar) - u).abs() < 1.0).all()
    moved = exchange_partners(x, zmatrices, torch.ones_like(planar)) != x
    assert int(moved.any(-1).sum(1).min()) == 2 * int(count_pairs(zmatrices))


def test_the_arc_is_where_names_are_canonical(seed):
    _, _, zmatrices = read_zmatrix("NG")
    generator = torch.Generator().manual_seed(seed)
    phi = 2 * math.pi * torch.rand(500, zmatrices.prochiral_partner.shape[1], generator=generator) - math.pi
    first = gather_steps(phi, zmatrices.prochiral_partner)
    arc = canonical_arc(first, is_measured_from_partner(zmatrices).expand_as(phi))
    paired = has_partner(zmatrices).expand_as(phi)
    assert torch.equal(~arc.excludes(phi)[paired], is_canonical(phi, zmatrices)[paired])
    assert 0 < int(is_measured_from_partner(zmatrices).sum()) < int(has_partner(zmatrices).sum())


def test_mass_of_an_arc_is_the_integral_over_it(seed):
    generator = torch.Generator().manual_seed(seed)
    shape = (40, 5)
    parts = [torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(2)]
    width = 0.1 + 1.2 * torch.rand(shape, generator=generator, dtype=torch.float64)
    broad = torch.where(torch.arange(40) % 2 == 0, torch.inf, 0.9).double()
    mixture = WrappedNormalMixture(parts[0], 2 * parts[1], width, broad)
    middle = 7 * torch.rand(40, generator=generator, dtype=torch.float64) - 3.5
    half = math.pi * torch.rand(40, generator=generator, dtype=torch.float64)
    fraction = (torch.arange(4001, dtype=torch.float64) / 2000 - 1)[:, None]
    density = torch.exp(mixture.log_prob(middle + half * fraction))
    assert torch.allclose(
        torch.trapezoid(density, dim=0) * half / 2000, mixture.arc_mass(middle, half), atol=1e-5
    )


@pytest.fixture(scope="module")
def sampler():
    peptides = []
    for name in ("GS", "NK"):
        system = peptide(name)
        peptides.append(
            TrainingPeptide(
                name,
                with_noise(system, 200, 0),
                torch.zeros(200),
                system.atoms,
                system.bonds,
                find_rotors(system.atoms, system.bonds),
                find_flips(system.atoms),
            )
        )
    vocabulary, table = survey_geometry(peptides)
    with torch.random.fork_rng():
        torch.random.default_generator.manual_seed(0)
        net = Verse(VerseConfig(len(vocabulary) + 1, width=32, n_layers=2, geometry=8))
    return VerseSampler(TrainedVerse(net, vocabulary, table))


def test_every_naming_is_sampled_alike_and_has_the_same_density(sampler):
    task = peptide_task("NK")
    system, zmatrix, zmatrices = task.system, *read_zmatrix("NK")[1:]
    proposal = sampler.draw(task, 400)
    x = proposal.x[:, zmatrix.order]
    _, _, phi = to_internal(x, zmatrices)
    wrong = (~is_canonical(phi, zmatrices))[:, has_partner(zmatrices)[0]].double().mean(0)
    assert ((wrong - 0.5).abs() < 5 * 0.5 / math.sqrt(400)).all()
    swap = torch.rand(x.shape[:2], generator=torch.Generator().manual_seed(1)) < 0.5
    other = exchange_partners(x, zmatrices, swap)[:, zmatrix.step_of_atom]
    assert torch.allclose(sampler.log_prob(task, other), proposal.log_q, atol=1e-3 * system.n_atoms)


def test_samples_have_canonical_names_and_their_own_density(sampler):
    """Rejection until the names are canonical, and the mass of the arc, are one density."""
    one = build_molecule(
        peptide_task("NK").system.atoms,
        peptide_task("NK").system.bonds,
        sampler.trained.vocabulary,
        sampler.trained.table,
    )
    m = batch_molecules([one])
    with torch.no_grad():
        x, log_q = sample_conformers(sampler.net, m, 200, torch.Generator().manual_seed(0))
        _, _, phi = to_internal(x, m.zmatrix)
        assert is_canonical(phi, m.zmatrix).all()
        assert torch.allclose(log_density(sampler.net, x, m), log_q, atol=1e-2)
