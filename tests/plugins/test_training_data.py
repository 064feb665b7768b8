"""What may be trained on: known by its atoms, not by its name; whole, in nm, of the right handedness."""

import io
import tarfile
from dataclasses import replace

import pytest
import torch

from bgbench import BgbenchError, peptide
from bgbench.data import published_atoms, read_frames, read_training_frames
from bgbench.references.certificates import certificate_path
from bgbench_training.batches import open_frames
from bgbench_training.files import training_files, validation_files
from bgbench_verse.peptides import read_training_peptide
from bgbench_verse.recipe import VerseRecipe


def frames_of(folders):
    return open_frames(folders, lambda x, random: x, 0)


def renamed(path, name):
    certificate_path(path).rename(certificate_path(path.with_name(name)))
    return path.rename(path.with_name(name))


@pytest.mark.parametrize("name", ["aa.npz", "AA-310K.npz", "mine.npz", "Aa-copy.npz"])
def test_a_test_peptide_is_refused_under_any_name(tmp_path, make_training_file, name):
    make_training_file(tmp_path, "GS")
    make_training_file(tmp_path, "AA")
    renamed(tmp_path / "AA.npz", name)
    with pytest.raises(BgbenchError, match="holds test or validation peptides: AA"):
        training_files([tmp_path])


def test_a_file_named_after_another_peptide_is_refused(tmp_path, make_training_file):
    make_training_file(tmp_path, "GS")
    renamed(tmp_path / "GS.npz", "SG.npz")
    with pytest.raises(BgbenchError, match="is named after SG and holds the atoms of GS; rename it"):
        frames_of([tmp_path])
    with pytest.raises(BgbenchError, match="is named after SG and holds the atoms of GS"):
        validation_files(tmp_path)


def test_a_peptide_in_two_folders_counts_with_both_files(tmp_path, make_training_file):
    for folder in ("one", "two"):
        make_training_file(tmp_path / folder, "GS")
    make_training_file(tmp_path / "two", "SG")
    each = [frames_of([tmp_path / folder]) for folder in ("one", "two")]
    both = frames_of([tmp_path / "one", tmp_path / "two"])
    assert both.n_frames == sum(frames.n_frames for frames in each) == 360
    assert both.names == ["GS", "SG"]


def test_folders_are_named_each_once_and_exist(tmp_path, make_training_file):
    make_training_file(tmp_path / "one", "GS")
    (tmp_path / "empty").mkdir()
    recipe = VerseRecipe(config="verse-tiny", data=f"{tmp_path}/one, {tmp_path}/nosuch")
    assert recipe.folders == [tmp_path / "one", tmp_path / "nosuch"]
    for second, complaint in (
        ("nosuch", "nosuch does not exist"),
        ("empty", "empty holds no training peptides"),
        ("one", "one is named twice"),
    ):
        with pytest.raises(BgbenchError, match=complaint):
            training_files([tmp_path / "one", tmp_path / second])
    with pytest.raises(BgbenchError, match="no folder of training peptides is named"):
        training_files(VerseRecipe(config="verse-tiny", data=" , ").folders)
    with pytest.raises(BgbenchError, match="nosuch does not exist"):
        validation_files(tmp_path / "nosuch")


def shuffled(x):
    return x[:, torch.randperm(x.shape[1], generator=torch.Generator().manual_seed(0))]


IMPOSSIBLE = [
    (lambda x: 10 * x, "times as long as in nm; they look like Å: divide them by 10"),
    (lambda x: -x, "hold D-residues, as mirror images do"),
    (shuffled, "bonds of impossible length; the atoms may be in another order"),
    (lambda x: x * torch.nan, "not finite"),
]


def shards(folder, peptides, prefix="", strangers=()):
    """The published layout of training frames: `{name: (atoms' system, frames)}`."""

    def add(tar, name, content):
        member = tarfile.TarInfo(name)
        member.size = len(content)
        tar.addfile(member, io.BytesIO(content))

    (folder / "pdb_tarfiles").mkdir(parents=True)
    (folder / "webdatasets" / "single_frames").mkdir(parents=True)
    with tarfile.open(folder / "pdb_tarfiles" / "train.tar", "w") as tar:
        for name, (system, _) in peptides.items():
            lines = [
                f"ATOM  {k + 1:>5} {atom.name if len(atom.name) == 4 else f' {atom.name:<3}'} "
                f"{atom.residue_name} A{atom.residue + 1:>4}       0.000   0.000   0.000"
                for k, atom in enumerate(system.atoms)
            ]
            add(tar, f"{prefix}pdbs/train/{name}.pdb", "\n".join(lines).encode())
        for name, content in strangers:
            add(tar, name, content)
    with tarfile.open(folder / "webdatasets" / "single_frames" / "0000.tar", "w") as tar:
        for name, (_, x) in peptides.items():
            for k, frame in enumerate(x):
                add(tar, f"{prefix}{name}_{k}.bin", frame.float().numpy().astype("<f4").tobytes())
        for name, content in strangers:
            add(tar, name.rpartition("/")[2] + "_0.bin", content)
    return folder


def shaken(name, generator):
    system = peptide(name)
    noise = torch.randn(20, system.n_atoms, 3, generator=generator, dtype=torch.float64)
    return system, system.positions + 0.003 * noise


def test_shards_may_name_the_first_hydrogen_as_the_published_do(tmp_path, generator):
    system, x = shaken("GS", generator)
    named = tuple(replace(a, name="H1") if (a.residue, a.name) == (0, "H") else a for a in system.atoms)
    assert named != system.atoms
    folder = shards(tmp_path / "s", {"GS": (replace(system, atoms=named), x)})
    assert published_atoms(folder / "pdb_tarfiles" / "train.tar") == {"GS": system.atoms}


def test_shards_are_read_with_dots_and_hidden_files_in_their_names(tmp_path, generator):
    mac = ("pdbs/train/._GS.pdb", b"\x00\x05\x16\x07Mac OS X\xff\xfe\xb0")
    folder = shards(tmp_path / "a", {"GS": shaken("GS", generator)}, "./", [mac])
    assert frames_of([folder]).names == ["GS"]
    odd = ("pdbs/train/SG.pdb", b"ATOM \xff\xfe\xb0")
    with pytest.raises(BgbenchError, match=r"SG\.pdb is not a PDB file .*fetch it again"):
        frames_of([shards(tmp_path / "b", {"GS": shaken("GS", generator)}, "", [odd])])


@pytest.mark.parametrize("name", ["aa", "AAx", "GG"])
def test_shards_know_a_test_peptide_by_its_atoms(tmp_path, generator, name):
    folder = shards(tmp_path / "s", {name: shaken("AA", generator), "GS": shaken("GS", generator)})
    with pytest.raises(BgbenchError, match="holds test or validation peptides: AA"):
        frames_of([folder])


@pytest.mark.parametrize(("change", "complaint"), IMPOSSIBLE)
def test_frames_that_no_molecule_takes_are_refused(tmp_path, generator, change, complaint):
    system, x = shaken("SG", generator)
    with pytest.raises(BgbenchError, match=complaint):
        frames_of([shards(tmp_path / "s", {"SG": (system, change(x))})])


@pytest.mark.parametrize(("change", "complaint"), IMPOSSIBLE[:3])
def test_so_are_those_of_a_file(tmp_path, make_training_file, monkeypatch, change, complaint):
    make_training_file(tmp_path, "SG")
    atoms, x = read_frames(tmp_path / "SG.npz")
    monkeypatch.setattr(
        "bgbench.references.training_files.read_frames", lambda path: (atoms, change(x.double()).float())
    )
    with pytest.raises(BgbenchError, match=complaint):
        read_training_frames(tmp_path / "SG.npz")


def test_verse_reads_atoms_in_any_order(tmp_path, make_training_file, monkeypatch):
    make_training_file(tmp_path, "SG")
    atoms, x = read_frames(tmp_path / "SG.npz")
    before = read_training_peptide(tmp_path / "SG.npz")
    monkeypatch.setattr("bgbench.references.training_files.read_frames", lambda _: (atoms[::-1], x.flip(1)))
    after = read_training_peptide(tmp_path / "SG.npz")
    assert after.atoms == before.atoms
    assert torch.equal(after.x, before.x)
