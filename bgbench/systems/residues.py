"""The 20 standard residues, one-letter sequences, and the caps that can close their ends."""

from dataclasses import dataclass

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

START_CAP, END_CAP = "ACE", "NME"
"""Acetyl before the first residue, N-methylamide behind the last: they take the place of charged ends."""

CAP_ATOMS = {START_CAP: 3, END_CAP: 2}
"""Atoms of a cap, hydrogens not counted."""


@dataclass(frozen=True)
class Chain:
    """A peptide by its residues and ends.

    Attributes:
        sequence: one-letter codes, in upper case.
        start_cap: whether ACE closes its N terminus, else it is charged.
        end_cap: whether NME closes its C terminus, else it is charged.

    >>> Chain("A", start_cap=True, end_cap=True).name
    'ACE-A-NME'
    """

    sequence: str
    start_cap: bool = False
    end_cap: bool = False

    @property
    def name(self) -> str:
        """The one spelling of its name."""
        caps = ([START_CAP] if self.start_cap else [], [END_CAP] if self.end_cap else [])
        return "-".join([*caps[0], self.sequence, *caps[1]])


def parse_chain(name: str) -> Chain:
    """The peptide of a name: its one-letter sequence, with `ACE-` before it and `-NME` behind it for caps.

    Raises:
        BgbenchError: if it holds a letter that is no standard residue or a cap that is not known, or has one
            residue and no cap.

    >>> parse_chain("Ace-AAA-Nme").name, parse_chain("gs").name, parse_chain("ACE").start_cap
    ('ACE-AAA-NME', 'GS', False)
    """
    words = name.strip().upper().split("-")
    # ACE alone is the peptide of alanine, cysteine and glutamate.
    start_cap, end_cap = (len(words) > 1 and words[k] == cap for k, cap in ((0, START_CAP), (-1, END_CAP)))
    middle = words[start_cap : len(words) - end_cap]
    if len(middle) != 1:
        raise BgbenchError(
            f"peptide '{name}' is not one sequence with the caps {START_CAP} and {END_CAP} at its ends; "
            f"write it as AAA, or with caps as {START_CAP}-AAA-{END_CAP}"
        )
    capped = start_cap or end_cap
    return Chain(parse_sequence(middle[0], fewest=1 if capped else 2), start_cap, end_cap)


def parse_sequence(sequence: str, fewest: int = 2) -> str:
    """The sequence in upper case.

    Raises:
        BgbenchError: if it is shorter than `fewest` residues or holds a non-standard letter.
    """
    letters = sequence.strip().upper()
    strange = sorted(set(letters) - set(ONE_TO_THREE))
    if strange:
        raise BgbenchError(
            f"peptide '{sequence}' holds {', '.join(repr(s) for s in strange)}, not one of the 20 standard "
            f"residues ({''.join(sorted(ONE_TO_THREE))})"
        )
    if len(letters) < fewest:
        raise BgbenchError(
            f"peptide '{sequence}' has {len(letters)} residue(s); at least {fewest} are needed, or caps: "
            f"{START_CAP}-A-{END_CAP}"
        )
    return letters


def heavy_atoms(name: str) -> int:
    """Atoms of a peptide with charged ends or caps, hydrogens not counted; 0 for a name that is no peptide.

    >>> heavy_atoms("AA"), heavy_atoms("ACE-A-NME"), heavy_atoms("analytic:harmonic")
    (11, 10, 0)
    """
    try:
        chain = parse_chain(name)
    except BgbenchError:
        return 0
    ends = CAP_ATOMS[START_CAP] * chain.start_cap + (CAP_ATOMS[END_CAP] if chain.end_cap else 1)
    return sum(HEAVY_ATOMS[letter] for letter in chain.sequence) + ends
