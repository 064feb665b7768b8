"""The sixteen atom orders of Prose (arXiv 2508.18175, appendix): pure functions of residue and atom names."""

from collections.abc import Sequence

import torch
from torch import Tensor

import bgbench

LEADING = ("N", "H", "H2", "H3", "CA", "HA", "HA2", "HA3")
TRAILING = ("C", "O", "OXT")
REVERSED_LEADING = ("OXT", "C", "O", "CA", "HA", "HA2", "HA3")
REVERSED_TRAILING = ("N", "H", "H2", "H3")

STANDARD = {
    "ALA": "CB HB1 HB2 HB3",
    "ARG": "CB HB2 HB3 CG HG2 HG3 CD HD2 HD3 NE HE CZ NH1 HH11 HH12 NH2 HH21 HH22",
    "ASN": "CB HB2 HB3 CG OD1 ND2 HD21 HD22",
    "ASP": "CB HB2 HB3 CG OD1 OD2",
    "CYS": "CB HB2 HB3 SG HG",
    "GLN": "CB HB2 HB3 CG HG2 HG3 CD OE1 NE2 HE21 HE22",
    "GLU": "CB HB2 HB3 CG HG2 HG3 CD OE1 OE2",
    "GLY": "",
    "HIS": "CB HB2 HB3 CG ND1 CE1 HE1 NE2 HE2 CD2 HD2",
    "ILE": "CB HB CG2 HG21 HG22 HG23 CG1 HG12 HG13 CD1 HD11 HD12 HD13",
    "LEU": "CB HB2 HB3 CG HG CD1 HD11 HD12 HD13 CD2 HD21 HD22 HD23",
    "LYS": "CB HB2 HB3 CG HG2 HG3 CD HD2 HD3 CE HE2 HE3 NZ HZ1 HZ2 HZ3",
    "MET": "CB HB2 HB3 CG HG2 HG3 SD CE HE1 HE2 HE3",
    "PHE": "CB HB2 HB3 CG CD1 HD1 CE1 HE1 CZ HZ CE2 HE2 CD2 HD2",
    "PRO": "CB HB2 HB3 CG HG2 HG3 CD HD2 HD3",
    "SER": "CB HB2 HB3 OG HG",
    "THR": "CB HB OG1 HG1 CG2 HG21 HG22 HG23",
    "TRP": "CB HB2 HB3 CG CD1 HD1 NE1 HE1 CE2 CZ2 HZ2 CH2 HH2 CZ3 HZ3 CE3 HE3 CD2",
    "TYR": "CB HB2 HB3 CG CD1 HD1 CE1 HE1 CZ OH HH CE2 HE2 CD2 HD2",
    "VAL": "CB HB CG1 HG11 HG12 HG13 CG2 HG21 HG22 HG23",
}  # fmt: skip

VARIANT = {
    "HIS": "CB HB2 HB3 CG CD2 HD2 NE2 HE2 CE1 HE1 ND1",
    "ILE": "CB HB CG1 HG12 HG13 CD1 HD11 HD12 HD13 CG2 HG21 HG22 HG23",
    "LEU": "CB HB2 HB3 CG HG CD2 HD21 HD22 HD23 CD1 HD11 HD12 HD13",
    "PHE": "CB HB2 HB3 CG CD2 HD2 CE2 HE2 CZ HZ CE1 HE1 CD1 HD1",
    "PRO": "CD HD2 HD3 CG HG2 HG3 CB HB2 HB3",
    "THR": "CB HB CG2 HG21 HG22 HG23 OG1 HG1",
    "TRP": "CB HB2 HB3 CG CD2 CE3 HE3 CZ3 HZ3 CH2 HH2 CZ2 HZ2 CE2 NE1 HE1 CD1 HD1",
    "TYR": "CB HB2 HB3 CG CD2 HD2 CE2 HE2 CZ OH HH CE1 HE1 CD1 HD1",
    "VAL": "CB HB CG2 HG21 HG22 HG23 CG1 HG11 HG12 HG13",
}  # fmt: skip
"""Side chains walked the other way round; residues not named here have one order."""

NAMES = tuple(
    f"{direction}_{grouping}_{chain}{flip}"
    for direction in ("n2c", "c2n")
    for grouping in ("residue-by-residue", "backbone-first")
    for chain in ("standard", "variant")
    for flip in ("", "_flip")
)

PROSE = tuple(
    f"n2c_{grouping}_{chain}{flip}"
    for chain in ("standard", "variant")
    for grouping, flip in (
        ("backbone-first", ""),
        ("residue-by-residue", "_flip"),
        ("backbone-first", "_flip"),
        ("residue-by-residue", ""),
    )
)
"""The orders of Prose's blocks, in turn."""


def permutation(atoms: Sequence[bgbench.Atom], name: str) -> Tensor:
    """The order called `name`: `(atoms,)` indices, the first entry comes first.

    Raises:
        BgbenchError: for an unknown order, or an atom that has no place in it.
    """
    if name not in NAMES:
        raise bgbench.BgbenchError(f"unknown order '{name}'; known: {', '.join(NAMES)}")
    direction, grouping, chain, *flip = name.split("_")
    index = {(atom.residue, atom.name): k for k, atom in enumerate(atoms)}
    residues = sorted({atom.residue: atom.residue_name for atom in atoms}.items(), reverse=direction == "c2n")
    first: tuple[str, ...]
    last: tuple[str, ...]
    first, last = (LEADING, TRAILING) if direction == "n2c" else (REVERSED_LEADING, REVERSED_TRAILING)
    order: list[int] = []
    if grouping == "backbone-first":
        for residue, _ in residues:
            order += _present(index, residue, [a for a in (*first, *last) if a[0] != "H"])
        first = tuple(a for a in first if a[0] == "H")
        last = tuple(a for a in last if a[0] == "H")
    for residue, residue_name in residues:
        side = (
            VARIANT.get(residue_name, STANDARD[residue_name])
            if chain == "variant"
            else STANDARD[residue_name]
        )
        order += _present(index, residue, [*first, *side.split(), *last])
    if sorted(order) != list(range(len(atoms))):
        missing = atoms[min(set(range(len(atoms))) - set(order))]
        raise bgbench.BgbenchError(f"atom {missing.name} of {missing.residue_name} has no place in {name}")
    return torch.tensor(order[::-1] if flip else order)


def _present(index: dict[tuple[int, str], int], residue: int, names: Sequence[str]) -> list[int]:
    return [index[residue, name] for name in names if (residue, name) in index]
