"""References on disk, their certificates, and simulation that survives kill -9."""

import doctest
import importlib
import json
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from deeptime.decomposition import TICA

from bgbench import BgbenchError, peptide
from bgbench.cli.main import app, guarded
from bgbench.cli.targets import targets_of
from bgbench.core.files import sha256_file
from bgbench.core.resources import data_path
from bgbench.core.types import ForceFieldSpec
from bgbench.dynamics.engines import (
    SimulationSettings,
    build_masses,
    build_openmm_system,
    count_evaluations,
)
from bgbench.dynamics.solute_scaling import TorsionMoves
from bgbench.energies.batched import BatchedEnergy
from bgbench.evaluation.suites import load_suite
from bgbench.references.certificates import (
    REQUIRED,
    arrays_sha256,
    certificate_path,
    load_arrays,
    read_certificate,
    reference_sha256,
    write_certificate,
)
from bgbench.references.diagnostics import certify, effective_samples, split_chains, split_rhat
from bgbench.references.packing import pack, unpack
from bgbench.references.providers import find_reference, reference_path
from bgbench.references.soundness import GRADES, references_in, verify_reference
from bgbench.references.store import read_frames, read_reference, write_reference
from bgbench.references.sums import refuse_unlisted
from bgbench.references.tica import fit_tica
from bgbench.references.training import (
    covering_sequences,
    held_out,
    links,
    refuse_held_out,
    training_sequences,
)
from bgbench.systems.broken import cis_fractions
from bgbench.systems.chirality import is_wrong
from bgbench.systems.features import chi1_atoms, dihedral
from bgbench.systems.named import find_member


def change(path, **fields):
    with np.load(path) as stored:
        arrays = {**dict(stored), **fields}
    np.savez_compressed(path, **arrays)


def test_positions_survive_to_a_tenth_of_a_picometre(own_references, alanine):
    reference = read_reference(own_references / "AA.npz", alanine)
    generator = torch.Generator().manual_seed(5)
    noise = torch.randn(240, 23, 3, generator=generator, dtype=torch.float64)
    x = alanine.positions + 0.02 * noise
    x = x[~is_wrong(alanine, x.float())][:120]
    x = x - x.mean(1, keepdim=True)
    assert (reference.x - x).abs().max() <= 0.5001e-4
    assert reference.sha256
    assert find_reference(alanine).sha256 == reference.sha256


def test_nothing_depends_on_the_files_atom_order(own_references, alanine, generator, as_older):
    """Written as files were before `packing`, which must be read for ever."""
    path = as_older(own_references / "AA.npz")
    before = read_reference(path, alanine)
    order = torch.randperm(23, generator=generator).numpy()
    with np.load(path) as stored:
        arrays = {name: stored[name] for name in stored.files if not name.startswith(("steps_", "parents"))}
        q = unpack(stored)[:, order].astype(np.int16)
    np.savez_compressed(path, **{**arrays, "positions": q, "atoms": arrays["atoms"][order]})
    assert torch.equal(read_reference(path, alanine).x, before.x)


def test_packed_positions_come_back_to_the_bit(generator):
    q = torch.randint(-9000, 9000, (50, 7, 3), generator=generator).numpy().astype(np.int16)
    for bonds in ([], [(0, 1), (1, 2), (5, 1), (6, 5)], [(i, (i + 3) % 7) for i in range(7)]):
        packed = pack(q, bonds)
        assert np.array_equal(unpack(packed), q)
        assert (packed["parents"] >= 0).sum() == min(len(bonds), 6)
    packed["parents"][:] = np.roll(np.arange(7), 1)
    with pytest.raises(ValueError, match=r"parents of atoms \[.*\] go round in a ring"):
        unpack(packed)
    with pytest.raises(ValueError, match="parents of 8 atoms for positions of 7"):
        unpack({**packed, "parents": np.zeros(8, np.int16)})
    q[0, :2, 0] = 32767, -32767
    with pytest.raises(ValueError, match="too long"):
        pack(q, [(0, 1)])


def test_damaged_foreign_and_uncertified_files_are_refused(own_references, alanine, as_older):
    path = as_older(own_references / "AA.npz")
    with pytest.raises(BgbenchError, match="other atoms than GS"):
        read_reference(path, peptide("GS"))
    with np.load(path) as stored:
        certificate = json.loads(str(stored["certificate"]))
    for name in REQUIRED:
        change(path, certificate=np.array(json.dumps({**certificate, name: ""})))
        with pytest.raises(BgbenchError, match=f"lacks {name}"):
            read_reference(path, alanine)
    change(path, certificate=np.array("[1]"))
    with pytest.raises(BgbenchError, match="not a table of names and values"):
        read_reference(path, alanine)
    change(path, certificate=np.array(json.dumps({**certificate, "temperatures": [500.0, 600.0]})))
    with pytest.raises(BgbenchError, match=r"was simulated at 500 K, but a reference of 310 K belongs there"):
        read_reference(path, alanine)
    change(path, certificate=np.array(json.dumps({**certificate, "temperatures": ["warm"]})))
    with pytest.raises(BgbenchError, match=r"has temperatures \['warm'\], whose first is not"):
        read_reference(path, alanine)
    whole = np.array(json.dumps(certificate))
    change(path, certificate=whole, tica_mean=np.zeros(5), tica_projection=np.zeros((5, 2)))
    with pytest.raises(BgbenchError, match=r"a TICA model of shapes \(5,\)"):
        read_reference(path, alanine)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(BgbenchError, match="not readable as a reference"):
        read_reference(path, alanine)
    with pytest.raises(BgbenchError, match="not readable as a reference"):
        read_frames(path)
    with path.open("wb") as stream:
        np.save(stream, np.zeros(3))
    with pytest.raises(BgbenchError, match="not readable as a reference"):
        read_reference(path, alanine)


NINETY_NINE = ForceFieldSpec("ff99", ("amber99sbildn.xml", "amber99_obc.xml"), cutoff=1.0)


def test_a_reference_is_of_the_suites_own_force_field(own_references, alanine, tmp_path, as_older):
    """That of another would be a sound file of another target, and its grade the grade of something else."""
    other = peptide("AA", forcefield=NINETY_NINE)
    with pytest.raises(BgbenchError, match=r"no reference for AA .* 'ff99' .*simulate SUITE\.yaml"):
        find_reference(other)
    usual = as_older(own_references / reference_path("AA", 310.0))
    place = own_references / reference_path("AA", 310.0, NINETY_NINE)
    assert place.parent.name == f"ff99-{NINETY_NINE.sha256[:8]}"
    place.parent.mkdir()
    place.write_bytes(usual.read_bytes())
    with pytest.raises(BgbenchError, match=r"is of another force field .* than AA has here, 'ff99'"):
        find_reference(other)
    change(place, certificate=np.array(json.dumps(certified(usual, forcefield_sha256=NINETY_NINE.sha256))))
    assert find_reference(other).sha256 != find_reference(alanine).sha256


def certified(path, **changes):
    with np.load(path) as stored:
        return {**json.loads(str(stored["certificate"])), **changes}


def test_a_suite_is_simulated_with_its_own_force_field_and_temperature(tmp_path):
    path = tmp_path / "hot@1.yaml"
    path.write_text(
        "systems: [AA, GS]\ntemperature: 350\nenergy: batched\nforcefield:\n  name: ff99\n"
        "  files: [amber99sbildn.xml, amber99_obc.xml]\n  cutoff: 1.0\n"
    )
    first, second, usual = targets_of([str(path), "AA", "AA"])
    assert (first.name, first.temperature, first.forcefield) == ("AA", 350.0, NINETY_NINE)
    assert second.path == Path(f"ff99-{NINETY_NINE.sha256[:8]}") / "350K" / "GS.npz"
    assert first.system().forcefield == NINETY_NINE
    assert (usual.temperature, usual.path) == (310.0, Path("AA.npz"))
    assert {target.temperature for target in targets_of([str(path), "AA"], 400.0)} == {400.0}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--replicas", 0), "replicas must be 1 or more, got 0"),
        (("--step", 0, "--ns", 0.1), "step must be 0.001 or more, got 0"),
        (("--step", "nan"), "step must be 0.001 or more, got nan"),
        (("--frames", 0), "0 frames of 16 replicas are too few to compare; ask for 64 or more"),
        (("--frames", 16), "16 frames of 16 replicas are too few"),
        (("--hydrogen-mass", -1), "hydrogen mass must be 0 or more, got -1"),
        (("--hydrogen-mass", 20), "hydrogens of 20 Da leave an atom they are bonded to -45 of its 12 Da"),
        (("--hydrogen-mass", 4.8, "--engine", "openmm"), "ask for a hydrogen mass of 4 or less"),
        (("--hydrogen-mass", 20, "--engine", "softened"), "ask for a hydrogen mass of 4 or less"),
        (("--seed", -1), "seed must be 0 or more, got -1"),
        (("--seed", 3_000_000, "--engine", "openmm"), "openmm seed must be 2000000 or less"),
        (("--ns", "nan"), "--ns must be a positive number of nanoseconds, got nan"),
        (("--ns", "inf"), "--ns must be a positive number of nanoseconds, got inf"),
        (("--ns", "1e308"), "--ns must be a positive number of nanoseconds, got 1e+308"),
        (("--ns", -1), "--ns must be a positive number of nanoseconds, got -1"),
        (("--ns", 1e-6), "--ns 1e-06 is too short"),
    ],
)
def test_impossible_settings_are_said_before_anything_is_simulated(words, message, tmp_path, capsys):
    command = ["data", "simulate", "AA", "--out", str(tmp_path), *map(str, words)]
    assert guarded(lambda **options: app(command, **options)) == 2
    assert message in " ".join(capsys.readouterr().err.split())
    assert not list(tmp_path.iterdir())


def test_frames_that_are_nearly_all_broken_are_no_reference(own_references, alanine):
    reference = read_reference(own_references / "AA.npz", alanine)
    few = {
        "x": reference.x[:7].double(),
        "u": reference.u[:7],
        "replica": torch.tensor([0, 0, 0, 0, 1, 1, 1]),
    }
    for frames in (few, {name: values[:0] for name, values in few.items()}):
        with pytest.raises(BgbenchError, match=r"AA: a replica has \d whole frames, 4 are needed"):
            certify(alanine, frames, None)


def test_openmm_has_the_hydrogens_and_counts_the_steps_it_was_asked_for(alanine):
    heavy = build_openmm_system(alanine, SimulationSettings(engine="openmm", hydrogen_mass=3.0))
    light = build_openmm_system(alanine, SimulationSettings(engine="openmm"))
    masses = [[made.getParticleMass(i)._value for i in range(alanine.n_atoms)] for made in (heavy, light)]
    hydrogens = [atom.name.startswith("H") for atom in alanine.atoms]
    assert {mass for mass, is_h in zip(masses[0], hydrogens, strict=True) if is_h} == {3.0}
    assert sum(masses[0]) == pytest.approx(sum(masses[1]))
    settings = SimulationSettings(
        engine="openmm", replicas=2, rungs=6, anneal_steps=10, warm_up=1, round_steps=5
    )
    assert count_evaluations(settings, 8) == 2 * (10 + 5 * (1 + 2 * 4))


def test_hydrogens_may_be_as_heavy_as_their_heavy_atoms_allow(alanine):
    """A CH₃ of 15 Da: its carbon keeps 3.03 Da with hydrogens of 4, 0.65 with 4.8."""
    p = BatchedEnergy(alanine).parameters
    made = build_masses(p, SimulationSettings(hydrogen_mass=4.0))
    assert made.min() == pytest.approx(12.01 - 3 * (4.0 - 1.008), abs=0.02)
    assert made.sum() == pytest.approx(p.masses.sum())
    with pytest.raises(BgbenchError, match=r"hydrogens of 4\.8 Da leave .* 0\.6\d+ of its 12 Da"):
        build_masses(p, SimulationSettings(hydrogen_mass=4.8))


def test_a_missing_reference_names_the_two_commands(own_references):
    with pytest.raises(BgbenchError, match=r"data simulate YY.*data fetch many-peptides-md --suite"):
        find_reference(peptide("YY"), "tetrapeptides30@1")


FRAMES = {"tetrapeptides30": 5_000, "dipeptides30": 2_000, "dipeptides-mini": 9_900}
"""Suites whose references are all packaged, and the least frames of each system; the last word counts."""

BACKBONE_ONLY = load_suite("dipeptides-mini").systems
"""Their certificates are of before χ₁ was looked at."""

SINGLE = ("AAA", "AAAAAA")
"""Systems of single5 on the terms of the other suites whose references are packaged."""

LEAST = {name: least for suite, least in FRAMES.items() for name in load_suite(suite).systems}
LEAST |= dict.fromkeys(SINGLE, 5_000)


@pytest.mark.slow
def test_every_packaged_reference_is_the_listed_file_with_a_whole_certificate():
    """What is cheap of all sixty: hashes, shapes, grades. The slow tests certify their frames."""
    folder = data_path("references")
    assert {path.stem for path in folder.glob("*.npz")} == set(LEAST)
    for name, least in LEAST.items():
        path, system = folder / f"{name}.npz", peptide(name)
        refuse_unlisted(path)
        reference = read_reference(path, system)
        assert reference.n_samples >= least
        assert reference.x.shape[1:] == (system.n_atoms, 3)
        assert len(torch.unique(reference.replica)) >= 2
        assert reference.tica is not None
        assert reference.grade in GRADES
        assert reference.sha256 == reference_sha256(path)
        if not certificate_path(path).is_file():
            assert reference.sha256 == sha256_file(path)


CERTIFIED = [name if name in BACKBONE_ONLY else pytest.param(name, marks=pytest.mark.slow) for name in LEAST]
"""Those of the default suite in every run, the others once in `pytest -m slow`."""


@pytest.mark.parametrize("name", CERTIFIED)
def test_packaged_references_are_as_good_as_they_say(name):
    """Grades and energies are worked out again from the stored frames."""
    system = peptide(name)
    reference = read_reference(data_path("references", f"{name}.npz"), system)
    frames = {"x": reference.x.double(), "u": reference.u, "replica": reference.replica}
    fresh, stored = certify(system, frames, reference.tica), reference.certificate["rhat"]
    assert stored == pytest.approx({key: fresh["rhat"][key] for key in stored}, abs=0.01)
    if name in BACKBONE_ONLY:
        rhat = {key: fresh["rhat"][key] for key in stored}
        backbone = [value for key, value in rhat.items() if not key.startswith("tic")]
        grade = ("gold", "silver", "bronze")[(max(rhat.values()) > 1.05) + (max(backbone) > 1.05)]
        assert grade == reference.grade
    else:
        # Those of before both isomers of proline were sampled hold one, and say nothing of ω.
        both = "cis" in reference.certificate
        assert stored.keys() == {key for key in fresh["rhat"] if both or "omega" not in key}
        assert fresh["grade"] == reference.grade
        chi1 = [key for key in stored if "chi1" in key]
        assert max((fresh["rhat"][key] for key in chi1), default=1.0) <= 1.1
        assert min((fresh["effective_samples"][key] for key in chi1), default=200) >= 200
    assert max(fresh["broken"].values()) == 0.0
    from bgbench.energies.openmm import OpenMMEnergy

    truth = OpenMMEnergy(system, "Reference").energy(reference.x[:20].double())
    assert (truth - reference.u[:20]).abs().max() < 2.0


@pytest.mark.parametrize("name", ["ACE-A-NME", "ACE-AAA-NME", "AAA", "AAAAAA"])
def test_references_of_single_systems_are_on_their_own_terms(name):
    """The first has caps, another force field and another temperature, and lies in folders of these."""
    suite = load_suite("single5")
    reference = find_reference(find_member(suite, name), suite.id)
    assert reference.grade == "gold"
    assert reference.n_samples >= 5_000
    assert sum(reference.certificate["left_out"].values()) < 10
    path = data_path("references") / reference_path(
        name, suite.temperature_of(name), suite.forcefield_of(name)
    )
    assert verify_reference(path).reference.sha256 == reference.sha256
    assert path in references_in(data_path("references"))


@pytest.mark.parametrize("suite", ["dipeptides30", "tetrapeptides30"])
def test_the_table_of_grades_is_that_of_the_files(suite):
    grades = {"gold": [], "silver": [], "bronze": []}
    for name in load_suite(suite).systems:
        grades[read_certificate(data_path("references", f"{name}.npz"))["grade"]].append(name)
    row = " | ".join(f"{len(names)}: {' '.join(sorted(names))}" for names in grades.values())
    assert f"| `{suite}` | {row} |" in (Path(__file__).parents[2] / "datasets" / "README.md").read_text()


def test_gold_asks_for_side_chains_too():
    """χ₁ of serine is turned to where each replica keeps it; φ and ψ mix as they did."""
    system = peptide("SHKS")
    reference = find_reference(system, "tetrapeptides30@1")
    frames = {"x": reference.x.double(), "u": reference.u, "replica": reference.replica}
    quad = chi1_atoms(system)[:1]
    moves = TorsionMoves.of_system(system, BatchedEnergy(system, "compiled").parameters.torsions)
    axis = next(k for k, pair in enumerate(moves.axes.tolist()) if set(pair) == set(quad[0, 1:3].tolist()))
    x, which = frames["x"].numpy(), np.full(reference.n_samples, axis)
    angle = (0.1 * reference.replica[:, None] - dihedral(frames["x"], quad)).numpy()[:, 0]
    both = [moves.apply(x, which, moves.rotation_matrices(x, which, sign * angle)) for sign in (1, -1)]
    turned = min(map(torch.from_numpy, both), key=lambda x: float(dihedral(x, quad).std()))
    before = certify(system, frames, reference.tica)
    after = certify(system, {**frames, "x": turned}, reference.tica)
    backbone = [name for name in before["rhat"] if "phi" in name or "psi" in name]
    for name in backbone:
        assert after["rhat"][name] == pytest.approx(before["rhat"][name])
    assert after["rhat"]["sin_chi1_1"] > 5
    assert (before["grade"], after["grade"]) == ("gold", "silver")


def test_isomers_that_do_not_mix_cost_the_grade_of_the_backbone():
    """Half of the replicas are turned to cis before proline, where they stay: bronze."""
    system = peptide("TAPF")
    reference = find_reference(system, "tetrapeptides30@1")
    x, replica = reference.x.double().numpy(), reference.replica
    moves = TorsionMoves.of_system(system, BatchedEnergy(system, "compiled").parameters.torsions)
    which = np.full(len(x), int(np.flatnonzero(moves.flips)[0]))
    turned = moves.apply(x, which, moves.rotation_matrices(x, which, np.full(len(x), np.pi)))
    before = cis_fractions(system, reference.x)["PRO3"]
    x = np.where((replica % 2 == 0)[:, None, None], turned, x)
    certificate = certify(
        system, {"x": torch.from_numpy(x), "u": reference.u, "replica": replica}, reference.tica
    )
    assert certificate["grade"] == "bronze"
    assert certificate["rhat"]["cos_omega_1"] > 1.5
    assert 0.4 < certificate["cis"]["PRO3"] < 0.6
    assert before < 0.2


def without_chi1(path, **entries):
    """A certificate as before χ₁ was looked at."""
    certificate = read_certificate(path)
    assert "sin_chi1_1" in certificate["rhat"]
    rhat = {name: value for name, value in certificate["rhat"].items() if "chi" not in name}
    return {**certificate, "engine": "softened", "rhat": rhat, **entries}


def test_only_simulated_references_are_graded_again(own_references, cli):
    code, _, complaint = cli("data", "certify", "GS")
    assert code == 2
    assert "made by 'made up', and its frames alone cannot say how good it is" in " ".join(complaint.split())


@pytest.mark.parametrize("older", [True, False], ids=["certificate inside", "certificate beside"])
def test_grading_again_writes_a_certificate_beside_and_no_array(own_references, cli, as_older, older):
    """The hash that records name the reference by stays, too."""
    path = own_references / "GS.npz"
    grade, rhat = read_certificate(path)["grade"], read_certificate(path)["rhat"]
    if older:
        as_older(path, **without_chi1(path, grade="gold"))
    else:
        write_certificate(path, without_chi1(path, grade="gold"))
    before, sha256 = path.read_bytes(), reference_sha256(path)
    assert certificate_path(path).exists() != older
    code, printed, _ = cli("data", "certify", "GS", "--in", str(own_references))
    assert code == 0
    assert f"GS: gold → {grade}" in printed
    assert path.read_bytes() == before
    assert reference_sha256(path) == sha256 == find_reference(peptide("GS")).sha256
    assert read_certificate(path)["rhat"] == pytest.approx(rhat, abs=1e-3)
    assert read_reference(path, peptide("GS")).grade == grade
    assert certificate_path(path).stat().st_size < 4096
    beside = certificate_path(path).read_bytes()
    _, printed, _ = cli("data", "certify", "GS")
    assert "as its certificate says" in printed
    assert certificate_path(path).read_bytes() == beside


def test_the_hash_of_a_reference_is_that_of_its_arrays(own_references, alanine):
    """Neither of how they are compressed nor of the certificate; each array counts."""
    path = own_references / "AA.npz"
    reference = read_reference(path, alanine)
    arrays = load_arrays(path)
    assert "certificate" not in arrays
    assert reference.sha256 == reference_sha256(path) == arrays_sha256(arrays)
    np.savez(path, **arrays)
    write_certificate(path, {**reference.certificate, "grade": "bronze", "notes": "another"})
    assert read_reference(path, alanine).sha256 == reference.sha256
    for name, array in arrays.items():
        changed = np.roll(array, 1, 0) if array.ndim else 2 * array
        assert arrays_sha256({**arrays, name: changed}) != reference.sha256, name
    as_double = {**arrays, "replica": arrays["replica"].astype(np.int32)}
    assert arrays_sha256(as_double) != reference.sha256


def test_an_older_file_keeps_the_hash_of_the_whole_file(own_references, alanine, as_older):
    path = as_older(own_references / "AA.npz")
    assert read_reference(path, alanine).sha256 == reference_sha256(path) == sha256_file(path)


def test_a_certificate_of_other_arrays_or_a_damaged_one_is_refused(own_references, alanine):
    path = own_references / "AA.npz"
    beside, whole = certificate_path(path), load_arrays(path)
    np.savez(path, **{**whole, "energies": whole["energies"] + 1})
    with pytest.raises(BgbenchError, match=r"AA\.certificate\.json is the certificate of other arrays"):
        read_reference(path, alanine)
    np.savez(path, **whole)
    assert read_reference(path, alanine).grade
    for text in ("{", "[]", '{"arrays_sha256": "", "certificate": {}, "more": 1}', "\xff"):
        beside.write_text(text, encoding="latin-1")
        with pytest.raises(BgbenchError, match=r"AA\.certificate\.json is damaged"):
            read_certificate(path)
    beside.unlink()
    with pytest.raises(BgbenchError, match=r"AA\.certificate\.json is missing beside it"):
        read_reference(path, alanine)
    with pytest.raises(BgbenchError, match="lacks grade"):
        write_certificate(path, {**dict.fromkeys(REQUIRED, "x"), "grade": ""})
    assert not beside.exists()


def test_a_crash_while_a_reference_is_written_leaves_none(own_references, alanine, tmp_path, monkeypatch):
    """Neither one without a certificate, nor new arrays with an old certificate."""
    reference = read_reference(own_references / "AA.npz", alanine)

    def crash(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(np, "savez_compressed", crash)
    with pytest.raises(KeyboardInterrupt):
        write_reference(tmp_path / "new" / "AA.npz", alanine, reference)
    assert not (tmp_path / "new" / "AA.npz").exists()
    changed = replace(reference, u=reference.u + 1)
    with pytest.raises(KeyboardInterrupt):
        write_reference(own_references / "AA.npz", alanine, changed)
    with pytest.raises(BgbenchError, match="is the certificate of other arrays"):
        read_reference(own_references / "AA.npz", alanine)


DOCUMENTED = ("hub", "providers", "shards", "store", "training")


@pytest.mark.parametrize("module", DOCUMENTED)
def test_examples_in_docstrings_run(module, monkeypatch, tmp_path):
    monkeypatch.setenv("BGBENCH_REFERENCES", str(tmp_path))
    outcome = doctest.testmod(importlib.import_module(f"bgbench.references.{module}"))
    assert outcome.attempted
    assert not outcome.failed


def test_rhat_and_effective_samples_by_known_answers(generator):
    noise = torch.randn(8, 2000, 1, generator=generator, dtype=torch.float64)
    assert split_rhat(noise).item() == pytest.approx(1.0, abs=0.01)
    assert effective_samples(noise).item() == pytest.approx(16_000, rel=0.15)
    apart = noise + torch.arange(8)[:, None, None]
    assert split_rhat(apart).item() > 2
    rho, walk = 0.9, [noise[:, 0]]
    for k in range(1, 2000):
        walk.append(rho * walk[-1] + (1 - rho**2) ** 0.5 * noise[:, k])
    expected = 16_000 * (1 - rho) / (1 + rho)
    assert effective_samples(torch.stack(walk, 1)).item() == pytest.approx(expected, rel=0.3)
    chains = split_chains(torch.arange(12.0)[:, None], torch.tensor([0, 1] * 6))
    assert chains.shape == (4, 3, 1)


def noisy_walks(memory, n_walks, n_frames, n_features):
    """Walks seen through noise; always the same, since whether Koopman's weights fail depends on them."""
    rng = np.random.default_rng(0)
    x = np.zeros((n_walks, n_frames, n_features))
    for k in range(1, n_frames):
        x[:, k] = memory * x[:, k - 1] + rng.standard_normal((n_walks, n_features))
    return list(x + 3 * rng.standard_normal(x.shape))


@pytest.mark.parametrize("shape", [(0.98, 4, 200, 150), (0.9, 8, 60, 200)], ids=["negative", "no numbers"])
def test_tica_of_frames_too_few_for_koopmans_weights_weighs_them_alike(shape):
    """Deeptime's weights of such walks are negative or NaN, and its TICA ends in a traceback."""
    walks = noisy_walks(*shape)
    projection = fit_tica(walks, 5).transform(torch.from_numpy(walks[0])).numpy()
    assert projection.shape == (shape[2], 4)
    plain = TICA(lagtime=5, dim=4).fit(walks).fetch_model().transform(walks[0])
    assert np.allclose(np.abs(projection), np.abs(plain), rtol=1e-4, atol=1e-4)


def test_tica_finds_the_slow_direction_and_refuses_nonsense(rng):
    slow = np.zeros(4000)
    for k in range(1, 4000):
        slow[k] = 0.99 * slow[k - 1] + 0.14 * rng.standard_normal()
    fast = rng.standard_normal((4000, 2))
    mixed = np.stack([slow + fast[:, 0], fast[:, 0], fast[:, 1]], axis=1)
    model = fit_tica([mixed[:2000], mixed[2000:]], 10)
    first = model.transform(torch.from_numpy(mixed))[:, 0].numpy()
    assert abs(np.corrcoef(first, slow)[0, 1]) > 0.95
    with pytest.raises(BgbenchError, match="NaN"):
        fit_tica([np.full((100, 3), np.nan)], 10)
    with pytest.raises(BgbenchError, match="never change"):
        fit_tica([np.ones((100, 3))], 10)
    with pytest.raises(BgbenchError, match="longer trajectories"):
        fit_tica([mixed[:5]], 10)


def test_training_peptides_are_never_held_out():
    assert {"AA", "ARIP", "AL", "TGEAGKSH"} <= held_out()
    for length in (2, 3, 4):
        assert not set(training_sequences(length, 100)) & held_out()
    assert training_sequences(2, 50) == training_sequences(2, 50)
    with pytest.raises(BgbenchError, match="training peptides of 2 residues"):
        training_sequences(2, 400)
    with pytest.raises(BgbenchError, match="AA: test or validation"):
        refuse_held_out(["AA", "GS"])
    with pytest.raises(BgbenchError, match="unknown list 'training' of sequences; known: test, validation"):
        held_out("training")


def test_covering_sequences_meet_more_links_than_drawn_ones():
    known = training_sequences(4, 5)
    before = set().union(*map(links, known))
    covering = covering_sequences(4, 100, known)
    assert len(set(covering)) == 100
    assert not set(covering) & (held_out() | set(known))
    new = [
        len(set().union(*map(links, some)) - before) for some in (covering, training_sequences(4, 105)[5:])
    ]
    assert new[0] == 300, "three links each, none met twice"
    assert new[1] < 290
    assert len(covering_sequences(2, 359, known)) == 359
    with pytest.raises(BgbenchError, match="training peptides of 2 residues are left"):
        covering_sequences(2, 360, training_sequences(2, 1))


SIMULATE = [
    sys.executable, "-m", "bgbench", "data", "simulate", "GG", "--train", "--replicas", "3",
    "--frames", "300",
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["batched", "softened"])
def test_a_killed_simulation_goes_on_to_the_same_arrays(engine, tmp_path):
    simulate = [*SIMULATE, "--engine", engine, "--out"]
    subprocess.run([*simulate, str(tmp_path / "whole")], check=True, capture_output=True)
    work = tmp_path / "killed" / "GG.work"
    process = subprocess.Popen([*simulate, str(tmp_path / "killed")], stderr=subprocess.PIPE)
    deadline = time.monotonic() + 600
    while not (work / "chunk00001.npz").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert work.exists()
    assert not (tmp_path / "killed" / "GG.npz").exists()
    again = subprocess.run([*simulate, str(tmp_path / "killed")], capture_output=True, text=True, check=False)
    assert again.returncode == 2
    assert "add --resume" in again.stderr
    subprocess.run([*simulate, str(tmp_path / "killed"), "--resume"], check=True, capture_output=True)
    with np.load(tmp_path / "whole" / "GG.npz") as one, np.load(tmp_path / "killed" / "GG.npz") as two:
        assert one["steps_low"].shape == (300, 17, 3)
        assert one.files == two.files
        for name in one.files:
            assert np.array_equal(one[name], two[name]), name
    certificates = [tmp_path / folder / "GG.certificate.json" for folder in ("whole", "killed")]
    assert certificates[0].read_bytes() == certificates[1].read_bytes()
    assert not work.exists()


def basins(system, x):
    """Which of the four sign quadrants of (φ, ψ + 60°) a frame is in."""
    from bgbench.systems.features import torsions

    angles = torsions(system, x)
    psi = torch.remainder(angles.psi[:, 0] + 2 * torch.pi / 3, 2 * torch.pi) - torch.pi
    return (angles.phi[:, 0] > 0).long() * 2 + (psi > 0).long()


def test_turned_side_chains_have_the_rotamers_of_tempering():
    """DI at 310 K: the thirds of both χ₁ within 4 joint standard errors, ours several times smaller."""
    system = peptide("DI")
    shares = []
    for name in ("references/DI.npz", "checks/DI-softened.npz"):
        reference = read_reference(data_path(*name.split("/")), system)
        chi1 = dihedral(reference.x.double(), chi1_atoms(system))
        third = (torch.remainder(chi1, 2 * torch.pi) / (2 * torch.pi / 3)).long()
        one_hot = torch.nn.functional.one_hot(third, 3).double().flatten(1)
        shares.append(torch.stack([one_hot[reference.replica == r].mean(0) for r in range(16)]))
    means, errors = (torch.stack([f(side) for side in shares]) for f in (
        lambda side: side.mean(0), lambda side: side.std(0) / 4))  # fmt: skip
    assert (means[0] - means[1]).abs().le(4 * errors.square().sum(0).sqrt()).all()
    assert errors[1].max() < errors[0].max() / 3
    assert means[1].reshape(2, 3).gt(0.005).all(), "every rotamer was met"


def populations(name, alanine):
    """Basin shares over replicas: means and standard errors."""
    reference = read_reference(data_path(*name.split("/")), alanine)
    labels = basins(alanine, reference.x)
    shares = torch.stack(
        [
            torch.stack([(labels[reference.replica == r] == basin).double().mean() for basin in range(4)])
            for r in torch.unique(reference.replica)
        ]
    )
    return shares, shares.std(0) / len(shares) ** 0.5


@pytest.mark.parametrize("name", ["AA-500K", "AA-500K-softened"])
def test_our_engines_and_openmm_agree_on_the_basins_of_alanine(name, alanine):
    """All four φ/ψ basins at 500 K, where OpenMM crosses between them: within 4 joint standard errors."""
    ours, our_error = populations(f"checks/{name}.npz", alanine.at(500.0))
    theirs, their_error = populations("checks/AA-500K-openmm.npz", alanine.at(500.0))
    assert theirs.mean(0).min() > 0.0
    gap = (ours.mean(0) - theirs.mean(0)).abs()
    assert (gap <= 4 * (our_error.square() + their_error.square()).sqrt()).all()


def test_tempering_and_openmm_agree_at_310_k_within_the_half_openmm_samples(alanine):
    """φ < 0 at 310 K. OpenMM's 3.2 ns from four starts hardly meets φ > 0, so it is no judge of that."""
    ours, _ = populations("references/AA.npz", alanine)
    theirs, _ = populations("checks/AA-openmm.npz", alanine)
    conditional = [share[:, 0] / share[:, :2].sum(1) for share in (ours, theirs)]
    errors = [c.std() / len(c) ** 0.5 for c in conditional]
    gap = abs(conditional[0].mean() - conditional[1].mean())
    assert gap <= 4 * (errors[0] ** 2 + errors[1] ** 2) ** 0.5
