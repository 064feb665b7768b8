"""Frozen terms in YAML files: `NAME@VERSION.yaml`, read with OmegaConf into frozen dataclasses."""

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar, get_args, get_type_hints

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import TypeAdapter, ValidationError
from yaml import MarkedYAMLError, YAMLError

from bgbench.core.errors import BgbenchError
from bgbench.core.files import sha256_file
from bgbench.core.options import describe_known
from bgbench.core.plugins import Registry

T = TypeVar("T")

IDENTITY = ("name", "version", "sha256", "structures")
"""Fields that the file's name, its hash and files beside it fill in."""

CACHED = 64
"""Files whose contents are remembered."""


def find_file(name: str, registry: Registry[Path]) -> Path:
    """The file called `name`: `NAME@VERSION`, `NAME` alone for its latest version, or the path of a file.

    Raises:
        BgbenchError: for an unknown name, listing the known ones.
    """
    if is_path(name):
        return Path(name)
    versions = [known for known in registry if known.partition("@")[0] == name]
    latest = max(versions, key=lambda known: int(known.partition("@")[2]), default=name)
    return registry[latest]


def is_path(name: str) -> bool:
    """Whether `name` is the path of a YAML file.

    >>> is_path("mine@1.yaml"), is_path("MINE@1.YAML"), is_path("bgbench@1")
    (True, True, False)
    """
    return name.lower().endswith((".yaml", ".yml"))


Prepare = Callable[[dict[str, Any]], dict[str, Any]]
"""Changes the content of a file before it is checked."""


def as_it_is(content: dict[str, Any]) -> dict[str, Any]:
    """The content."""
    return content


def read_file(path: Path, kind: Callable[..., T], what: str, prepare: Prepare = as_it_is) -> T:
    """Read one file into the frozen dataclass `kind`, strictly.

    A number in quotes is no number, a number that YAML reads as another one than it looks like is refused,
    and nothing is filled in from elsewhere.

    Args:
        path: the file, `NAME@VERSION.yaml`.
        kind: a dataclass with the fields `name`, `version` and `sha256`, which the file must not hold.
        what: what the file is, for messages: "suite".
        prepare: changes the content before it is checked.

    Raises:
        BgbenchError: if it cannot be read, its name lacks a version, or a field is unknown or wrong.
    """
    try:
        changed = path.stat().st_mtime_ns
    except OSError:
        changed = 0
    return _read_once(path, changed, kind, what, prepare)


@lru_cache(maxsize=CACHED)
def _read_once(path: Path, changed: int, kind: Callable[..., T], what: str, prepare: Prepare) -> T:
    del changed
    match = re.fullmatch(r"(?P<name>[\w.-]+)@(?P<version>[1-9]\d*)", path.stem)
    if match is None:
        raise BgbenchError(f"{path} is not named like a {what}: call it name@1.yaml")
    try:
        _refuse_unclear(path.read_text(encoding="utf-8-sig"))
        content: Any = OmegaConf.to_container(OmegaConf.load(path), resolve=False)
        _refuse_unknown(content, kind)
        identity = {"name": match["name"], "version": int(match["version"]), "sha256": sha256_file(path)}
        text = json.dumps({**prepare(content), **identity})
        adapter: TypeAdapter[T] = TypeAdapter(kind)  # type: ignore[arg-type]
        return adapter.validate_json(text, strict=True)
    except (
        OSError,
        OmegaConfBaseException,
        YAMLError,
        ValidationError,
        TypeError,
        ValueError,
        BgbenchError,
    ) as error:
        raise BgbenchError(f"{path} is not a {what}: {_first_line(error)}") from error


WHOLE_NUMBER = r"[-+]?(0|[1-9][0-9]*(_[0-9]+)*)"
"""A whole number that everybody reads as the same one."""


def _refuse_unclear(text: str) -> None:
    """Raise ValueError for a number that YAML reads as another one than it looks like, and for `${…}`.

    YAML reads `0100` as 64 and `1:40` as 100; `${…}` would make what the file says depend on something
    outside it.
    """
    loader = yaml.SafeLoader(text)
    try:
        root = loader.get_single_node()
    finally:
        loader.dispose()
    for field, node in _scalars(root):
        if "${" in node.value:
            raise ValueError(f"{field}: '{node.value}' refers to another value; write the value itself")
        is_int, is_float = (node.tag == f"tag:yaml.org,2002:{kind}" for kind in ("int", "float"))
        if (is_int and not re.fullmatch(WHOLE_NUMBER, node.value)) or (is_float and ":" in node.value):
            raise ValueError(
                f"{field}: YAML has a reading of its own for '{node.value}'; write the number in plain "
                "decimal digits, such as 100"
            )


def _scalars(
    node: yaml.Node | None, field: str = "", above: tuple[yaml.Node, ...] = ()
) -> Iterator[tuple[str, yaml.ScalarNode]]:
    """The single values below a node, and keys of its mappings, each with the field that it is part of.

    Raises:
        ValueError: for a node that holds itself, as an anchor can make one.
    """
    if node in above:
        raise ValueError(f"{field}: it holds itself; write the values themselves")
    if isinstance(node, yaml.ScalarNode):
        yield field or "file", node
    elif isinstance(node, yaml.SequenceNode):
        for item in node.value:
            yield from _scalars(item, field, (*above, node))
    elif isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            name = f"{field}.{key.value}" if field else str(key.value)
            yield from _scalars(key, name, (*above, node))
            yield from _scalars(value, name, (*above, node))


def _refuse_unknown(content: Any, kind: Any) -> None:
    """Raise ValueError for a field that the file, or a part of it, must not have."""
    if not isinstance(content, Mapping):
        raise ValueError("it must map fields to values, as `budget: 1000` does")
    for name in IDENTITY:
        if name in content:
            raise ValueError(f"it must not say its {name}, which is that of the file")
    _refuse_unknown_fields(content, kind, IDENTITY)


def _refuse_unknown_fields(
    content: Mapping[str, Any], kind: Any, hidden: Sequence[str] = (), path: str = ""
) -> None:
    known, hints = [field.name for field in fields(kind) if field.name not in hidden], get_type_hints(kind)
    for name, value in content.items():
        if name not in known:
            fields_here = [f"{path}{field}" for field in sorted(known)]
            raise ValueError(f"unknown field '{path}{name}'{describe_known(f'{path}{name}', fields_here)}")
        # Of `A`, of `A | None` and of `tuple[A, ...]`.
        inner = next((kind for kind in (hints[name], *get_args(hints[name])) if is_dataclass(kind)), None)
        parts = (
            {f"{name}.{k}": item for k, item in enumerate(value)}
            if isinstance(value, list)
            else {name: value}
        )
        for place, part in parts.items():
            if isinstance(part, Mapping) and inner is not None:
                _refuse_unknown_fields(part, inner, path=f"{path}{place}.")


def _first_line(error: Exception) -> str:
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        message = first["msg"].removeprefix("Value error, ")
        if first["type"] == "literal_error":
            known = re.findall("'([^']*)'", first["ctx"]["expected"])
            message = f"unknown word '{first['input']}'{describe_known(str(first['input']), known)}"
        return f"{field}: {message}" if field else message
    if isinstance(error, MarkedYAMLError):
        return _what_is_no_yaml(error)
    return str(error).splitlines()[0]


def _what_is_no_yaml(error: MarkedYAMLError) -> str:
    """What a YAML parser stumbled over, in which line, and what to do about it."""
    problem = str(error.problem or error.context)
    line = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
    if "duplicate key" in problem:
        advice = "each field stands once; leave one of them out"
    elif r"\t" in problem:
        advice = "indent with spaces instead of tabs"
    elif "expected a single document" in str(error):
        problem, advice = "it holds several documents", "leave out `---` and what stands behind it"
    else:
        advice = "write fields as `budget: 1000` and lists as `[AA, GS]`, and quote what is neither"
    return f"{line}{problem}; {advice}"
