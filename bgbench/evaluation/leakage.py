"""Did the sampler train on the test system? Stamped from what its card declares."""

from typing import Literal

from bgbench.core.types import Card

Stamp = Literal["unseen", "similar", "seen", "unknown"]


def leakage(card: Card, sequence: str) -> Stamp:
    """Whether a sampler was trained on the test sequence, by what its card declares.

    Returns:
        `seen`: the sequence is in the training list. `similar`: a training sequence of the same length
        differs in one residue out of four or more, or a longer one contains the whole test sequence.
        `unknown`: the sampler has parameters but no list. `unseen` otherwise. Sequences are compared as
        peptides: lower case and what a file's name adds behind a dash (`AA-310K`) change nothing.

    >>> card = Card("mine", training_sequences=("AAAA", "GGGGG"))
    >>> [leakage(card, sequence) for sequence in ("AAAA", "AAAG", "GGG", "PPPP")]
    ['seen', 'similar', 'similar', 'unseen']
    """
    if not card.training_sequences:
        return "unknown" if card.n_parameters else "unseen"
    tested, trained_on = _peptide(sequence), {_peptide(other) for other in card.training_sequences}
    if tested in trained_on:
        return "seen"
    if any(_similar(tested, other) for other in trained_on):
        return "similar"
    return "unseen"


def _peptide(name: str) -> str:
    """The sequence that a name stands for; names of analytic systems are left as they are."""
    return name if ":" in name else name.partition("-")[0].strip().upper()


def _similar(sequence: str, other: str) -> bool:
    if len(other) > len(sequence):
        return sequence in other
    differing = sum(a != b for a, b in zip(sequence, other, strict=False))
    return len(other) == len(sequence) >= 4 and differing <= 1
