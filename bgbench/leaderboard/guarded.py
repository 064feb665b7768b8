"""JSON from strangers: small, shallow, finite, without duplicate keys, without markup in any string."""

import json
import re
import unicodedata
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from bgbench.leaderboard.problems import refusal
from bgbench.leaderboard.rules import JSON_BYTES, JSON_DEPTH, STRING_LENGTH

MARKUP = re.compile(r"<\s*[a-zA-Z!/?]|javascript\s*:|&#", re.IGNORECASE)
TAGS = re.compile(
    r"<\s*(!|/|\?|script|style|img|svg|iframe|object|embed|link|meta|base|form|input|a\s|a>|b>|i>|p>|div|body|"
    r"html|video|audio)|javascript\s*:|&#",
    re.IGNORECASE,
)
"""Of error texts and messages of laws, which may quote `<class …>`; pages escape every string."""

PROSE = ("error", "message", "notes", "warnings", "failed_diagnostics")
"""Fields whose text may have several lines; elsewhere a second line could pass for a line of a log."""

ODD = ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")
"""Categories of characters that no field holds: control, format, surrogates, private, none, line ends."""

DIGITS = 25
Model = TypeVar("Model", bound=BaseModel)


def read_model(path: Path, model: type[Model]) -> Model:
    """A JSON file as a strict model.

    Raises:
        Refused: with the first thing wrong.
    """
    value = read_json(path)
    try:
        return model.model_validate(value)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "file"
        raise refusal("schema", path.name, f"{where}: {first['msg']}") from error


def read_json(path: Path) -> Any:
    """The value of a JSON file.

    Raises:
        Refused: before reading if it is too large; else with the first thing wrong.
    """
    size = path.stat().st_size
    if size > JSON_BYTES:
        raise refusal("size", path.name, f"{size:,} bytes of JSON; {JSON_BYTES:,} at most")
    name = path.name

    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        values = dict(items)
        if len(values) < len(items):
            twice = Counter(key for key, _ in items).most_common(1)[0][0]
            raise refusal("duplicate", name, f"the key {twice[:40]!r} stands twice in one object")
        return values

    def constant(word: str) -> Any:
        raise refusal("nonfinite", name, f"{word} is not a number")

    def integer(word: str) -> int:
        if len(word) > DIGITS:
            raise refusal("json", name, f"an integer of {len(word):,} digits")
        return int(word)

    def number(word: str) -> float:
        value = float(word)
        if value in (float("inf"), -float("inf")):
            raise refusal("nonfinite", name, f"{word[:40]} is beyond every finite number")
        return value

    try:
        text = path.read_bytes().decode("utf-8")
        value = json.loads(
            text, object_pairs_hook=pairs, parse_constant=constant, parse_int=integer, parse_float=number
        )
    except RecursionError as error:
        raise refusal("json", name, f"nested deeper than {JSON_DEPTH} levels") from error
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise refusal("json", name, f"not JSON: {error}") from error
    refuse_strings(value, name)
    return value


def refuse_strings(value: Any, where: str, key: str = "", depth: int = 0) -> None:
    """Raise Refused for a string, key or depth that no file of the board may have."""
    if depth > JSON_DEPTH:
        raise refusal("json", where, f"nested deeper than {JSON_DEPTH} levels")
    if isinstance(value, str):
        refuse_text(value, where, key)
    elif isinstance(value, Mapping):
        for name, item in value.items():
            refuse_text(name, where, "key")
            refuse_strings(item, where, name, depth + 1)
    elif isinstance(value, list):
        for item in value:
            refuse_strings(item, where, key, depth + 1)


def refuse_text(text: str, where: str, key: str) -> None:
    """Raise Refused for markup, control or direction characters, or a string too long."""
    if len(text) > STRING_LENGTH:
        raise refusal("size", where, f"{key}: a string of {len(text):,} characters")
    markup = (TAGS if key in ("error", "message") else MARKUP).search(text)
    if markup:
        raise refusal("markup", where, f"{key}: {markup[0]!r} looks like markup")
    if text.isprintable():
        return
    allowed = "\n\t" if key in PROSE else ""
    odd = next((c for c in text if unicodedata.category(c) in ODD and c not in allowed), None)
    if odd is not None:
        raise refusal("markup", where, f"{key}: the control character U+{ord(odd):04X}")
