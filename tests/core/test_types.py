import dataclasses

import pytest
import torch
from scipy.spatial.transform import Rotation

from bgbench import BgbenchError, Ensemble, ForceFieldSpec, Proposal, TicaModel, peptide
from bgbench.core.types import Suite
from bgbench.systems.features import dihedral
from bgbench.systems.residues import heavy_atoms


def test_values_are_frozen_and_check_their_shapes():
    x = torch.zeros(4, 5, 3)
    with pytest.raises(dataclasses.FrozenInstanceError):
        Proposal(x).x = x
    with pytest.raises(ValueError, match=r"log_q has shape \(3,\), expected \(4\)"):
        Proposal(x, log_q=torch.zeros(3))
    with pytest.raises(ValueError, match="x has shape"):
        Proposal(torch.zeros(4, 5))
    with pytest.raises(ValueError, match="u has shape"):
        Ensemble(x, torch.zeros(5), torch.zeros(4))
    with pytest.raises(ValueError, match="NaN"):
        Ensemble(x, torch.zeros(4), torch.full((4,), torch.nan))
    with pytest.raises(ValueError, match="projection"):
        TicaModel(torch.zeros(3), torch.zeros(4, 2))


def test_weights_stay_aligned_through_take():
    log_w = torch.tensor([0.0, 1.0, 2.0, -torch.inf])
    ensemble = Ensemble(torch.arange(12.0).reshape(4, 1, 3), torch.arange(4.0), log_w)
    subset = ensemble.take(torch.tensor([2, 0]))
    assert subset.u.tolist() == [2.0, 0.0]
    assert subset.log_w.tolist() == [2.0, 0.0]
    assert subset.x[:, 0, 0].tolist() == [6.0, 0.0]
    assert ensemble.weights.sum().item() == pytest.approx(1.0)
    assert ensemble.weights[3] == 0.0


def test_force_field_is_data_with_a_hash():
    assert ForceFieldSpec().sha256 == ForceFieldSpec().sha256
    assert ForceFieldSpec().sha256 != ForceFieldSpec(cutoff=1.0).sha256


def test_suite_refuses_nothing_and_twice():
    with pytest.raises(ValueError, match="no system"):
        Suite("empty", 1, ())
    with pytest.raises(ValueError, match="twice"):
        Suite("double", 1, ("AA", "AA"))


@pytest.mark.parametrize("sequence", ["AXB", "A", "", "a1"])
def test_bad_sequences_say_what_is_wrong(sequence):
    with pytest.raises(BgbenchError, match="peptide"):
        peptide(sequence)
    assert heavy_atoms("analytic:harmonic") == 0


def test_every_residue_builds_at_both_ends_and_in_the_middle():
    letters = "ACDEFGHIKLMNPQRSTVWY"
    for first, middle, last in zip(
        letters, letters[7:] + letters[:7], letters[13:] + letters[:13], strict=True
    ):
        system = peptide(first + middle + last)
        names = system.atom_index
        assert (0, "H3") in names or first == "P"
        assert (2, "OXT") in names
        assert len({(a.residue, a.name) for a in system.atoms}) == system.n_atoms
        assert torch.isfinite(system.positions).all()
        assert heavy_atoms(first + middle + last) == sum(a.element != "H" for a in system.atoms)
        if middle == "H":
            assert (1, "HE2") in names
            assert (1, "HD1") not in names


def test_building_is_deterministic_and_leaves_pythons_generator_alone():
    import random

    from bgbench.systems.peptides import build_peptide

    random.seed(3)
    before = random.getstate()
    first = build_peptide.__wrapped__("GS", ForceFieldSpec().files)
    assert random.getstate() == before
    second = build_peptide.__wrapped__("GS", ForceFieldSpec().files)
    assert (first.positions == second.positions).all()


@pytest.mark.parametrize("name", ["AA", "PF", "WKH"])
def test_turning_about_a_rotatable_bond_changes_its_torsion_and_no_bond(name):
    system = peptide(name)
    x = system.positions

    def bond_lengths(points):
        return torch.stack([(points[i] - points[j]).norm() for i, j in system.bonds])

    assert system.rotatable_bonds
    for bond in system.rotatable_bonds:
        _, a, b, _ = bond.torsion
        axis, moved = (x[b] - x[a]).numpy(), list(bond.moved)
        turn = torch.from_numpy(Rotation.from_rotvec(0.7 * axis / (axis @ axis) ** 0.5).as_matrix()).to(x)
        y = x.clone()
        y[moved] = (x[moved] - x[b]) @ turn.T + x[b]
        before, after = (dihedral(points[None], torch.tensor([bond.torsion])) for points in (x, y))
        assert float(torch.sin(after - before - 0.7).abs()) < 1e-5
        assert torch.allclose(bond_lengths(y), bond_lengths(x), atol=1e-6)
        assert 2 * len(bond.moved) <= system.n_atoms


def test_no_bond_of_a_ring_is_rotatable():
    system = peptide("PF")
    names = {frozenset(system.atoms[k].name for k in bond.torsion[1:3]) for bond in system.rotatable_bonds}
    assert frozenset(("CB", "CG")) in names
    assert not {frozenset(pair) for pair in (("CD", "CG"), ("CG", "CD1"), ("CE1", "CZ"), ("N", "CD"))} & names
