"""Atom encodings against the published tables (tests/data/chemistry_tables.json)."""

import json
from pathlib import Path

import pytest

import bgbench
from bgbench import Atom, BgbenchError, encode_atoms
from bgbench.systems.encodings import ATOM_TYPES

TABLES = json.loads((Path(__file__).parents[1] / "data" / "chemistry_tables.json").read_text())


@pytest.mark.parametrize("sequence", TABLES)
def test_codes_equal_the_published_table(sequence):
    table = TABLES[sequence]
    atoms = [Atom(residue, residue_name, name, name[0]) for residue, residue_name, name in table["atoms"]]
    encoding = encode_atoms(atoms)
    want = table["encodings"]
    assert encoding.atom_type.tolist() == want["atom_type"]
    assert encoding.residue_type.tolist() == want["aa_type"]
    assert encoding.residue_position.tolist() == want["aa_pos"]
    assert [encoding.sequence_length] == want["seq_len"]


def test_there_are_54_types_in_order():
    assert len(ATOM_TYPES) == 54
    assert list(ATOM_TYPES) == sorted(ATOM_TYPES)


def test_every_atom_of_a_built_peptide_has_a_code():
    system = bgbench.peptide("HW")
    encoding = encode_atoms(system.atoms)
    assert encoding.atom_type.shape == (system.n_atoms,)
    assert int(encoding.atom_type.min()) >= 1
    assert encoding.sequence_length == 2


@pytest.mark.parametrize(
    ("atom", "named"),
    [
        (Atom(0, "ACE", "CH3", "C"), "residue ACE has no encoding; supported are .* without caps"),
        (Atom(0, "ALA", "QQ", "C"), "QQ of ALA"),
    ],
)
def test_unknown_atoms_and_residues_are_named(atom, named):
    with pytest.raises(BgbenchError, match=named):
        encode_atoms([atom])


def test_no_atoms_is_an_error():
    with pytest.raises(BgbenchError, match="no atoms"):
        encode_atoms([])
