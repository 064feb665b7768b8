"""Typed suites, read from versioned YAML files (`name@version.yaml`) with OmegaConf."""

import re
from dataclasses import fields
from functools import lru_cache
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import TypeAdapter, ValidationError
from yaml import YAMLError

from bgbench.core.errors import BgbenchError
from bgbench.core.files import sha256_file
from bgbench.core.plugins import plugins
from bgbench.core.types import Suite


def load_suite(name: str, beside: Path | None = None) -> Suite:
    """The suite `name@version` (`name` alone is its latest version), or the one in a YAML file.

    Args:
        name: a registered name, or the path of a YAML file.
        beside: a run folder. Its own copy of the suite is used where it has one.

    Raises:
        BgbenchError: for an unknown name, listing the known ones, or a file that is not a suite.
    """
    own = beside / f"{name}.yaml" if beside is not None else None
    path = own if own is not None and own.is_file() else suite_path(name)
    return _read_once(path, path.stat().st_mtime_ns) if path.is_file() else read_suite(path)


@lru_cache(maxsize=64)
def _read_once(path: Path, changed: int) -> Suite:
    del changed
    return read_suite(path)


def suite_path(name: str) -> Path:
    """The file of a suite.

    Raises:
        BgbenchError: for an unknown name, listing the known ones.
    """
    if name.endswith((".yaml", ".yml")):
        return Path(name)
    registry = plugins().suites
    versions = [known for known in registry if known.partition("@")[0] == name]
    latest = max(versions, key=lambda known: int(known.partition("@")[2]), default=name)
    return registry[latest]


def read_suite(path: Path) -> Suite:
    """Read one suite file.

    Raises:
        BgbenchError: if it cannot be read, its name lacks a version, or a field is unknown or wrong.
    """
    match = re.fullmatch(r"(?P<name>[\w-]+)@(?P<version>[1-9]\d*)", path.stem)
    if match is None:
        raise BgbenchError(f"{path} is not named like a suite: call it name@1.yaml")
    try:
        content: Any = OmegaConf.to_container(OmegaConf.load(path), resolve=True)
        identity = {"name": match["name"], "version": int(match["version"]), "sha256": sha256_file(path)}
        _refuse_unknown(content)
        named = {"systems": _system_names(content["systems"])} if "systems" in content else {}
        suite = TypeAdapter(Suite).validate_python({**content, **named, **identity})
    except (
        OSError,
        OmegaConfBaseException,
        YAMLError,
        ValidationError,
        TypeError,
        ValueError,
        BgbenchError,
    ) as error:
        raise BgbenchError(f"{path} is not a suite: {_first_line(error)}") from error
    return suite


def _refuse_unknown(content: Any) -> None:
    known = {field.name for field in fields(Suite)} - {"name", "version", "sha256"}
    unknown = sorted(set(content) - known)
    if unknown:
        raise ValueError(f"unknown field {', '.join(unknown)}; known: {', '.join(sorted(known))}")


def _system_names(systems: Any) -> Any:
    """Names in the one spelling that everything else knows them by: sequences in upper case.

    Raises:
        ValueError: for a peptide that YAML takes for another value.
    """
    if not isinstance(systems, list):
        return systems
    for value in systems:
        if isinstance(value, bool):
            raise ValueError(
                f"systems: YAML reads {BOOLEANS[value]} as {str(value).lower()}; write it in quotes, "
                f'"{BOOLEANS[value]}"'
            )
    return [name.upper() if isinstance(name, str) and ":" not in name else name for name in systems]


BOOLEANS = {True: "YES", False: "FALSE"}
"""Peptides that YAML reads as truth values."""


def _first_line(error: Exception) -> str:
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        return f"{field}: {first['msg']}" if field else first["msg"].removeprefix("Value error, ")
    return str(error).splitlines()[0]
