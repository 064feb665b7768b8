"""Did the sampler train on the test system? Stamped from what its card declares."""

import re
import unicodedata
from typing import Literal

from bgbench.core.types import Card
from bgbench.systems.residues import ONE_TO_THREE
from bgbench.systems.topology import THREE_TO_ONE

Stamp = Literal["unseen", "similar", "seen", "unknown"]

CAPS = ("ACE", "NME", "NMA", "NH2")
"""What closes the ends of a chain and is no residue that a sampler learns."""


def leakage(card: Card, name: str, sequence: str = "") -> Stamp:
    """Whether a sampler was trained on the test system, by what its card declares.

    Args:
        card: of the sampler.
        name: of the test system: the sequence of a peptide.
        sequence: of a registered peptide, whose name is another.

    Returns:
        `seen`: the sequence is in the training list. `similar`: a training sequence of the same length
        differs in one residue out of four or more, or a longer one contains the whole test sequence.
        `unknown`: the sampler has parameters or was not run here, and has no list, or nothing of this is so
        but the list holds a name that is no sequence. `unseen` otherwise. Sequences are compared however they
        are spelt, see `sequences_in`.

    >>> card = Card("mine", training_sequences=("AAAA", "GGGGG"))
    >>> [leakage(card, sequence) for sequence in ("AAAA", "AAAG", "GGG", "PPPP")]
    ['seen', 'similar', 'similar', 'unseen']
    >>> leakage(Card("mine", training_sequences=("ALA-ALA-ALA-ALA", "chignolin")), "PPPP")
    'unknown'
    """
    if not card.training_sequences:
        return "unknown" if card.n_parameters or not card.run_here else "unseen"
    tested = sequences_in(name) | sequences_in(sequence)
    names = [sequences_in(listed) for listed in card.training_sequences]
    trained_on = frozenset[str]().union(*names)
    if tested & trained_on:
        return "seen"
    if any(_similar(one, other) for one in tested for other in trained_on):
        return "similar"
    return "unseen" if all(names) else "unknown"


def sequences_in(name: str) -> frozenset[str]:
    """The sequences that a name in a training list may stand for; none where it is the name of no sequence.

    One-letter sequences in either case, the names of their files, with folders, endings and temperatures, and
    chains of separated one-letter or three-letter residues, with caps. A name that can be read in two ways
    stands for both. The name of a registered system, which has a colon, stands for itself.

    >>> names = ("aa", "train/AA_310K.npz", "ACE-Ala-Gly-NME", "HIE-Ala", "A-A", "ACE-A-NME", "chignolin")
    >>> [sorted(sequences_in(name)) for name in names]
    [['AA'], ['AA'], ['AG'], ['HA'], ['AA'], ['A'], []]
    """
    text = unicodedata.normalize("NFKC", name).strip()
    if ":" in text:
        return frozenset({text, *_one_letter(re.split(r"\W+", text), capitals=True)})
    file = re.split(r"[/\\]", text)[-1].lstrip("._")
    chain = _chain(re.split(r"[\W_]+", file))
    if chain:
        return frozenset({chain})
    stem = file.partition(".")[0]
    words = re.split(r"[\W_]+", stem)
    bare = [word for word in words if word.upper() not in CAPS]
    return _one_letter(bare, capitals=True) or _one_letter(bare) or _one_letter(words)


def _chain(words: list[str]) -> str:
    """The sequence of residues that stand apart, or together as `AlaGly`; empty where it is no such chain."""
    if len(words) == 1 and re.fullmatch(r"([A-Z][a-z]{2}){2,}", words[0]):
        words = re.findall("...", words[0])
    upper = [word.upper() for word in words if word]
    while upper and upper[-1] not in THREE_TO_ONE and len(upper[-1]) > 1 and upper[-1] not in CAPS:
        upper.pop()  # `310K`, `npz`
    capped = bool(set(upper) & set(CAPS))
    while upper and upper[0] in CAPS:
        del upper[0]
    while upper and upper[-1] in CAPS:
        upper.pop()
    letters = [THREE_TO_ONE.get(word, word) for word in upper]
    whole = (
        (len(letters) > 1 or capped) and bool(letters) and all(letter in ONE_TO_THREE for letter in letters)
    )
    return "".join(letters) if whole else ""


def _one_letter(words: list[str], *, capitals: bool = False) -> frozenset[str]:
    """The words, where all of them but those with digits are one-letter sequences, else none.

    With `capitals`, words that are not in capitals do not count.
    """
    counted = [word for word in words if word.isalpha() and (word.isupper() or not capitals)]
    sequences = [word.upper() for word in counted if len(word) > 1 and set(word.upper()) <= set(ONE_TO_THREE)]
    return frozenset(sequences) if len(sequences) == len(counted) else frozenset()


def _similar(sequence: str, other: str) -> bool:
    if len(other) > len(sequence):
        return sequence in other
    differing = sum(a != b for a, b in zip(sequence, other, strict=False))
    return len(other) == len(sequence) >= 4 and differing <= 1
