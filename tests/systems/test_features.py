"""Features and handedness: mdtraj and the CIP rules as oracles, and what must not matter."""

import json
from dataclasses import replace
from pathlib import Path

import mdtraj
import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from bgbench import peptide
from bgbench.references.tica import fit_tica
from bgbench.systems.chirality import alpha_centres, beta_centres, chirality, is_mirrored, is_wrong
from bgbench.systems.features import dihedral, heavy_pairs, n_tica_features, tica_features, torsions

DATA = Path(__file__).parents[1] / "data"
KINDS = ("phi", "psi", "omega")
CIP = {
    ("CA", "*"): (("N", "C", "CB"), "S"),
    ("CA", "CYS"): (("N", "CB", "C"), "R"),
    ("CB", "ILE"): (("CA", "CG1", "CG2"), "S"),
    ("CB", "THR"): (("OG1", "CA", "CG2"), "R"),
}
"""Centre: neighbours by falling priority and the label of the natural residue (IUPAC 1974)."""


def cip_label(centre, first, second, third):
    """R where first → second → third turn clockwise, seen with the hydrogen pointing away."""
    volume = np.dot(np.cross(first - centre, second - centre), third - centre)
    return "R" if volume < 0 else "S"


def swapped(system, residue, one, other):
    """The start structure with two atoms of a residue in each other's place, `(1, atoms, 3)`."""
    i, j = system.atom_index[residue, one], system.atom_index[residue, other]
    x = system.positions[None].clone()
    x[:, [i, j]] = x[:, [j, i]]
    return x


def shuffled(system, order):
    return replace(system, positions=system.positions[order], atoms=tuple(system.atoms[k] for k in order))


@pytest.fixture(scope="module")
def arip():
    built = peptide("ARIP")
    rows = json.loads((DATA / "metrics_ARIP.json").read_text())["atoms"]
    return shuffled(built, [built.atom_index[residue, name] for residue, _, name in rows])


@pytest.fixture(scope="module")
def frames():
    return load_file(DATA / "metrics_ARIP.safetensors")["reference"]


@pytest.mark.parametrize("kind", KINDS)
def test_torsions_equal_mdtraj(kind, arip, frames):
    trajectory = mdtraj.Trajectory(frames.numpy(), mdtraj.load_topology(DATA / "metrics_ARIP.pdb"))
    expected = getattr(mdtraj, f"compute_{kind}")(trajectory, periodic=False)[1]
    angles = getattr(torsions(arip, frames.double()), kind).numpy()
    assert angles.shape == expected.shape == (600, 3)
    gap = np.angle(np.exp(1j * (angles - expected)))
    assert np.abs(gap).max() < 1e-5
    assert np.abs(expected).max() > 1


def test_a_dihedral_has_the_iupac_sign_and_wraps_at_pi(generator):
    quad = torch.tensor([[0, 1, 2, 3]])
    angles = torch.linspace(-torch.pi, torch.pi, 181, dtype=torch.float64)[1:]
    x = torch.zeros(180, 4, 3, dtype=torch.float64)
    x[:, 0, 0] = 1.0
    x[:, 2:, 2] = 1.0
    x[:, 3, 0], x[:, 3, 1] = torch.cos(angles), torch.sin(angles)
    assert torch.allclose(dihedral(x, quad)[:, 0], angles, atol=1e-12)
    assert torch.allclose(dihedral(-x[:-1], quad)[:, 0], -angles[:-1], atol=1e-12)


def test_features_follow_names_not_the_files_order(arip, frames, generator):
    order = torch.randperm(arip.n_atoms, generator=generator).tolist()
    other, x = shuffled(arip, order), frames[:50].double()
    for kind in KINDS:
        assert torch.equal(getattr(torsions(other, x[:, order]), kind), getattr(torsions(arip, x), kind))
    assert torch.equal(is_wrong(other, -x[:, order]), is_wrong(arip, -x))


def test_tica_features_are_distances_then_blocks_of_angles(arip, frames):
    x = frames[:7].double()
    features, pairs = tica_features(arip, x), heavy_pairs(arip)
    chosen = [k for k, atom in enumerate(arip.atoms) if atom.name[0] in "CNS"]
    assert [tuple(p) for p in pairs.T.tolist()] == [(i, j) for i in chosen for j in chosen if i < j]
    distances = torch.cdist(x, x)[:, pairs[0], pairs[1]]
    assert features.shape == (7, 369)
    assert n_tica_features(arip) == 369
    assert torch.allclose(features[:, : len(pairs[0])], distances, atol=1e-7)
    angles = torsions(arip, x)
    for k, kind in enumerate(KINDS):
        block = features[:, pairs.shape[1] + 6 * k :][:, :6]
        angle = getattr(angles, kind)
        assert torch.equal(block, torch.cat([torch.sin(angle), torch.cos(angle)], 1))


def test_features_ignore_how_a_molecule_lies(arip, frames, generator):
    x = frames[:20].double()
    q, _ = torch.linalg.qr(torch.randn(3, 3, generator=generator, dtype=torch.float64))
    q = q * torch.sign(torch.linalg.det(q))
    assert torch.allclose(tica_features(arip, x @ q + 5.0), tica_features(arip, x), atol=1e-9)


def test_features_are_differentiable(alanine):
    x = alanine.positions[None].clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda y: tica_features(alanine, y).sum(1), x, atol=1e-5)


def test_a_fitted_model_is_deeptimes_koopman_model(rng):
    """Coordinates equal deeptime's own transform; plain TICA of the same data gives others."""
    from deeptime.covariance import KoopmanWeightingEstimator
    from deeptime.decomposition import TICA

    walk = np.cumsum(rng.standard_normal((3000, 3)), 0)
    data = [np.sin(walk[:1500] / 9), np.sin(walk[1500:] / 9)]
    weights = KoopmanWeightingEstimator(lagtime=5).fit(data).fetch_model()
    weighted = TICA(lagtime=5, dim=3).fit(data, weights=weights).fetch_model()
    projection = fit_tica(data, 5).transform(torch.from_numpy(data[0])).numpy()
    assert np.allclose(projection, weighted.transform(data[0]), atol=1e-9)
    plain = TICA(lagtime=5, dim=3).fit(data).fetch_model()
    assert not np.allclose(projection, plain.transform(data[0]), atol=1e-3)


@pytest.mark.parametrize("sequence", ["ACDEFGHIKL", "MNPQRSTVWY", "IT"])
def test_built_peptides_have_the_natural_cip_labels(sequence):
    system = peptide(sequence)
    index, x = system.atom_index, system.positions.numpy()
    names = {atom.residue: atom.residue_name for atom in system.atoms}
    count = 0
    for residue, name in names.items():
        for (centre, kind), (others, label) in CIP.items():
            natural = kind == name or (kind == "*" and name not in ("GLY", "CYS"))
            if natural:
                count += 1
                points = [x[index[residue, atom]] for atom in (centre, *others)]
                assert cip_label(*points) == label, (name, residue, centre)
    signs = chirality(system, system.positions[None])
    assert signs.shape == (1, count) == (1, len(alpha_centres(system)) + len(beta_centres(system)))
    assert (signs == 1).all()
    assert not is_wrong(system, system.positions[None]).any()
    assert is_mirrored(system, -system.positions[None]).all()


def test_one_swapped_centre_is_wrong_but_not_mirrored():
    """Columns: Cα of I, T, A, then Cβ of I and T; only the touched one turns."""
    system = peptide("ITGA")
    cases = [(0, "CB", "HA", 0), (1, "CB", "HA", 1), (3, "CB", "HA", 2), (0, "CG2", "HB", 3)]
    for residue, one, other, column in cases:
        x = swapped(system, residue, one, other)
        signs = chirality(system, x)[0]
        assert signs[column] == -1, (residue, one)
        assert is_wrong(system, x).all()
        assert not is_mirrored(system, x).any()
    x = swapped(system, 1, "OG1", "HB")
    assert chirality(system, x)[0].tolist() == [1, 1, 1, 1, -1]


def test_frames_of_molecular_dynamics_are_natural(arip, frames):
    assert not is_wrong(arip, frames).any()
    assert is_mirrored(arip, -frames).all()


def test_flat_and_nan_centres_are_wrong_and_beyond_repair(alanine):
    x = alanine.positions[None].repeat(3, 1, 1)
    x[0, alanine.atom_index[0, "CA"]] = torch.nan
    x[1, :, 2] = 0.0
    x[2, alanine.atom_index[1, "CB"]] = torch.inf
    assert is_wrong(alanine, x).all()
    assert not is_mirrored(alanine, x).any()


def test_glycine_has_no_hand():
    system = peptide("GG")
    x = torch.stack([system.positions, -system.positions])
    assert chirality(system, x).shape == (2, 0)
    assert not is_wrong(system, x).any()
    assert not is_mirrored(system, x).any()
