"""Verse: Z-matrices, coordinates there and back, one density for both routes, training that resumes."""

import math
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from bgbench import BgbenchError, Unsupported, energy, peptide
from bgbench.testing import DensitySamplerLaws, peptide_task
from bgbench_verse import VerseSampler
from bgbench_verse.batches import PeptideBatches
from bgbench_verse.density import atom_states, log_density, standardize
from bgbench_verse.internal_coordinates import local_axes, local_frames, to_cartesian, to_internal
from bgbench_verse.mixtures import GaussianMixture, WrappedNormalMixture
from bgbench_verse.molecule import batch_molecules, build_molecule
from bgbench_verse.network import Verse, VerseConfig
from bgbench_verse.peptides import (
    TrainingPeptide,
    find_flips,
    find_rotors,
    read_training_peptide,
    sample_equivalent_orders,
)
from bgbench_verse.prochiral import to_canonical_names
from bgbench_verse.recipe import VerseRecipe
from bgbench_verse.sampling import sample_conformers
from bgbench_verse.survey import survey_geometry
from bgbench_verse.training import train
from bgbench_verse.weights import TrainedVerse, load, save
from bgbench_verse.zmatrix import Placement, build_zmatrix, pad_zmatrices

SEQUENCES = ("AA", "GS", "PW", "HF", "RIP")


@pytest.fixture(scope="module")
def folder(tmp_path_factory, make_training_file):
    """Made-up training peptides: start structures with noise."""
    folder = tmp_path_factory.mktemp("verse-training")
    for name in ("GS", "GG", "SG", "RIP"):
        make_training_file(folder, name)
    return folder


def reference_columns(zmatrix):
    return zmatrix.parent, zmatrix.angle_reference, zmatrix.dihedral_reference


def with_noise(system, n=6, width=0.004, seed=0):
    noise = torch.randn(n, system.n_atoms, 3, generator=torch.Generator().manual_seed(seed))
    return system.positions.float() + width * noise


def table_for(sequences):
    """Vocabulary and reference geometry of start structures with noise."""
    peptides = []
    for name in sequences:
        system = peptide(name)
        symmetry = find_rotors(system.atoms, system.bonds), find_flips(system.atoms)
        zmatrix = build_zmatrix([atom.element for atom in system.atoms], system.bonds)
        x = to_canonical_names(with_noise(system, 200)[:, zmatrix.order], pad_zmatrices([zmatrix]))[
            :, zmatrix.step_of_atom
        ]
        peptides.append(TrainingPeptide(name, x, torch.zeros(len(x)), system.atoms, system.bonds, *symmetry))
    return survey_geometry(peptides)


@pytest.fixture(scope="module")
def trained():
    """A network with random weights, loud enough for every part to matter."""
    vocabulary, table = table_for(SEQUENCES)
    net = Verse(VerseConfig(len(vocabulary) + 1, width=32, n_layers=2, geometry=8))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter += 0.05 * torch.randn(parameter.shape, generator=generator)
    return TrainedVerse(net.eval(), vocabulary, table, {"name": "random"})


class TestVerseKeepsTheLaws(DensitySamplerLaws):
    @pytest.fixture
    def sampler(self, trained):
        return VerseSampler(trained)


@pytest.mark.parametrize("sequence", SEQUENCES)
def test_every_atom_is_placed_by_three_that_are_there(sequence):
    system = peptide(sequence)
    zmatrix = build_zmatrix([atom.element for atom in system.atoms], system.bonds)
    bonded = {frozenset(pair) for pair in system.bonds}
    for k in range(3, zmatrix.n_atoms):
        references = [int(column[k]) for column in reference_columns(zmatrix)]
        assert len(set(references)) == 3
        assert max(references) < k
        assert frozenset((int(zmatrix.order[k]), int(zmatrix.order[references[0]]))) in bonded
    rings = {"P": 1, "H": 1, "F": 1, "W": 2, "Y": 1}
    n_rings = sum(rings.get(letter, 0) for letter in sequence)
    assert int((zmatrix.placement == Placement.RING_CLOSURE).sum()) == n_rings


@pytest.mark.parametrize("sequence", SEQUENCES)
def test_internal_coordinates_rebuild_the_positions(sequence):
    system = peptide(sequence)
    zmatrix = build_zmatrix([atom.element for atom in system.atoms], system.bonds)
    x = with_noise(system).double()[:, zmatrix.order]
    r, theta, phi = to_internal(x, pad_zmatrices([zmatrix]))
    for k in range(3, zmatrix.n_atoms):
        p, g, d = (x[:, int(column[k])] for column in reference_columns(zmatrix))
        again = to_cartesian(p, local_axes(p, g, d), r[:, k], theta[:, k], phi[:, k])
        assert torch.allclose(again, x[:, k], atol=1e-9)


def test_density_sees_neither_place_nor_orientation(trained, generator):
    system = peptide("PW")
    sampler = VerseSampler(trained)
    task = peptide_task("PW")
    x = with_noise(system)
    turn = torch.linalg.qr(torch.randn(3, 3, generator=generator))[0]
    turn = turn * torch.linalg.det(turn).sign()
    moved = x @ turn + 0.7
    assert torch.allclose(sampler.log_prob(task, x), sampler.log_prob(task, moved), atol=2e-2)


def test_atom_by_atom_is_all_at_once(trained):
    for sequence in SEQUENCES:
        system = peptide(sequence)
        one = build_molecule(system.atoms, system.bonds, trained.vocabulary, trained.table)
        m = batch_molecules([one])
        with torch.no_grad():
            x, log_q = sample_conformers(trained.net, m, 16, torch.Generator().manual_seed(0))
            assert torch.allclose(log_q, log_density(trained.net, x, m), atol=1e-3 * one.zmatrix.n_atoms)


def test_padding_changes_nothing(trained):
    systems = [peptide(name) for name in ("GS", "PW")]
    molecules = [build_molecule(s.atoms, s.bonds, trained.vocabulary, trained.table) for s in systems]
    batch = batch_molecules(molecules)
    x = torch.zeros(6, batch.mask.shape[1], 3)
    parts = [
        with_noise(s, 3)[:, molecule.zmatrix.order] for s, molecule in zip(systems, molecules, strict=True)
    ]
    x[:3, : parts[0].shape[1]], x[3:, : parts[1].shape[1]] = parts
    with torch.no_grad():
        mixed = log_density(trained.net, x, batch)
        alone = torch.cat(
            [log_density(trained.net, p, batch_molecules([m])) for p, m in zip(parts, molecules, strict=True)]
        )
    assert torch.allclose(mixed, alone, rtol=1e-5, atol=1e-2)


def test_later_atoms_do_not_reach_earlier_ones(trained):
    system = peptide("GS")
    m = batch_molecules([build_molecule(system.atoms, system.bonds, trained.vocabulary, trained.table)])
    x = with_noise(system)[:, build_zmatrix([atom.element for atom in system.atoms], system.bonds).order]
    moved = x.clone()
    moved[:, 9:] += 0.05
    with torch.no_grad():
        before, after = (atom_states(trained.net, y, m, standardize(y, m)[0]) for y in (x, moved))
    assert torch.allclose(before[:, :10], after[:, :10], atol=1e-5)
    assert not torch.allclose(before[:, 12:], after[:, 12:], atol=1e-3)


def test_mixtures_integrate_to_one_and_samples_follow_them(generator):
    phi = torch.linspace(-math.pi, math.pi, 20_001)[:-1]
    for broad in (torch.inf, 0.9):
        logit, centre, width = (torch.randn(4, generator=generator) for _ in range(3))
        circle = WrappedNormalMixture(logit, 3 * centre, 0.2 + 0.3 * width.abs(), torch.tensor(broad))
        density = torch.exp(circle.log_prob(phi))
        assert float(density.mean() * 2 * math.pi) == pytest.approx(1.0, abs=1e-4)
        slope = (circle.cdf(phi[5000:5001] + 1e-3) - circle.cdf(phi[5000:5001] - 1e-3)) / 2e-3
        assert float(slope) == pytest.approx(float(density[5000]), rel=1e-2, abs=1e-3)
        many = WrappedNormalMixture(
            circle.logit.expand(20_000, 4),
            circle.centre.expand(20_000, 4),
            circle.width.expand(20_000, 4),
            torch.full((20_000,), broad),
        ).sample(generator)
        wave = float((density * torch.cos(phi)).mean() * 2 * math.pi)
        assert abs(float(torch.cos(many).mean()) - wave) < 5 / math.sqrt(20_000)
    line = GaussianMixture(
        torch.randn(3, generator=generator), torch.randn(3, generator=generator), torch.zeros(3), 3.0
    )
    at = torch.linspace(-30, 30, 60_001)
    assert float(torch.exp(line.log_prob(at)).sum() * 1e-3) == pytest.approx(1.0, abs=1e-4)
    assert float(line.cdf(at[-1:])) == pytest.approx(1.0, abs=1e-5)


def test_equivalent_atoms_are_exchanged_and_energy_does_not_mind(rng):
    system = peptide("AF")
    symmetry = find_rotors(system.atoms, system.bonds), find_flips(system.atoms)
    frames = TrainingPeptide(
        "AF", with_noise(system, 40), torch.zeros(40), system.atoms, system.bonds, *symmetry
    )
    assert len(frames.rotors) == 2
    order = sample_equivalent_orders(frames, 40, rng)
    assert (order.sort(1).values == torch.arange(system.n_atoms)).all()
    assert len(torch.unique(order, dim=0)) > 20
    x = frames.x[torch.arange(40)[:, None], order].double()
    u = energy(system, "batched").energy
    # Amber's impropers name their atoms in an order: in strained frames exchanged ones differ a little.
    before, after = u(frames.x.double()), u(x)
    assert float((before - after).abs().max()) < 0.02 * float(before.std())
    assert bool((before != after).any())


def test_weights_come_back_and_strange_files_are_refused(trained, tmp_path):
    path = tmp_path / "v.safetensors"
    save(path, trained)
    again = load(path)
    assert again.vocabulary == dict(trained.vocabulary)
    assert again.card["name"] == "random"
    x = with_noise(peptide("GS"))
    one, two = (VerseSampler(t).log_prob(peptide_task("GS"), x) for t in (trained, again))
    assert torch.allclose(one, two, atol=1e-2)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(BgbenchError, match="holds no Verse weights"):
        load(path)


def test_an_atom_never_seen_is_refused_by_name(trained):
    sampler = VerseSampler(TrainedVerse(trained.net, trained.vocabulary, {}, {}))
    with pytest.raises(Unsupported, match="verse has no reference geometry for"):
        sampler.check_supports(peptide("AA"))


def test_frames_of_the_first_atoms_are_the_unit_axes():
    system = peptide("GS")
    zmatrix = build_zmatrix([atom.element for atom in system.atoms], system.bonds)
    _, local = local_frames(with_noise(system)[:, zmatrix.order], pad_zmatrices([zmatrix]))
    assert torch.equal(local[:, :3], torch.eye(3).expand(6, 3, 3, 3))


def test_test_peptides_and_wrong_options_are_refused(tmp_path, make_training_file):
    make_training_file(tmp_path, "AA")
    with pytest.raises(BgbenchError, match="test or validation peptides: AA"):
        PeptideBatches([tmp_path], 0)
    with pytest.raises(BgbenchError, match="none does not exist"):
        PeptideBatches([tmp_path / "none"], 0)
    with pytest.raises(BgbenchError, match=r"config must be one of verse-tiny, .*, got 'huge'"):
        VerseRecipe.build({"config": "huge"})
    with pytest.raises(BgbenchError, match="--set steps must be 1 or more, got 0"):
        VerseRecipe.build({"steps": "0"})


def mean_log_prob(trained, folder):
    """Mean log q of the training frames, over peptides, in nats."""
    values = []
    for path in sorted(folder.glob("*.npz")):
        peptide = read_training_peptide(path)
        one = build_molecule(peptide.atoms, peptide.bonds, trained.vocabulary, trained.table)
        with torch.no_grad():
            values.append(
                float(
                    log_density(trained.net, peptide.x[:, one.zmatrix.order], batch_molecules([one])).mean()
                )
            )
    return sum(values) / len(values)


def test_training_lowers_the_loss_and_leaves_weights_that_sample(folder, tmp_path):
    options = {"config": "verse-tiny", "data": folder, "out": tmp_path, "steps": 100, "batch": 16}
    path = train({name: str(value) for name, value in options.items()})
    trained = load(path)
    assert trained.card["training_sequences"] == ["GG", "GS", "RIP", "SG"]
    new = TrainedVerse(Verse(trained.net.config), trained.vocabulary, trained.table, {})
    assert mean_log_prob(trained, folder) > mean_log_prob(new, folder) + 5.0
    proposal = VerseSampler(trained).sample(peptide_task("GS"), 8)
    assert torch.isfinite(proposal.x).all()


@pytest.mark.slow
def test_killed_training_goes_on_to_the_same_weights(folder, tmp_path):
    def command(out):
        options = {
            "data": folder,
            "out": out,
            "steps": 30,
            "batch": 8,
            "save_every": 4,
            "config": "verse-tiny",
        }
        words = [word for key, value in options.items() for word in ("--set", f"{key}={value}")]
        return [sys.executable, "-m", "bgbench", "train", "verse", *words]

    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    subprocess.run(command(whole), check=True, capture_output=True, env=environment)
    process = subprocess.Popen(command(killed), stderr=subprocess.DEVNULL, env=environment)
    deadline = time.monotonic() + 600
    while not (killed / "last.ckpt").exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (killed / "verse-tiny.safetensors").exists(), "the run ended before it could be killed"
    subprocess.run(command(killed), check=True, capture_output=True, env=environment)
    one, two = (load_file(path / "verse-tiny.safetensors") for path in (whole, killed))
    assert all(np.array_equal(one[name], two[name]) for name in one)
