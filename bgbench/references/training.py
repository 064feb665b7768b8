"""Which peptides samplers may be trained on: any but those of the published test and validation lists and the
long ones of the suite xl10."""

import itertools
import random
from collections.abc import Iterable
from functools import lru_cache
from typing import Any

from omegaconf import OmegaConf

from bgbench.core.errors import BgbenchError
from bgbench.core.options import describe_known
from bgbench.core.resources import data_path
from bgbench.systems.residues import ONE_TO_THREE

PARTS = ("test", "validation", "long")
"""Lists of sequences that are held out of training."""

POOL = 8_000
"""Number of random sequences that covering ones are selected from."""


@lru_cache(maxsize=4)
def held_out(*parts: str) -> frozenset[str]:
    """Sequences that must not be trained on: those of the published lists (arXiv 2508.18175) and of xl10.

    Args:
        parts: of `"test"`, `"validation"` and `"long"` those that are wanted; without any, all.

    Returns:
        The sequences.

    Raises:
        BgbenchError: for the name of another list.

    >>> "AA" in held_out("test"), "AA" in held_out("validation")
    (True, False)
    """
    lists: Any = OmegaConf.load(data_path("sequences.yaml"))
    unknown = sorted(set(parts) - set(PARTS))
    if unknown:
        raise BgbenchError(f"unknown list '{unknown[0]}' of sequences{describe_known(unknown[0], PARTS)}")
    names_of_parts = [names for part in parts or PARTS for names in lists[part].values()]
    return frozenset(str(name) for names in names_of_parts for name in names)


def training_sequences(length: int, count: int, seed: int = 0) -> list[str]:
    """`count` sequences of `length` residues in an order drawn from `seed`, none of them held out.

    Raises:
        BgbenchError: if there are fewer.
    """
    letters = sorted(ONE_TO_THREE)
    generator = random.Random(seed)
    if length <= 3:
        every = ["".join(word) for word in itertools.product(letters, repeat=length)]
        allowed = [name for name in every if name not in held_out()]
        generator.shuffle(allowed)
    else:
        random_names = dict.fromkeys("".join(generator.choices(letters, k=length)) for _ in range(2 * count))
        allowed = [name for name in random_names if name not in held_out()]
    if count > len(allowed):
        raise BgbenchError(f"there are {len(allowed)} training peptides of {length} residues, not {count}")
    return allowed[:count]


def links(sequence: str) -> set[tuple[str, str, bool, bool]]:
    """The pairs of neighbours of a sequence: what a network must know to make the bond between them.

    Of each: left residue, right residue, whether the left one is first, whether the right one is last.
    """
    last = len(sequence) - 2
    return {(sequence[k], sequence[k + 1], k == 0, k == last) for k in range(last + 1)}


def covering_sequences(length: int, count: int, known: Iterable[str], seed: int = 0) -> list[str]:
    """`count` training sequences, each with the most links that neither `known` nor those before it have.

    They are selected from at least `POOL` random sequences (of two residues, from all); of equals, the first.

    Raises:
        BgbenchError: if there are fewer.
    """
    most = 20**length - sum(len(name) == length for name in held_out())
    names = set(known)
    candidates = training_sequences(length, min(max(POOL, 2 * count), most), seed)
    left = {name: links(name) for name in candidates if name not in names}
    if count > len(left):
        raise BgbenchError(f"{len(left)} training peptides of {length} residues are left, not {count}")
    covered = set[tuple[str, str, bool, bool]]().union(*map(links, names))
    sequences: list[str] = []
    while len(sequences) < count:
        sequences.append(max(left, key=lambda name: len(left[name] - covered)))
        covered |= left.pop(sequences[-1])
    return sequences


def refuse_held_out(sequences: list[str]) -> None:
    """Raise BgbenchError if any sequence is a test or validation peptide."""
    overlap = sorted(set(sequences) & held_out())
    if overlap:
        raise BgbenchError(f"{', '.join(overlap)}: test or validation peptides, never to be trained on")
