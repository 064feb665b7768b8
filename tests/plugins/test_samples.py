"""Samples of files: judged as what they are, refused or counted in one line that names file and frame."""

import sys
from dataclasses import replace

import mdtraj
import numpy as np
import openmm
import pytest
import torch
from openmm import app, unit

import bgbench
from bgbench import BgbenchError, peptide
from bgbench.core.calls import call_estimate, call_sample
from bgbench.core.plugins import plugins
from bgbench.data import mdtraj_topology, to_nanometres
from bgbench.runs.cells import execute
from bgbench.runs.estimates import read_estimate
from bgbench.runs.planning import resolve
from bgbench.runs.request import RunRequest
from bgbench.runs.runfolder import RunFolder
from bgbench.testing import SamplerLaws, SamplerPluginLaws, elsewhere, peptide_task
from bgbench_samples import Samples
from bgbench_samples.frames import read_samples
from bgbench_samples.options import SampleOptions
from bgbench_samples.sampler import build_samples

FRAMES = 40


def names_of(atoms):
    return np.array([f"{atom.residue}:{atom.residue_name}:{atom.name}" for atom in atoms])


def shaken(system, n=FRAMES, width=0.003):
    noise = torch.randn(n, system.n_atoms, 3, generator=torch.Generator().manual_seed(1)).double()
    return (system.positions + width * noise).numpy()


def pdb_text(atoms, positions):
    """A PDB file by hand: atoms in any order, residues interleaved."""
    lines = []
    for k, (atom, (x, y, z)) in enumerate(zip(atoms, 10 * positions, strict=True)):
        name = atom.name if len(atom.name) == 4 else f" {atom.name:<3}"
        lines.append(
            f"ATOM  {k + 1:5d} {name} {atom.residue_name:3} A{atom.residue + 1:4d}    "
            f"{x:8.3f}{y:8.3f}{z:8.3f}  1.00  0.00          {atom.element:>2}"
        )
    return "\n".join([*lines, "END", ""])


def renamed(atoms, **names):
    """Atoms with other names, by residue and name: `r0_H2="H1"`."""
    changes = {(int(key[1]), key.partition("_")[2]): name for key, name in names.items()}
    return [
        bgbench.Atom(
            atom.residue,
            atom.residue_name,
            changes.get((atom.residue, atom.name), atom.name),
            atom.element,
        )
        for atom in atoms
    ]


def judged(out, **options):
    """The record of one cell of AA on the made-up reference, and its run folder."""
    keywords = {"only": ["AA"], "budget": FRAMES, "seeds": 1, "options": options}
    folder = RunFolder.create(out, resolve(RunRequest.from_keywords("samples", **keywords), "none"))
    (cell,) = folder.plan.cells
    return execute(cell, folder), folder


@pytest.fixture(scope="module")
def walk():
    """Frames of AA by plain OpenMM, without a line of bgbench but its start structure."""
    system = peptide("AA")
    topology = mdtraj_topology(system).to_openmm()
    force_field = app.ForceField("amber14-all.xml", "implicit/obc1.xml")
    target = force_field.createSystem(topology, nonbondedMethod=app.CutoffNonPeriodic)
    integrator = openmm.LangevinMiddleIntegrator(310.0, 10.0, 0.001)
    integrator.setRandomNumberSeed(7)
    simulation = app.Simulation(topology, target, integrator, openmm.Platform.getPlatformByName("Reference"))
    simulation.context.setPositions(system.positions.numpy())
    simulation.minimizeEnergy(maxIterations=50)
    frames = []
    for _ in range(FRAMES):
        simulation.step(5)
        state = simulation.context.getState(getPositions=True)
        frames.append(state.getPositions(asNumpy=True).value_in_unit(unit.nanometer))
    return np.array(frames)


def test_shuffled_atoms_and_angstrom_change_no_metric(walk, own_references, tmp_path):
    """Å in an npz file, and OpenMM's own DCD file beside a PDB file whose residues are interleaved."""
    system = peptide("AA")
    order = np.random.default_rng(3).permutation(system.n_atoms)
    atoms = [system.atoms[k] for k in order]
    np.savez(tmp_path / "native.npz", x=walk, atoms=names_of(system.atoms))
    np.savez(tmp_path / "other.npz", positions=10 * walk[:, order], atoms=names_of(atoms))
    (tmp_path / "other.pdb").write_text(pdb_text(atoms, walk[0, order]))
    with (tmp_path / "other.dcd").open("wb") as stream:
        topology = mdtraj.load_pdb(str(tmp_path / "other.pdb")).topology.to_openmm()
        writer = app.DCDFile(stream, topology, 0.001)
        for frame in walk[:, order]:
            writer.writeModel(unit.Quantity(frame, unit.nanometer))
    native, _ = judged(tmp_path / "a", file=tmp_path / "native.npz")
    angstrom, _ = judged(tmp_path / "b", file=tmp_path / "other.npz")
    dcd, folder = judged(tmp_path / "c", file=tmp_path / "other.dcd", top=tmp_path / "other.pdb")
    assert native.status == "ok", native.error
    assert native.budget.used == native.budget.limit == FRAMES
    for other in (angstrom, dcd):
        assert other.metrics.keys() == native.metrics.keys()
        for name, value in native.metrics.items():
            assert other.metrics[name] == (value if value is None else pytest.approx(value, rel=1e-4)), name
        assert other.floors == native.floors
    assert angstrom.diagnostics["warnings"] == [
        f"{tmp_path / 'other.npz'}: positions are in Å, and were divided by 10"
    ]
    assert "warnings" not in dcd.diagnostics
    assert torch.allclose(read_estimate(folder, dcd).ensemble.x.double(), torch.from_numpy(walk), atol=1e-5)


def test_a_record_says_that_the_sampler_was_not_run_here(own_references, tmp_path, cli):
    system = peptide("AA")
    np.savez(tmp_path / "mine.npz", x=shaken(system, 20), atoms=names_of(system.atoms))
    record, folder = judged(tmp_path / "run", file=tmp_path / "mine.npz", name="myflow")
    assert record.card["run_here"] is False
    assert record.card["name"] == "myflow"
    assert record.card["notes"] == "samples read from mine.npz; the sampler was not run here"
    assert record.card["weights_sha256"] == folder.plan.inputs.weights_sha256 != ""
    assert record.leakage == "unknown"
    assert record.cell.estimator == "none"
    assert (record.budget.used, record.diagnostics["frames_compared"]) == (20, 20)
    _, out, _ = cli("show", folder.path)
    assert "the sampler was not run here: its samples were read from files" in out


def test_the_sampler_is_run_here_unless_its_card_says_otherwise():
    """Leakage of a sampler that trained on nothing is known where it ran, and only there."""
    from bgbench.evaluation.leakage import leakage

    assert leakage(bgbench.Card("mine"), "AA") == "unseen"
    assert leakage(bgbench.Card("mine", run_here=False), "AA") == "unknown"
    assert leakage(bgbench.Card("mine", training_sequences=("AA",), run_here=False), "AA") == "seen"


def test_log_q_gives_importance_weights_that_nobody_can_verify(own_references, tmp_path):
    system = peptide("AA")
    log_q = np.linspace(-3.0, 3.0, FRAMES)
    log_q[5] = np.nan
    file = tmp_path / "AA.npz"
    np.savez(file, x=shaken(system), atoms=names_of(system.atoms), log_q=log_q)
    record, folder = judged(tmp_path / "run", file=file, log_q=file)
    assert record.status == "ok", record.error
    assert record.cell.estimator == "snis"
    estimate = read_estimate(folder, record)
    log_w = -estimate.ensemble.u - torch.from_numpy(log_q)
    finite = torch.isfinite(estimate.ensemble.log_w)
    assert finite.sum() == FRAMES - 1
    assert torch.allclose(estimate.ensemble.log_w[finite], log_w[finite])
    assert record.diagnostics["density"]["verified"] is False
    assert "read from a file" in record.diagnostics["density"]["error"]
    assert "failed_diagnostics" not in record.diagnostics
    assert (
        f"{file}: 1 of {FRAMES} numbers are not finite, first of frame 5" in record.diagnostics["warnings"][0]
    )


@pytest.mark.parametrize("kind", ["weights", "log_w"])
def test_weights_are_those_of_the_file(kind, own_references, tmp_path):
    system = peptide("AA")
    weights = np.linspace(0.0, 1.0, FRAMES)
    with np.errstate(divide="ignore"):
        values = weights if kind == "weights" else np.log(weights)
    file = tmp_path / "AA.npz"
    np.savez(file, x=shaken(system), atoms=names_of(system.atoms), **{kind: values})
    record, folder = judged(tmp_path / "run", file=file, weights=file)
    assert record.status == "ok", record.error
    assert record.cell.estimator == "stored-weights"
    ensemble = read_estimate(folder, record).ensemble
    assert torch.allclose(ensemble.weights, torch.from_numpy(weights / weights.sum()))
    assert record.metrics["ess"] == pytest.approx(weights.sum() ** 2 / (weights**2).sum() / FRAMES)
    unused = read_samples(SampleOptions(file), system).remarks
    assert unused == (f"{file}: holds {kind}, which is not used; add --set weights={file}",)


def test_a_folder_serves_a_suite(own_references, tmp_path):
    for name in ("AA", "GS"):
        system = peptide(name)
        frames = mdtraj.Trajectory(shaken(system), mdtraj_topology(system))
        frames.save_xtc(str(tmp_path / f"{name}.xtc"))
        frames[0].save_pdb(str(tmp_path / f"{name}.pdb"))
        np.save(tmp_path / f"{name}.log_q.npy", np.zeros(FRAMES))
    options = SampleOptions(tmp_path, log_q=tmp_path)
    for name in ("AA", "GS"):
        frames = read_samples(options, peptide(name))
        assert torch.allclose(frames.x, torch.from_numpy(shaken(peptide(name))), atol=1e-3)
        assert len(frames.log_q) == FRAMES
    with pytest.raises(bgbench.Unsupported, match=r"there is no DI\.xtc, \.dcd, \.npz, \.h5 or \.pdb in "):
        read_samples(options, peptide("DI"))
    np.savez(tmp_path / "AA.npz", x=shaken(peptide("AA")))
    with pytest.raises(BgbenchError, match=r"holds AA\.xtc and AA\.npz: leave one of them"):
        read_samples(options, peptide("AA"))


def test_names_of_other_programs_are_known(tmp_path):
    """Numbered hydrogens of CH₂, of amides and of the first residue; the oxygens of the last."""
    system = peptide("SD")
    first = renamed(system.atoms, r0_H="H1", r0_HB2="HB1", r0_HB3="HB2")
    other = renamed(first, r1_HB2="HB1", r1_HB3="HB2", r1_H="HN", r1_O="OT1", r1_OXT="OT2")
    (tmp_path / "SD.pdb").write_text(pdb_text(other, system.positions.numpy()))
    (x,) = read_samples(SampleOptions(tmp_path / "SD.pdb"), system).x
    # The two hydrogens of a CH₂ may exchange names, which no energy tells apart.
    alike = [k for k, atom in enumerate(system.atoms) if not atom.name.startswith("HB")]
    assert torch.allclose(x[alike], system.positions[alike], atol=1e-3)
    energy = bgbench.energy(system)
    assert torch.allclose(energy.energy(x[None]), energy.energy(system.positions[None]), atol=0.5)


def without(*names):
    return lambda atoms: [k for k, atom in enumerate(atoms) if (atom.residue, atom.name) not in names]


@pytest.mark.parametrize(
    ("sequence", "kept", "complaint"),
    [
        ("AA", lambda atoms: [k for k, a in enumerate(atoms) if a.element != "H"], "holds no hydrogens"),
        ("AA", without((0, "H3")), r"residue 1 \(ALA\) lacks H3: other termini"),
        ("AA", without((1, "OXT")), r"residue 2 \(ALA\) lacks OXT: other termini"),
        ("AA", without((1, "HB2")), r"residue 2 \(ALA\) lacks HB2: fewer hydrogens or another protonation"),
        ("AA", without((0, "CB")), r"residue 1 \(ALA\) lacks CB: other atoms"),
        ("AG", lambda atoms: list(range(len(atoms))), r"holds AG, and AA was asked for; .*--only AG"),
    ],
)
def test_other_atoms_are_refused(sequence, kept, complaint, tmp_path):
    system = peptide(sequence)
    keep = kept(system.atoms)
    atoms, x = [system.atoms[k] for k in keep], shaken(system)[:, keep]
    file = tmp_path / "mine.npz"
    np.savez(file, x=x, atoms=names_of(atoms))
    with pytest.raises(BgbenchError, match=rf"^{file}.*{complaint}"):
        read_samples(SampleOptions(file), peptide("AA"))


@pytest.mark.parametrize(
    ("name", "renaming", "complaint"),
    [
        ("HIS", {"r0_HE2": "HD1"}, r"residue 1 \(HIS\) has HD1 and lacks HE2: another protonation state"),
        ("ACE", {}, "holds ACE-A, and HA was asked for"),
        ("HOH", {}, "holds HOH besides a peptide"),
    ],
)
def test_other_residues_are_refused(name, renaming, complaint, tmp_path):
    system = peptide("HA")
    atoms = [
        bgbench.Atom(a.residue, name if a.residue == 0 else a.residue_name, a.name, a.element)
        for a in renamed(system.atoms, **renaming)
    ]
    file = tmp_path / "mine.pdb"
    file.write_text(pdb_text(atoms, system.positions.numpy()))
    with pytest.raises(BgbenchError, match=rf"^{file}.*{complaint}"):
        read_samples(SampleOptions(file), system)


def write(path, frames, **arrays):
    system = peptide("AA")
    np.savez(path, x=frames, atoms=names_of(system.atoms), **arrays)
    return SampleOptions(path)


@pytest.mark.parametrize("factor", [3.0, 0.01, 100.0])
def test_lengths_of_no_unit_are_refused(factor, tmp_path):
    options = write(tmp_path / "mine.npz", factor * shaken(peptide("AA")))
    with pytest.raises(BgbenchError, match=r"mine\.npz: bonds of AA are .* times as long as in nm"):
        read_samples(options, peptide("AA"))


def test_a_tenth_of_nm_is_known():
    """As mdtraj reads a DCD file that was written in nm."""
    system = peptide("AA")
    read = to_nanometres(system, 0.1 * system.positions[None], "mine.dcd")
    assert torch.allclose(read.x[0], system.positions)
    assert read.remark == (
        "mine.dcd: positions are a tenth of nm, as where nm were taken for Å, and were multiplied by 10"
    )


def test_faults_of_frames_are_counted_and_the_first_is_named(own_references, tmp_path):
    system = peptide("AA")
    x = shaken(system)
    x[3] *= -1
    x[7, 0, 0] = np.nan
    x[[9, 11], 5] += 1.0
    ca, swapped = system.atom_index[1, "CA"], [system.atom_index[1, name] for name in ("HA", "CB")]
    a, b = (x[20, k] - x[20, ca] for k in swapped)
    x[20, swapped[0]], x[20, swapped[1]] = x[20, ca] + 0.7 * b, x[20, ca] + 1.4 * a
    options = write(tmp_path / "mine.npz", x)
    file = tmp_path / "mine.npz"
    remarks = read_samples(options, system).remarks
    assert (
        f"{file}: 1 of 40 frames have positions that are not finite and get no weight, first frame 7"
        in remarks
    )
    assert f"{file}: 1 of 40 frames are mirror images, first frame 3" in remarks
    assert f"{file}: 1 of 40 frames have wrong chirality (D-residues), first frame 20" in remarks
    assert any("3 of 40 frames have broken bonds" in r and r.endswith("first frame 9") for r in remarks)
    record, folder = judged(tmp_path / "run", file=file)
    assert record.status == "ok", record.error
    assert set(remarks) <= set(record.diagnostics["warnings"])
    assert read_estimate(folder, record).ensemble.weights[7] == 0


def test_frames_of_which_none_is_finite_are_refused(tmp_path):
    options = write(tmp_path / "mine.npz", np.full((3, 23, 3), np.nan))
    with pytest.raises(BgbenchError, match=r"mine\.npz: no frame has finite positions"):
        read_samples(options, peptide("AA"))


@pytest.mark.parametrize(
    ("name", "values", "complaint"),
    [
        ("log_q", np.zeros(39), r"mine\.npz holds 39 numbers, and .*mine\.npz has 40 frames"),
        ("log_q", np.zeros((40, 1)), r"mine\.npz: log_q has shape \(40, 1\)"),
        ("log_p", np.zeros(40), r"mine\.npz holds no log_q; it holds x, atoms, log_p"),
        ("weights", -np.arange(40.0), r"mine\.npz: the weight of frame 1 is not .* \(39 of 40 are not\)"),
        ("weights", np.zeros(40), r"mine\.npz: all weights are zero"),
        ("log_w", np.full(40, np.nan), r"mine\.npz: the weight of frame 0 is not"),
    ],
)
def test_wrong_numbers_are_refused(name, values, complaint, tmp_path):
    system, file = peptide("AA"), tmp_path / "mine.npz"
    write(file, shaken(system), **{name: values})
    kind = "log_q" if name.startswith("log_q") or name == "log_p" else "weights"
    with pytest.raises(BgbenchError, match=complaint):
        read_samples(SampleOptions(file, **{kind: file}), system)


def damaged(folder):
    """Files that are none, by name: what their refusal says."""
    system = peptide("AA")
    frames = mdtraj.Trajectory(shaken(system), mdtraj_topology(system))
    frames[0].save_pdb(str(folder / "AA.pdb"))
    for ending in ("xtc", "dcd"):
        getattr(frames, f"save_{ending}")(str(folder / f"cut.{ending}"))
        whole = (folder / f"cut.{ending}").read_bytes()
        (folder / f"cut.{ending}").write_bytes(whole[: len(whole) // 2 + 7])
        (folder / f"words.{ending}").write_text("no trajectory\n" * 20)
        (folder / f"empty.{ending}").write_bytes(b"")
    frames.atom_slice(range(10)).save_xtc(str(folder / "short.xtc"))
    (folder / "words.npz").write_text("no arrays")
    (folder / "words.pdb").write_text("no atoms\n")
    np.savez(folder / "objects.npz", x=np.array([{}], dtype=object))
    np.savez(folder / "bare.npz", x=shaken(system))
    np.savez(folder / "lacking.npz", y=shaken(system))
    np.savez(folder / "flat.npz", x=np.zeros((4, 69)))
    np.savez(folder / "none.npz", x=np.zeros((0, 23, 3)), atoms=names_of(system.atoms))
    (folder / "AA.gro").write_text("")


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("cut.xtc", r"cut\.xtc cannot be read as \.xtc"),
        ("words.xtc", r"words\.xtc cannot be read as \.xtc"),
        ("empty.xtc", r"empty\.xtc cannot be read as \.xtc"),
        ("short.xtc", r"short\.xtc and its topology \(23 atoms\) have different numbers of atoms"),
        ("cut.dcd", r"cut\.dcd was cut: its header promises 40 frames"),
        ("words.dcd", r"words\.dcd is not a DCD file"),
        ("empty.dcd", r"empty\.dcd is not a DCD file"),
        ("words.npz", r"words\.npz cannot be read as \.npz"),
        ("objects.npz", r"objects\.npz cannot be read as \.npz \(Object arrays cannot be loaded"),
        ("bare.npz", r"bare\.npz does not name its atoms: add an array atoms"),
        ("lacking.npz", r"must hold positions under one of the names x, positions, xyz; it holds y"),
        ("flat.npz", r"flat\.npz: x has shape \(4, 69\)"),
        ("none.npz", r"none\.npz holds no frames"),
        ("words.pdb", r"words\.pdb cannot be read as \.pdb"),
        ("AA.gro", r"its ending must be one of \.xtc, \.dcd, \.npz, \.h5, \.pdb"),
    ],
)
def test_damaged_files_are_one_line(name, complaint, tmp_path):
    damaged(tmp_path)
    top = str(tmp_path / "AA.pdb") if name.endswith(("xtc", "dcd")) else ""
    with pytest.raises(BgbenchError, match=complaint) as refusal:
        read_samples(SampleOptions(tmp_path / name, top=top), peptide("AA"))
    assert "\n" not in str(refusal.value)


def test_a_damaged_file_ends_a_run_before_it_starts(own_references, tmp_path, cli):
    damaged(tmp_path)
    for words in (
        ("file=cut.xtc", "top=AA.pdb"),
        ("file=missing.npz",),
        ("file=cut.xtc",),
        ("file=bare.npz", "log_q=bare.npz", "weights=bare.npz"),
    ):
        options = [part for word in words for part in ("--set", word.replace("=", f"={tmp_path}/"))]
        code, _, complaint = cli("run", "samples", "--only", "AA", "--out", tmp_path / "run", *options)
        assert code == 2
        assert complaint.startswith("bgbench: ")
        assert complaint.count("\n") == 1, complaint
        assert not (tmp_path / "run").exists()


def test_positions_in_bgbenchs_own_order_need_no_names(tmp_path):
    system = peptide("AA")
    np.savez(tmp_path / "AA.npz", x=shaken(system))
    frames = read_samples(SampleOptions(tmp_path / "AA.npz", top="system"), system)
    assert np.array_equal(frames.x.numpy(), shaken(system))
    with pytest.raises(BgbenchError, match=r"AA\.npz has 23 atoms in a frame, and GS has 21"):
        read_samples(SampleOptions(tmp_path / "AA.npz", top="system"), peptide("GS"))


def test_each_seed_takes_frames_of_its_own_in_their_order(tmp_path):
    from bgbench.testing import peptide_task

    system = peptide("AA")
    options = write(tmp_path / "mine.npz", shaken(system))
    sampler = Samples(options)
    first, other = (sampler.sample(peptide_task("AA", seed=seed), 10).x for seed in (0, 1))
    place = [int((torch.from_numpy(shaken(system)) == frame).flatten(1).all(1).nonzero()) for frame in first]
    assert place == sorted(place)
    assert len(set(place)) == 10
    assert not torch.equal(first, other)


def test_a_file_that_was_changed_is_read_again(tmp_path):
    system = peptide("AA")
    options = write(tmp_path / "mine.npz", shaken(system))
    before = read_samples(options, system)
    card = Samples(options).card
    write(tmp_path / "mine.npz", shaken(system, 30))
    assert len(before.x) == 40
    assert len(read_samples(options, system).x) == 30
    assert Samples(options).card.weights_sha256 != card.weights_sha256


def test_other_estimators_say_what_is_missing(own_references, tmp_path, cli):
    write(tmp_path / "mine.npz", shaken(peptide("AA")))
    words = (
        "run",
        "samples",
        "--only",
        "AA",
        "--set",
        f"file={tmp_path}/mine.npz",
        "--out",
        tmp_path / "run",
    )
    code, _, complaint = cli(*words, "--estimator", "snis")
    assert (code, "has no density to weight by" in complaint) == (2, True)
    code, _, complaint = cli(*words, "--estimator", "stored-weights")
    assert (code, "is for samples with --set weights=FILE" in complaint) == (2, True)
    code, _, complaint = cli("run", "prior", "--estimator", "stored-weights")
    assert (code, "is for samples with --set weights=FILE" in complaint) == (2, True)


class TestSamples(SamplerLaws):
    @pytest.fixture
    def sampler(self, tmp_path):
        for name in ("AA", "GS", "GG"):
            system = peptide(name)
            np.savez(tmp_path / f"{name}.npz", x=shaken(system), atoms=names_of(system.atoms))
        return Samples(SampleOptions(tmp_path))


@pytest.mark.parametrize("kind", ["log_q", "weights"])
def test_frames_with_numbers_are_the_same_on_any_device(kind, tmp_path):
    system, numbers = peptide("GG"), np.linspace(0.5, 1.0, FRAMES)
    np.savez(tmp_path / "GG.npz", x=shaken(system), atoms=names_of(system.atoms), **{kind: numbers})
    sampler = build_samples({"file": str(tmp_path), kind: str(tmp_path)})
    name = "snis" if kind == "log_q" else "stored-weights"
    estimator = plugins().estimators[name].build({})
    here = call_sample(sampler, peptide_task("GG"), 8)
    estimate = call_estimate(estimator, sampler, peptide_task("GG", budget=20))
    with elsewhere() as device:
        there = call_sample(sampler, replace(peptide_task("GG"), device=device), 8)
        estimate_there = call_estimate(
            estimator, sampler, replace(peptide_task("GG", budget=20), device=device)
        )
    assert torch.equal(there.x, here.x)
    assert (here.log_q is not None) is (kind == "log_q")
    assert here.log_q is None or torch.equal(there.log_q, here.log_q)
    assert torch.allclose(estimate_there.ensemble.log_w, estimate.ensemble.log_w, atol=1e-3)
    assert estimate.ensemble.n_samples == 20


class TestSamplesPlugin(SamplerPluginLaws):
    @pytest.fixture
    def plugin(self):
        return plugins().samplers["samples"]


def test_h5_files_come_in_with_their_own_names(tmp_path):
    pytest.importorskip("tables")
    system = peptide("AA")
    mdtraj.Trajectory(shaken(system), mdtraj_topology(system)).save(str(tmp_path / "AA.h5"))
    frames = read_samples(SampleOptions(tmp_path / "AA.h5"), system)
    assert torch.allclose(frames.x, torch.from_numpy(shaken(system)), atol=1e-6)
    (tmp_path / "cut.h5").write_bytes((tmp_path / "AA.h5").read_bytes()[:3000])
    with pytest.raises(BgbenchError, match=r"cut\.h5 cannot be read as \.h5"):
        read_samples(SampleOptions(tmp_path / "cut.h5"), system)


def test_h5_files_without_pytables_are_refused_in_one_line(tmp_path, monkeypatch, capfd):
    monkeypatch.setitem(sys.modules, "tables", None)
    (tmp_path / "AA.h5").write_bytes(b"")
    with pytest.raises(BgbenchError, match=r"AA\.h5: \.h5 files need PyTables, which is not installed; pip "):
        read_samples(SampleOptions(tmp_path / "AA.h5"), peptide("AA"))
    assert capfd.readouterr() == ("", "")
