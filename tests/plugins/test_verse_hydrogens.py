"""Verse: hydrogens that only their names tell apart. One naming inside, every naming outside."""

import math

import pytest
import torch

from bgbench import energy, peptide
from bgbench.testing import peptide_task
from bgbench_verse.chemistry import molecule, together
from bgbench_verse.data import Peptide, flips, rotors, survey
from bgbench_verse.density import draw, log_density
from bgbench_verse.hydrogens import (
    allowed,
    chained,
    contested,
    exchanged_rivals,
    in_order,
    n_pairs,
    outside,
    renamed,
)
from bgbench_verse.internal import at, internals
from bgbench_verse.mixtures import Circular
from bgbench_verse.network import Config, Verse
from bgbench_verse.sampler import VerseSampler
from bgbench_verse.tree import padded, plan
from bgbench_verse.weights import Trained

EVERY = ("ACDEF", "GHIKL", "MNPQR", "STVWY", "PGNRK")


def planned(name):
    system = peptide(name)
    tree = plan([atom.element for atom in system.atoms], system.bonds)
    return system, tree, padded([tree])


def shaken(system, n, seed, width=0.006):
    noise = torch.randn(n, system.n_atoms, 3, generator=torch.Generator().manual_seed(seed))
    return system.positions.float() + width * noise


@pytest.mark.parametrize("name", EVERY)
def test_of_two_namings_one_is_in_order(name, seed):
    system, tree, trees = planned(name)
    x = renamed(shaken(system, 12, seed)[:, tree.order], trees)
    _, _, phi = internals(x, trees)
    assert in_order(phi, trees).all()
    assert torch.equal(renamed(x, trees), x)
    swap = torch.rand(x.shape[:2], generator=torch.Generator().manual_seed(seed)) < 0.5
    other = exchanged_rivals(x, trees, swap)
    _, _, phi = internals(other, trees)
    wrong = ~in_order(phi, trees)
    assert torch.equal(wrong, swap & contested(trees))
    assert torch.equal(renamed(other, trees), x)


@pytest.mark.parametrize("name", EVERY)
def test_the_force_field_does_not_tell_them_apart(name, seed):
    system, tree, trees = planned(name)
    x = shaken(system, 6, seed)[:, tree.order].double()
    flat = chained(trees).expand(x.shape[:2])
    target = energy(system)

    def exchanged(swap):
        return target.energy(exchanged_rivals(x, trees, swap)[:, tree.place])

    u = target.energy(x[:, tree.place])
    assert torch.allclose(exchanged(~flat), u, atol=1e-2, rtol=1e-5)
    # The improper of a planar NH2 names its atoms in an order: bent, the two are not quite alike.
    assert ((exchanged(flat) - u).abs() < 1.0).all()
    moved = exchanged_rivals(x, trees, torch.ones_like(flat)) != x
    assert int(moved.any(-1).sum(1).min()) == 2 * int(n_pairs(trees))


def test_the_arc_is_where_names_are_in_order(seed):
    _, _, trees = planned("NG")
    generator = torch.Generator().manual_seed(seed)
    phi = 2 * math.pi * torch.rand(500, trees.rival.shape[1], generator=generator) - math.pi
    first = at(phi, trees.rival)
    off = outside(phi, *allowed(first, chained(trees).expand_as(phi)))
    fought = contested(trees).expand_as(phi)
    assert torch.equal(~off[fought], in_order(phi, trees)[fought])
    assert 0 < int(chained(trees).sum()) < int(contested(trees).sum())


def test_mass_of_an_arc_is_the_integral_over_it(seed):
    generator = torch.Generator().manual_seed(seed)
    shape = (40, 5)
    parts = [torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(2)]
    width = 0.1 + 1.2 * torch.rand(shape, generator=generator, dtype=torch.float64)
    broad = torch.where(torch.arange(40) % 2 == 0, torch.inf, 0.9).double()
    mixture = Circular(parts[0], 2 * parts[1], width, broad)
    middle = 7 * torch.rand(40, generator=generator, dtype=torch.float64) - 3.5
    half = math.pi * torch.rand(40, generator=generator, dtype=torch.float64)
    share = (torch.arange(4001, dtype=torch.float64) / 2000 - 1)[:, None]
    density = torch.exp(mixture.log_prob(middle + half * share))
    assert torch.allclose(
        torch.trapezoid(density, dim=0) * half / 2000, mixture.mass(middle, half), atol=1e-5
    )


@pytest.fixture(scope="module")
def sampler():
    peptides = []
    for name in ("GS", "NK"):
        system = peptide(name)
        peptides.append(
            Peptide(
                name,
                shaken(system, 200, 0),
                torch.zeros(200),
                system.atoms,
                rotors(system.atoms, system.bonds),
                flips(system.atoms),
                system.bonds,
            )
        )
    vocabulary, table = survey(peptides)
    with torch.random.fork_rng():
        torch.random.default_generator.manual_seed(0)
        net = Verse(Config(len(vocabulary) + 1, width=32, n_layers=2, geometry=8))
    return VerseSampler(Trained(net, vocabulary, table))


def test_every_naming_is_drawn_alike_and_has_the_same_density(sampler):
    task = peptide_task("NK")
    system, tree, trees = task.system, *planned("NK")[1:]
    proposal = sampler.draw(task, 400)
    x = proposal.x[:, tree.order]
    _, _, phi = internals(x, trees)
    wrong = (~in_order(phi, trees))[:, contested(trees)[0]].double().mean(0)
    assert ((wrong - 0.5).abs() < 5 * 0.5 / math.sqrt(400)).all()
    swap = torch.rand(x.shape[:2], generator=torch.Generator().manual_seed(1)) < 0.5
    other = exchanged_rivals(x, trees, swap)[:, tree.place]
    assert torch.allclose(sampler.log_prob(task, other), proposal.log_q, atol=1e-3 * system.n_atoms)


def test_sampled_and_given_names_have_the_density_of_the_draw(sampler):
    """Rejection until the names are in order, and the mass of the arc, are one density."""
    one = molecule(
        peptide_task("NK").system.atoms,
        peptide_task("NK").system.bonds,
        sampler.trained.vocabulary,
        sampler.trained.table,
    )
    m = together([one])
    with torch.no_grad():
        x, log_q = draw(sampler.net, m, 200, torch.Generator().manual_seed(0))
        _, _, phi = internals(x, m.tree)
        assert in_order(phi, m.tree).all()
        assert torch.allclose(log_density(sampler.net, x, m), log_q, atol=1e-2)
