"""Names that can be taken for one another: what looks alike, and words of two alphabets."""

import re
import unicodedata
from collections.abc import Iterable

LOOKS_LIKE = (("rn", "m"), ("vv", "w"), ("cl", "d"), ("0", "o"), ("1", "l"), ("i", "l"), ("5", "s"))
"""Letters and digits that are read for others in many typefaces."""

ALPHABETS = ("LATIN", "CYRILLIC", "GREEK", "ARMENIAN", "CHEROKEE", "COPTIC")
"""Alphabets that share the forms of letters."""


def skeleton(name: str) -> str:
    """What a name of ASCII characters looks like: two names of one skeleton can be taken for each other.

    Numbers stay what they are: `mine-1000` and `mine-10000` are different names.

    >>> skeleton("Pri0r_x"), skeleton("prior-x"), skeleton("mine-100") == skeleton("mine-1000")
    ('prlor-x', 'prlor-x', False)
    """
    words = re.split(r"[._-]+", name.lower().strip("._-"))
    return "-".join(word if word.isdigit() else _looks(word) for word in words)


def _looks(word: str) -> str:
    for one, other in LOOKS_LIKE:
        word = word.replace(one, other)
    return word


def alike(name: str, names: Iterable[str]) -> str | None:
    """The first of `names`, other than `name` itself, that `name` can be taken for; None without one.

    >>> alike("pr1or", ["verse", "prior"])
    'prior'
    """
    return next((other for other in names if other != name and skeleton(other) == skeleton(name)), None)


def of_two_alphabets(text: str) -> str | None:
    """The first word of `text` whose letters are of two alphabets; None without one.

    >>> of_two_alphabets("the kT of β-sheets"), of_two_alphabets("ver\\u0455e 2") is None
    (None, False)
    """
    for word in re.findall(r"[^\W\d_]+", text):
        names = (unicodedata.name(letter, "") for letter in word)
        if len({name.split()[0] for name in names if name.startswith(ALPHABETS)}) > 1:
            return str(word)
    return None
