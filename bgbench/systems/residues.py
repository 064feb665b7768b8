"""The 20 standard residues and one-letter sequences."""

from bgbench.core.errors import BgbenchError

ONE_TO_THREE = {
    "A": "ALA", "R": "ARG", "N": "ASN", "D": "ASP", "C": "CYS", "Q": "GLN", "E": "GLU", "G": "GLY",
    "H": "HIS", "I": "ILE", "L": "LEU", "K": "LYS", "M": "MET", "F": "PHE", "P": "PRO", "S": "SER",
    "T": "THR", "W": "TRP", "Y": "TYR", "V": "VAL",
}  # fmt: skip
"""One-letter → three-letter residue codes."""

HEAVY_ATOMS = {
    "G": 4, "A": 5, "S": 6, "C": 6, "T": 7, "V": 7, "P": 7, "D": 8, "N": 8, "I": 8, "L": 8, "M": 8,
    "E": 9, "Q": 9, "K": 9, "H": 10, "F": 11, "R": 11, "Y": 12, "W": 14,
}  # fmt: skip
"""Atoms of a residue within a chain, hydrogens not counted."""


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


def heavy_atoms(sequence: str) -> int:
    """Atoms of a zwitterionic peptide, hydrogens not counted; 0 for a name that is no sequence."""
    known = [HEAVY_ATOMS.get(letter, 0) for letter in sequence]
    return sum(known) + 1 if known and all(known) else 0
