"""The published data set, in a folder of its layout: taken over, and refused where it is wrong."""

import io
import tarfile

import numpy as np
import pytest
import torch

from bgbench import BgbenchError, System
from bgbench.chemistry.build import build_peptide
from bgbench.cli import app, guarded
from bgbench.energies.openmm import OpenMMEnergy
from bgbench.references.published import Source, take_published
from bgbench.references.store import read_reference


@pytest.fixture
def layout(tmp_path, generator):
    """AA as published: another atom order, 200 frames, a TICA model of the right size."""
    from bgbench.chemistry.features import tica_features

    system = System.from_sequence("AA")
    pdb = build_peptide("AA", system.forcefield.files).pdb.splitlines()
    atoms = [line for line in pdb if line.startswith(("ATOM", "HETATM"))]
    first = [k for k, line in enumerate(atoms) if line[22:26].strip() == "1"]
    order = first[::-1] + [k for k in range(len(atoms)) if k not in first]
    noise = torch.randn(200, system.n_atoms, 3, generator=generator, dtype=torch.float64)
    x = system.positions + 0.02 * noise
    features = tica_features(system, x).shape[1]
    folder = tmp_path / "published"
    place = folder / "trajectories_subsampled" / "test" / "2AA" / "AA_subsampled.npz"
    place.parent.mkdir(parents=True)
    np.savez(
        place,
        positions=x[:, order].float().numpy(),
        tica_mean=np.zeros(features),
        tica_projection=np.eye(features)[:, :2],
        tica_dim=2,
    )
    (folder / "pdb_tarfiles").mkdir()
    with tarfile.open(folder / "pdb_tarfiles" / "test.tar", "w") as tar:
        content = "\n".join(atoms[k] for k in order).encode()
        info = tarfile.TarInfo("pdbs/test/AA.pdb")
        info.size = len(content)
        tar.addfile(info, io.BytesIO(content))
    return folder, place, x


def test_atoms_come_in_our_order_with_energies_and_a_certificate(layout, tmp_path):
    folder, _, x = layout
    system = System.from_sequence("AA")
    take_published(system, Source(folder), tmp_path / "AA.npz")
    reference = read_reference(tmp_path / "AA.npz", system)
    assert (reference.x - (x - x.mean(1, keepdim=True))).abs().max() < 1e-4
    truth = OpenMMEnergy(system, "Reference").energy(x[:5])
    assert torch.allclose(reference.u[:5], truth, atol=0.05)
    assert reference.certificate["engine"] == "published MD"
    assert reference.grade == "bronze"
    assert reference.tica is not None


def test_invalid_tica_other_atoms_and_damage_are_refused(layout, tmp_path):
    folder, place, _ = layout
    system = System.from_sequence("AA")
    whole = dict(np.load(place))
    np.savez(place, **{**whole, "tica_mean": whole["tica_mean"][:-3]})
    with pytest.raises(BgbenchError, match="before 2025-12-15"):
        take_published(system, Source(folder), tmp_path / "AA.npz")
    np.savez(place, **{**whole, "positions": np.full_like(whole["positions"], np.nan)})
    with pytest.raises(BgbenchError, match="not finite"):
        take_published(system, Source(folder), tmp_path / "AA.npz")
    place.write_bytes(place.read_bytes()[:1000])
    with pytest.raises(BgbenchError, match="is damaged"):
        take_published(system, Source(folder), tmp_path / "AA.npz")
    with pytest.raises(BgbenchError, match="does not exist"):
        take_published(System.from_sequence("GS"), Source(folder), tmp_path / "GS.npz")


def test_the_command_takes_a_folder_and_says_what_to_do_without_a_network(
    layout, tmp_path, capsys, monkeypatch
):
    folder, _, _ = layout
    suite = tmp_path / "one@1.yaml"
    suite.write_text("systems: [AA]\n")
    words = ["data", "fetch", "many-peptides-md", "--suite", str(suite), "--out", str(tmp_path / "refs")]

    def call(*more):
        code = guarded(lambda **options: app([*words, *more], **options))
        captured = capsys.readouterr()
        return code, captured.out + captured.err

    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    code, printed = call()
    assert code == 2
    assert "cannot be reached" in printed
    code, printed = call("--from", str(folder))
    assert code == 0
    assert "200 frames, grade bronze" in printed
    assert "ready" in call("--from", str(folder))[1]
