"""The published data set, in a folder of its layout: taken over, and refused where it is wrong."""

import io
import tarfile
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from bgbench import BgbenchError, peptide
from bgbench.cli.main import app, guarded
from bgbench.core.resources import data_path
from bgbench.core.types import ForceFieldSpec, TicaModel
from bgbench.energies.openmm import OpenMMEnergy
from bgbench.references.published import Source, atom_order, import_published
from bgbench.references.store import read_reference
from bgbench.systems.features import tica_features

LAST = ("C", "O", "OXT")
"""What the builder of the published files writes last in a residue; we write them after CA."""


def published_order(system):
    """Our atoms in the order of the published files."""
    rank = {name: k for k, name in enumerate(LAST, 1)}
    return sorted(
        range(system.n_atoms), key=lambda k: (system.atoms[k].residue, rank.get(system.atoms[k].name, 0))
    )


def published_pdb(system, order):
    """A PDB text of these atoms, with the name that builder gives to the hydrogen H of the N-terminus."""
    rows = []
    for serial, k in enumerate(order, 1):
        atom = system.atoms[k]
        name = "H1" if (atom.residue, atom.name) == (0, "H") else atom.name
        column = name if len(name) == 4 else f" {name:<3}"
        x, y, z = (10 * system.positions[k]).tolist()
        rows.append(
            f"ATOM  {serial:>5} {column} {atom.residue_name} A{atom.residue + 1:>4}    "
            f"{x:8.3f}{y:8.3f}{z:8.3f}  1.00  0.00           {atom.element:>2}"
        )
    return "\n".join([*rows, "TER", "END"])


@pytest.fixture
def layout(tmp_path, generator):
    """AA as published: 200 frames in the order of its PDB file, the TICA model of features in that order."""
    system = peptide("AA")
    order = published_order(system)
    assert order != sorted(order)
    x = read_reference(data_path("references", "AA.npz"), system).x[:200].double()
    theirs = SimpleNamespace(atoms=[system.atoms[k] for k in order])
    features = tica_features(theirs, x[:, order])
    projection = torch.randn(features.shape[1], 2, generator=generator, dtype=torch.float64)
    model = TicaModel(features.mean(0), projection)
    folder = tmp_path / "published"
    place = folder / "trajectories_subsampled" / "test" / "2AA" / "AA_subsampled.npz"
    place.parent.mkdir(parents=True)
    np.savez(
        place,
        positions=x[:, order].float().numpy(),
        tica_mean=model.mean.numpy(),
        tica_projection=projection.numpy(),
        tica_dim=2,
    )
    (folder / "pdb_tarfiles").mkdir()
    with tarfile.open(folder / "pdb_tarfiles" / "test.tar", "w") as tar:
        content = published_pdb(system, order).encode()
        info = tarfile.TarInfo("pdbs/test/AA.pdb")
        info.size = len(content)
        tar.addfile(info, io.BytesIO(content))
    return folder, place, x, model.transform(features)


def test_atoms_come_in_our_order_with_energies_and_a_certificate(layout, tmp_path):
    folder, _, x, _ = layout
    system = peptide("AA")
    import_published(system, Source(folder), tmp_path / "AA.npz")
    reference = read_reference(tmp_path / "AA.npz", system)
    assert (reference.x - (x - x.mean(1, keepdim=True))).abs().max() < 1e-4
    truth = OpenMMEnergy(system, "Reference").energy(x[:5])
    assert torch.allclose(reference.u[:5], truth, atol=0.05)
    assert reference.certificate["engine"] == "published MD"
    assert reference.grade == "bronze"


def test_components_are_those_of_the_published_model(layout, tmp_path):
    """Its distances are between atoms in the order of its own file."""
    folder, _, x, published = layout
    system = peptide("AA")
    import_published(system, Source(folder), tmp_path / "AA.npz")
    tica = read_reference(tmp_path / "AA.npz", system).tica
    ours = tica.transform(tica_features(system, x))
    assert (ours - published).abs().max() < 1e-4 * published.abs().max()


@pytest.mark.parametrize(
    "changed", [{"temperature": 350.0}, {"forcefield": ForceFieldSpec(name="short", cutoff=1.0)}], ids=str
)
def test_another_target_than_the_published_is_refused(layout, tmp_path, changed):
    with pytest.raises(BgbenchError, match="the published data are of 310 K and the force field"):
        import_published(peptide("AA", **changed), Source(layout[0]), tmp_path / "AA.npz")


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        ("positions", lambda x: x[:, :-1], "its PDB file lists"),
        ("positions", lambda x: np.concatenate([x, x[:, :1]], 1), "its PDB file lists"),
        ("positions", lambda x: x[0], "of shape"),
        ("positions", lambda x: x.astype(str), "of shape .* and type <U"),
        ("positions", lambda x: -x, "do not belong together: .*wrong chirality"),
        ("positions", lambda x: x[:, ::-1], "do not belong together"),
        ("positions", lambda x: np.full_like(x, np.nan), "not finite"),
        ("tica_mean", lambda mean: np.full_like(mean, np.nan), "not finite"),
        ("tica_mean", lambda mean: mean[0], "of shape"),
        ("tica_mean", lambda mean: mean[:-3], "before 2025-12-15"),
        ("tica_projection", lambda projection: projection[:, 0], "of shape"),
        ("tica_projection", lambda projection: projection[:-1], "before 2025-12-15"),
    ],
)
def test_arrays_that_are_not_what_they_should_be_are_refused(layout, tmp_path, name, change, said):
    folder, place, _, _ = layout
    whole = dict(np.load(place))
    np.savez(place, **{**whole, name: change(whole[name])})
    with pytest.raises(BgbenchError, match=said):
        import_published(peptide("AA"), Source(folder), tmp_path / "AA.npz")
    assert not (tmp_path / "AA.npz").exists()


def test_other_atoms_and_damage_are_refused(layout, tmp_path):
    folder, place, _, _ = layout
    system = peptide("AA")
    with pytest.raises(BgbenchError, match="holds other atoms"):
        atom_order(peptide("GS"), published_pdb(system, published_order(system)))
    with pytest.raises(BgbenchError, match="cannot be read"):
        atom_order(system, "ATOM      1  N   ALA A   1       x.xxx")
    place.write_bytes(place.read_bytes()[:1000])
    with pytest.raises(BgbenchError, match="is damaged"):
        import_published(system, Source(folder), tmp_path / "AA.npz")
    with pytest.raises(BgbenchError, match="does not exist"):
        import_published(peptide("GS"), Source(folder), tmp_path / "GS.npz")


def test_the_command_takes_a_folder_and_says_what_to_do_without_a_network(
    layout, tmp_path, capsys, no_network
):
    folder = layout[0]
    suite = tmp_path / "one@1.yaml"
    suite.write_text("systems: [AA]\n")
    words = ["data", "fetch", "many-peptides-md", "--suite", str(suite), "--out", str(tmp_path / "refs")]

    def call(*more):
        code = guarded(lambda **options: app([*words, *more], **options))
        captured = capsys.readouterr()
        return code, captured.out + captured.err

    code, printed = call()
    assert code == 2
    assert "cannot be reached" in printed
    code, printed = call("--from", str(folder))
    assert code == 0
    assert "200 frames, grade bronze" in printed
    assert "ready" in call("--from", str(folder))[1]


def test_one_refused_peptide_does_not_keep_the_others_from_being_taken(layout, tmp_path, cli):
    suite = tmp_path / "two@1.yaml"
    suite.write_text("systems: [GS, AA]\n")
    words = ["data", "fetch", "many-peptides-md", "--suite", suite, "--out", tmp_path / "refs"]
    code, printed, complaint = cli(*words, "--from", layout[0])
    assert code == 2
    assert "AA: 200 frames" in printed
    assert "GS: " in complaint
    assert "refused: GS; the same command tries them again" in complaint
    assert (tmp_path / "refs" / "AA.npz").is_file()


def constrained(system, x):
    """Frames with every bond of a hydrogen at its mean length."""
    x = x.clone()
    for bond in system.bonds:
        heavy, light = sorted(bond, key=lambda k: system.atoms[k].element == "H")
        if system.atoms[light].element == "H":
            step = x[:, light] - x[:, heavy]
            length = step.norm(dim=-1, keepdim=True)
            x[:, light] = x[:, heavy] + step / length * length.mean()
    return x


def all_cis(system, x):
    """Frames whose peptide bond is turned by half a turn."""
    index = system.atom_index
    origin, axis = x[:, [index[0, "C"]]], x[:, [index[1, "N"]]] - x[:, [index[0, "C"]]]
    axis = axis / axis.norm(dim=-1, keepdim=True)
    moved = [k for k, atom in enumerate(system.atoms) if atom.residue == 1 and atom.name != "N"]
    v, x = x[:, moved] - origin, x.clone()
    x[:, moved] = origin - v + 2 * axis * (v * axis).sum(-1, keepdim=True)
    return x


def of_500_kelvin(system, x):
    hot = data_path("checks", "AA-500K.npz")
    return read_reference(hot, system.at(500.0)).x[:200].double()


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (of_500_kelvin, r"bonds hold 0\.[89]\d kT each .* as at about \d+ K; frames of 310 K are needed"),
        (constrained, "frames without constraints are needed"),
        (all_cis, "of its frames have a cis peptide bond"),
        (lambda system, x: x[:1].expand(200, -1, -1), "1 of its 200 frames are distinct"),
        (lambda system, x: x[:5], "5 of its 5 frames are distinct, a reference needs 100"),
    ],
)
def test_frames_of_another_target_are_refused_by_their_bonds(layout, tmp_path, change, complaint):
    folder, place, x, _ = layout
    system, whole = peptide("AA"), dict(np.load(place))
    np.savez(place, **{**whole, "positions": change(system, x)[:, published_order(system)].float().numpy()})
    with pytest.raises(BgbenchError, match=complaint) as caught:
        import_published(system, Source(folder), tmp_path / "AA.npz")
    assert "AA_subsampled.npz" in str(caught.value)
    assert not (tmp_path / "AA.npz").exists()


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda values: 0 * values, "projects everything to zero"),
        (lambda values: np.roll(values, 6, axis=0), "in another order, or of other frames"),
    ],
)
def test_a_tica_model_of_other_features_is_refused(layout, tmp_path, change, complaint):
    folder, place, _, _ = layout
    whole = dict(np.load(place))
    changed = {name: change(whole[name]) for name in ("tica_mean", "tica_projection")}
    np.savez(place, **{**whole, **changed})
    with pytest.raises(BgbenchError, match=complaint):
        import_published(peptide("AA"), Source(folder), tmp_path / "AA.npz")


def test_a_pdb_in_an_archive_whose_names_begin_with_a_dot_is_read(layout, tmp_path):
    folder = layout[0]
    archive = folder / "pdb_tarfiles" / "test.tar"
    with tarfile.open(archive) as tar:
        content = tar.extractfile("pdbs/test/AA.pdb").read()
    with tarfile.open(archive, "w") as tar:
        info = tarfile.TarInfo("./pdbs/test/AA.pdb")
        info.size = len(content)
        tar.addfile(info, io.BytesIO(content))
    assert import_published(peptide("AA"), Source(folder), tmp_path / "AA.npz").n_samples == 200
