"""Verse: exchangeable atoms from the graph, and the density that is symmetric under them."""

import itertools
import math

import pytest
import torch

from bgbench import BgbenchError, System, energy, peptide
from bgbench_verse.automorphisms import (
    TypedGraph,
    exchange_uniformly,
    find_automorphisms,
    find_feasible_permutations,
    group_order,
    refine_colours,
    symmetrize_log_q,
    typed_graph,
)

FEASIBLE = {
    "A": 3, "R": 8, "N": 2, "D": 2, "C": 1, "Q": 2, "E": 2, "G": 1, "H": 1, "I": 9,
    "L": 9, "K": 3, "M": 3, "F": 2, "P": 1, "S": 1, "T": 3, "W": 1, "Y": 2, "V": 9,
}  # fmt: skip
"""Methyls and ammonium 3, carboxylates, amides and rings 2, guanidinium 2 · 2 · 2."""

ALL = {
    "A": 6, "R": 2**3 * 8, "N": 2 * 2, "D": 2 * 2, "C": 2, "Q": 2**2 * 2, "E": 2**2 * 2, "G": 2, "H": 2,
    "I": 6 * 6 * 2, "L": 72 * 2, "K": 2**4 * 6, "M": 2**2 * 6, "F": 2 * 2, "P": 2**3, "S": 2, "T": 6,
    "W": 2, "Y": 2 * 2, "V": 72,
}  # fmt: skip
"""With reflections: a CH2 counts 2, a methyl 6, two methyls on one atom 6 · 6 · 2."""

TERMINI, TERMINI_WITH_REFLECTIONS = 3 * 2, 6 * 2
"""NH3 of the first residue times COO of the last, of a peptide that begins and ends with serine."""


def indices(system, residue, *names):
    return [system.atom_index[residue, name] for name in names]


@pytest.mark.parametrize("residue", sorted(FEASIBLE))
def test_residues_have_the_groups_that_chemistry_says(residue):
    system = peptide(f"S{residue}S")
    serine = FEASIBLE["S"] ** 2 * TERMINI
    assert group_order(find_feasible_permutations(system)) == FEASIBLE[residue] * serine
    serine = ALL["S"] ** 2 * TERMINI_WITH_REFLECTIONS
    assert group_order(find_automorphisms(typed_graph(system))) == ALL[residue] * serine


def test_arginines_nitrogens_are_exchanged_with_their_hydrogens():
    system = peptide("GR")
    nitrogens = indices(system, 1, "NH1", "NH2")
    (factor,) = [f for f in find_feasible_permutations(system) if set(nitrogens) <= f.support]
    hydrogens = indices(system, 1, "HH11", "HH12", "HH21", "HH22")
    assert factor.support == {*nitrogens, *hydrogens}
    swap = list(range(system.n_atoms))
    for pair in (("NH1", "NH2"), ("HH11", "HH21"), ("HH12", "HH22")):
        a, b = indices(system, 1, *pair)
        swap[a], swap[b] = b, a
    assert tuple(swap) in factor.elements
    assert factor.order == 8
    assert len(factor.generators) <= 3


def test_factors_are_groups_on_disjoint_atoms():
    factors = find_feasible_permutations(peptide("RLFD"))
    assert sum(len(f.support) for f in factors) == len(frozenset().union(*(f.support for f in factors)))
    for factor in factors:
        assert factor.elements[0] == tuple(range(len(factor.elements[0])))
        products = {tuple(a[k] for k in b) for a, b in itertools.product(factor.elements, repeat=2)}
        assert products == set(factor.elements)


@pytest.mark.parametrize("sequence", ["ARIP", "DYEK", "LVMT", "NQFW"])
def test_the_energy_is_the_same_under_each_generator(sequence):
    system = peptide(sequence)
    noise = torch.randn(4, system.n_atoms, 3, generator=torch.Generator().manual_seed(0))
    x = system.positions + 0.004 * noise.double()
    u = energy(system, "batched").energy
    factors = find_feasible_permutations(system)
    for generator in (g for factor in factors for g in factor.generators):
        # Impropers list their atoms in an order: of bent planar groups the energy differs a little.
        assert float((u(x[:, list(generator)]) - u(x)).abs().max()) < 2.0
    wrong = list(range(system.n_atoms))
    a, b = indices(system, 1, "N", "CA")
    wrong[a], wrong[b] = b, a
    assert float((u(x[:, wrong]) - u(x)).abs().min()) > 100.0


@pytest.mark.parametrize("sequence", ["GR", "AF"])
def test_the_symmetrized_density_is_symmetric_and_is_that_of_exchanged_samples(sequence):
    system = peptide(sequence)
    factors = find_feasible_permutations(system)
    weights = torch.linspace(0.5, 2.0, system.n_atoms, dtype=torch.float64)

    def log_q(x):
        """A normal density about the start structure, with another width for each atom."""
        gap = (x - system.positions) * 20 * weights[:, None]
        return -0.5 * gap.square().sum((1, 2)) + 3 * torch.log(20 * weights).sum()

    symmetrized = symmetrize_log_q(log_q, factors)
    noise = torch.randn(8, system.n_atoms, 3, generator=torch.Generator().manual_seed(1)).double()
    x = system.positions + noise / (20 * weights[:, None])
    x = exchange_uniformly(x, factors, torch.Generator().manual_seed(2))
    value = symmetrized(x)
    for generator in (g for factor in factors for g in factor.generators):
        assert torch.allclose(symmetrized(x[:, list(generator)]), value, atol=1e-5, rtol=0.0)
        assert float((log_q(x[:, list(generator)]) - log_q(x)).abs().max()) > 1.0
    assert torch.allclose(symmetrize_log_q(log_q, ())(x), log_q(x))


def test_the_symmetrized_density_is_normalised():
    """The mean of f/q_sym over samples of q_sym is 1 for a normalised f: a normal about another naming."""
    system = peptide("GR")
    atoms = indices(system, 1, "NH1", "NH2")
    factors = [f for f in find_feasible_permutations(system) if set(atoms) <= f.support]
    pair = torch.tensor([[0.0, 0.0, 0.0], [1.0, 0.0, 0.0]], dtype=torch.float64)

    def about(centres, width):
        def log_density(x):
            gap = (x[:, atoms] - centres) / width
            return -0.5 * gap.square().sum((1, 2)) - 6 * math.log(width * math.sqrt(2 * math.pi))

        return log_density

    q = symmetrize_log_q(about(pair, 0.6), factors)
    generator = torch.Generator().manual_seed(3)
    n = 20_000
    x = torch.zeros(n, system.n_atoms, 3, dtype=torch.float64)
    x[:, atoms] = pair + 0.6 * torch.randn(n, 2, 3, generator=generator, dtype=torch.float64)
    x = exchange_uniformly(x, factors, generator)
    ratio = torch.exp(about(pair.flip(0), 0.5)(x) - q(x))
    assert abs(float(ratio.mean()) - 1.0) < 5 * float(ratio.std()) / math.sqrt(n)
    assert float(ratio.std()) / math.sqrt(n) < 0.05


def test_exchanged_samples_visit_every_element_alike():
    factors = find_feasible_permutations(peptide("GR"))
    n_atoms, n = peptide("GR").n_atoms, 8000
    labels = torch.arange(n_atoms, dtype=torch.float64)[None, :, None].expand(n, -1, 3)
    order = exchange_uniformly(labels, factors, torch.Generator().manual_seed(0))[..., 0].long()
    unique, counts = torch.unique(order, dim=0, return_counts=True)
    assert len(unique) == group_order(factors) == 48
    mean, error = n / 48, math.sqrt(n / 48)
    assert float((counts - mean).abs().max()) < 5 * error


def test_colours_alone_do_not_make_an_automorphism():
    """A hexagon and two triangles have one colour each; their groups have 12 and 2 · 6 · 6 elements."""
    six = ("C",) * 6
    hexagon = {frozenset((k, (k + 1) % 6)): "" for k in range(6)}
    triangles = {frozenset((a + d, b + d)): "" for d in (0, 3) for a, b in ((0, 1), (1, 2), (0, 2))}
    for edges, order in ((hexagon, 12), (triangles, 72)):
        graph = TypedGraph(six, edges)
        assert refine_colours(graph) == [0] * 6
        assert group_order(find_automorphisms(graph)) == order
    broken = TypedGraph(six, {**hexagon, frozenset((0, 1)): "double"})
    assert group_order(find_automorphisms(broken)) == 2


def test_what_cannot_be_read_or_listed_is_refused():
    with pytest.raises(BgbenchError, match="has no force field"):
        find_feasible_permutations(System("x", torch.zeros(2, 3)))
    star = TypedGraph(("C", *"HHHHHHHH"), {frozenset((0, k)): "" for k in range(1, 9)})
    with pytest.raises(BgbenchError, match="more than 10000 ways to exchange 8 atoms"):
        find_automorphisms(star)
