"""References that were packaged and have been replaced: which they were, and what was wrong with them."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache

import yaml
from pydantic import Field, TypeAdapter

from bgbench.core.files import Strict
from bgbench.core.resources import data_path

LIST = "superseded.yaml"


class Replacement(Strict):
    """Packaged references that were replaced on one day, for one reason.

    Attributes:
        replaced: the day, as 2026-11-28.
        reason: what was wrong with the earlier ones.
        references: their hashes (`reference_sha256`), by system.
    """

    replaced: str = Field(pattern=r"^\d{4}-\d\d-\d\d$")
    reason: str = Field(min_length=1)
    references: dict[str, str]


@dataclass(frozen=True)
class Superseded:
    """A reference that was packaged before: of which system, until which day, and why no longer."""

    system: str
    replaced: str
    reason: str


@lru_cache(maxsize=1)
def superseded_references() -> Mapping[str, Superseded]:
    """The references that were packaged before, by the hash that plans and records name.

    >>> {item.system for item in superseded_references().values()} >= {"ARIP", "KKAP"}
    True
    """
    content = yaml.safe_load(data_path("references", LIST).read_text(encoding="utf-8"))
    replacements = TypeAdapter(list[Replacement]).validate_python(content)
    return {
        sha256: Superseded(system, item.replaced, item.reason)
        for item in replacements
        for system, sha256 in item.references.items()
    }


def is_superseded(system: str, sha256: str) -> bool:
    """Whether a hash is that of an earlier packaged reference of `system`.

    >>> is_superseded("AA", "3f2c")
    False
    """
    earlier = superseded_references().get(sha256)
    return earlier is not None and earlier.system == system


def describe_superseded(judged_on: Iterable[tuple[str, str]]) -> list[str]:
    """A sentence for each reason why references were replaced that results were judged by.

    Args:
        judged_on: systems with the hash of the reference that they were judged by.

    Returns:
        The sentences; none where all references are of today or unknown.

    >>> known = [(item.system, sha256) for sha256, item in superseded_references().items()][:2]
    >>> describe_superseded(known)
    ['the references of ARIP, CIPQ are those packaged until 2026-11-28 (trans isomer alone before proline, \
made before that bond was sampled)']
    >>> describe_superseded([("AA", "3f2c")])
    []
    """
    known = superseded_references()
    systems: dict[tuple[str, str], list[str]] = {}
    for system, sha256 in judged_on:
        if is_superseded(system, sha256):
            systems.setdefault((known[sha256].replaced, known[sha256].reason), []).append(system)
    return [
        f"the reference{'s' if len(names) > 1 else ''} of {', '.join(names)} "
        f"{'are those' if len(names) > 1 else 'is the one'} packaged until {replaced} ({reason})"
        for (replaced, reason), names in systems.items()
    ]
