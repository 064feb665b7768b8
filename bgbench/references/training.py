"""Which peptides may be trained on: any but those of the published test and validation lists."""

import itertools
import random
from functools import lru_cache
from typing import Any

from omegaconf import OmegaConf

from bgbench.chemistry import ONE_TO_THREE
from bgbench.errors import BgbenchError
from bgbench.resources import data_path


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


def refuse_held_out(sequences: list[str]) -> None:
    """Raise BgbenchError if any sequence is a test or validation peptide."""
    overlap = sorted(set(sequences) & held_out())
    if overlap:
        raise BgbenchError(f"{', '.join(overlap)}: test or validation peptides, never to be trained on")
