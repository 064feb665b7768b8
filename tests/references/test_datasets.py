"""What is kept under `datasets/`: nothing was trained on that samplers are tested on."""

from hashlib import sha256
from pathlib import Path

import pytest

from bgbench.core.plugins import plugins
from bgbench.data import evaluations_of, held_out, read_energies, read_frames
from bgbench.references.certificates import read_certificate, reference_sha256
from bgbench.references.superseded import is_superseded, superseded_references

DATASETS = Path(__file__).parents[2] / "datasets"
TAUGHT = sorted(DATASETS.glob("training*/*.npz"))
TRAINED = ("prose", "tbg", "verse")


def test_no_training_file_is_of_a_held_out_peptide():
    assert len(TAUGHT) > 100
    assert not {path.stem for path in TAUGHT} & held_out()


def test_validation_files_are_of_validation_peptides():
    names = {path.stem for path in (DATASETS / "validation").glob("*.npz")}
    assert names
    assert names <= held_out("validation")


@pytest.mark.parametrize("folder", ["references", "checks"])
def test_files_are_those_of_the_list_beside_them(folder):
    paths = [*(DATASETS / folder).glob("*.npz"), *(DATASETS / folder).glob("*.json")]
    listed = dict(line.split()[::-1] for line in (DATASETS / folder / "SHA256SUMS").read_text().splitlines())
    assert {path.name: sha256(path.read_bytes()).hexdigest() for path in paths} == listed


def test_superseded_references_are_of_packaged_systems_and_not_packaged():
    earlier = superseded_references()
    assert {item.system for item in earlier.values()} == {"ARIP", "CIPQ", "KKAP", "TAPF", "VPFY"}
    for item in earlier.values():
        path = DATASETS / "references" / f"{item.system}.npz"
        assert not is_superseded(item.system, reference_sha256(path))


def test_packaged_references_hold_both_isomers_of_every_bond_before_proline():
    """They held the trans isomer alone: 0 of 5,120 frames of each were cis."""
    names = {path.stem: path for path in (DATASETS / "references").glob("*.npz") if "P" in path.stem[1:]}
    assert set(names) == {"ARIP", "CIPQ", "KKAP", "TAPF", "VPFY"}
    for sequence, path in names.items():
        certificate = read_certificate(path)
        residue = sequence.index("P", 1) + 1
        assert 0.05 < certificate["cis"][f"PRO{residue}"] < 0.5
        assert max(certificate["rhat"][f"{part}_omega_1"] for part in ("sin", "cos")) < 1.02
        assert certificate["grade"] == "gold"


@pytest.mark.parametrize(("length", "megabytes"), [(2, 20), (4, 60)])
def test_packaged_references_are_of_test_peptides_and_small(length, megabytes):
    paths = [path for path in (DATASETS / "references").glob("*.npz") if len(path.stem) == length]
    assert {path.stem for path in paths} <= held_out("test")
    assert len(paths) >= 4
    assert sum(path.stat().st_size for path in paths) <= megabytes * 1_000_000
    assert len(read_frames(min(paths, key=lambda path: path.stat().st_size))[1]) >= (
        2000 if length == 2 else 5000
    )


@pytest.mark.parametrize("sampler", TRAINED)
def test_packaged_weights_have_seen_no_held_out_peptide(sampler):
    card = plugins().samplers[sampler].build({}).card
    assert card.training_sequences
    assert not set(card.training_sequences) & held_out()
    assert card.training_hours > 0


@pytest.mark.parametrize("folder", ["training", "training-covering", "training-weighed", "validation"])
def test_files_hold_frames_with_their_energies_and_say_what_they_cost(folder):
    for path in sorted((DATASETS / folder).glob("*.npz"))[:3]:
        atoms, x = read_frames(path)
        assert x.shape[1:] == (len(atoms), 3)
        assert len(read_energies(path)) == len(x)
        assert evaluations_of(path) >= len(x)
