"""The 20 standard residues and one-letter sequences."""

from dataclasses import dataclass

from bgbench.errors import BgbenchError

ONE_TO_THREE = {
    "A": "ALA", "R": "ARG", "N": "ASN", "D": "ASP", "C": "CYS", "Q": "GLN", "E": "GLU", "G": "GLY",
    "H": "HIS", "I": "ILE", "L": "LEU", "K": "LYS", "M": "MET", "F": "PHE", "P": "PRO", "S": "SER",
    "T": "THR", "W": "TRP", "Y": "TYR", "V": "VAL",
}  # fmt: skip
"""One-letter → three-letter residue codes."""


@dataclass(frozen=True, slots=True)
class Atom:
    """An atom by residue (counted from 0), residue name, PDB atom name and element symbol."""

    residue: int
    residue_name: str
    name: str
    element: str


def parse_sequence(sequence: str) -> str:
    """The sequence in upper case.

    Raises:
        BgbenchError: if it is shorter than two residues or holds a non-standard letter.
    """
    letters = sequence.strip().upper()
    strange = sorted(set(letters) - set(ONE_TO_THREE))
    if strange:
        raise BgbenchError(
            f"peptide '{sequence}' holds {', '.join(repr(s) for s in strange)}, not one of the 20 standard "
            f"residues ({''.join(sorted(ONE_TO_THREE))})"
        )
    if len(letters) < 2:
        raise BgbenchError(f"peptide '{sequence}' has {len(letters)} residue(s); at least 2 are needed")
    return letters
