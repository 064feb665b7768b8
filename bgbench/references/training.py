"""Which peptides may be trained on: any but those of the published test and validation lists."""

import itertools
import random
from collections.abc import Iterable
from functools import lru_cache
from typing import Any

from omegaconf import OmegaConf

from bgbench.core.errors import BgbenchError
from bgbench.core.resources import data_path
from bgbench.systems.residues import ONE_TO_THREE

POOL = 8_000
"""Random sequences that covering ones are chosen from."""


@lru_cache(maxsize=4)
def held_out(*parts: str) -> frozenset[str]:
    """Every sequence of the lists named, `test` or `validation`; without a name, of both."""
    lists: Any = OmegaConf.load(data_path("sequences.yaml"))
    chosen = parts or ("test", "validation")
    return frozenset(str(name) for part in chosen for names in lists[part].values() for name in names)


def training_sequences(length: int, count: int, seed: int = 0) -> list[str]:
    """`count` sequences of `length` residues in an order drawn from `seed`, none of them held out.

    Raises:
        BgbenchError: if there are not so many.
    """
    letters = sorted(ONE_TO_THREE)
    generator = random.Random(seed)
    if length <= 3:
        every = ["".join(word) for word in itertools.product(letters, repeat=length)]
        allowed = [name for name in every if name not in held_out()]
        generator.shuffle(allowed)
    else:
        drawn = dict.fromkeys("".join(generator.choices(letters, k=length)) for _ in range(2 * count))
        allowed = [name for name in drawn if name not in held_out()]
    if count > len(allowed):
        raise BgbenchError(f"there are {len(allowed)} training peptides of {length} residues, not {count}")
    return allowed[:count]


def links(sequence: str) -> set[tuple[str, str, bool, bool]]:
    """Neighbours, whether the left one is first, whether the right one is last: what a network must know to
    make the bond between them."""
    last = len(sequence) - 2
    return {(sequence[k], sequence[k + 1], k == 0, k == last) for k in range(last + 1)}


def covering_sequences(length: int, count: int, met: Iterable[str], seed: int = 0) -> list[str]:
    """`count` training sequences, each with the most links that neither `met` nor those before it have.

    Taken from at least `POOL` random ones (all there are, of two residues); ties go to the first drawn.

    Raises:
        BgbenchError: if there are not so many.
    """
    most = 20**length - sum(len(name) == length for name in held_out())
    taken = set(met)
    drawn = training_sequences(length, min(max(POOL, 2 * count), most), seed)
    left = {name: links(name) for name in drawn if name not in taken}
    if count > len(left):
        raise BgbenchError(f"{len(left)} training peptides of {length} residues are left, not {count}")
    known = set[tuple[str, str, bool, bool]]().union(*map(links, taken))
    chosen: list[str] = []
    while len(chosen) < count:
        chosen.append(max(left, key=lambda name: len(left[name] - known)))
        known |= left.pop(chosen[-1])
    return chosen


def refuse_held_out(sequences: list[str]) -> None:
    """Raise BgbenchError if any sequence is a test or validation peptide."""
    overlap = sorted(set(sequences) & held_out())
    if overlap:
        raise BgbenchError(f"{', '.join(overlap)}: test or validation peptides, never to be trained on")
