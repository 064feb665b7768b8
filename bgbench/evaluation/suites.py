"""Suites: named, versioned lists of systems and the terms they are judged on, read from YAML files."""

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

from bgbench.core.errors import BgbenchError
from bgbench.core.plugins import plugins
from bgbench.core.types import Structure, Suite
from bgbench.evaluation.versioned import find_file, read_file
from bgbench.systems.structures import is_structure, structure_file


def load_suite(name: str, beside: Path | None = None) -> Suite:
    """The suite `name@version` (`name` alone is its latest version), or the one in a YAML file.

    Args:
        name: a registered name, or the path of a YAML file.
        beside: a run folder. Its own copy of the suite is used where it has one.

    Raises:
        BgbenchError: for an unknown name, listing the known ones, or a file that is not a suite.
    """
    own = suite_copy(beside, name) if beside is not None else None
    return read_suite(own if own is not None and own.is_file() else suite_path(name))


def suite_path(name: str) -> Path:
    """The file of a suite.

    Raises:
        BgbenchError: for an unknown name, listing the known ones.
    """
    return find_file(name, plugins().suites)


def suite_copy(folder: Path, suite_id: str) -> Path:
    """Where the run in `folder` has its own copy of a suite."""
    return folder / f"{suite_id}.yaml"


def read_suite(path: Path) -> Suite:
    """Read one suite file, and the PDB files beside it that it names.

    Raises:
        BgbenchError: if it cannot be read, its name lacks a version, a field is unknown or wrong, or a PDB
            file is not there.
    """
    suite = read_file(path, Suite, "suite", _with_system_names)
    structures = tuple(_read_structure(path, name) for name in suite.systems if is_structure(name))
    if not structures:
        return suite
    parts = [suite.sha256, *(hashlib.sha256(one.text.encode()).hexdigest() for one in structures)]
    return replace(suite, structures=structures, sha256=hashlib.sha256(" ".join(parts).encode()).hexdigest())


def _read_structure(suite: Path, name: str) -> Structure:
    file = suite.parent / structure_file(name)
    try:
        return Structure(name, file.read_bytes().decode(errors="replace"))
    except OSError as error:
        raise BgbenchError(
            f"{suite} lists {name}, and {file} cannot be read ({error.strerror}); put it there"
        ) from error


def suite_files(suite: Path) -> dict[str, Path]:
    """The files that belong to a suite's besides it, by the names that they have beside it.

    Raises:
        BgbenchError: if the suite cannot be read.
    """
    names = [structure_file(one.name) for one in read_suite(suite).structures]
    return {name: suite.parent / name for name in names}


def _with_system_names(content: dict[str, Any]) -> dict[str, Any]:
    """Names in the one spelling that everything else knows them by: no blanks around them, sequences in upper
    case.

    Raises:
        ValueError: for a peptide that YAML takes for another value.
    """
    systems, terms = content.get("systems"), content.get("terms")
    changed = dict(content)
    if isinstance(systems, list):
        changed["systems"] = _spelled(systems)
    if isinstance(terms, list):
        changed["terms"] = [
            {**item, "systems": _spelled(item["systems"])}
            if isinstance(item, dict) and isinstance(item.get("systems"), list)
            else item
            for item in terms
        ]
    return changed


def _spelled(systems: list[Any]) -> list[Any]:
    for value in systems:
        if isinstance(value, bool):
            raise ValueError(
                f"systems: YAML reads {BOOLEANS[value]} as {str(value).lower()}; write it in quotes, "
                f'"{BOOLEANS[value]}"'
            )
    return [spell(name) if isinstance(name, str) else name for name in systems]


def spell(name: str) -> str:
    """The one spelling of a system's name.

    >>> spell(" aa"), spell("analytic:harmonic")
    ('AA', 'analytic:harmonic')
    """
    bare = name.strip()
    return bare if ":" in bare else bare.upper()


BOOLEANS = {True: "YES", False: "FALSE"}
"""Peptides that YAML reads as truth values."""
