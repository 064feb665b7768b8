"""Where references are looked for: the user's own folder first, then the packaged ones."""

import os
from contextlib import suppress
from pathlib import Path

from bgbench.core.errors import BgbenchError
from bgbench.core.plugins import build_reference, build_system, plugins
from bgbench.core.resources import data_path
from bgbench.core.types import ForceFieldSpec, Reference, System
from bgbench.references.reweight import reweight_reference
from bgbench.references.store import read_reference
from bgbench.systems.named import has_own_reference, is_registered
from bgbench.systems.residues import parse_chain

VARIABLE = "BGBENCH_REFERENCES"
PUBLISHED = "dipeptides30@1"
"""A suite whose references are published."""

PACKAGED_TEMPERATURE = 310.0
"""K. References at this temperature are packaged."""


class MissingReference(BgbenchError):
    """There is no reference of a system, of the user's or packaged."""


def own_folder() -> Path:
    """The user's references: `$BGBENCH_REFERENCES`, else `~/.cache/bgbench/references`.

    Raises:
        BgbenchError: if neither the variable is set nor the user has a home folder.
    """
    try:
        named = os.environ.get(VARIABLE)
        return Path(named).expanduser() if named else Path.home() / ".cache" / "bgbench" / "references"
    except RuntimeError as error:
        raise BgbenchError(
            f"there is no home folder for references; name a folder with {VARIABLE}"
        ) from error


def reference_folders() -> list[Path]:
    """Where references are looked for: the user's own folder, if there is one, before the packaged ones.

    Raises:
        BgbenchError: if the folder that the user named does not exist.
    """
    packaged = data_path("references")
    if not os.environ.get(VARIABLE):
        with suppress(BgbenchError):
            return [own_folder(), packaged]
        return [packaged]
    own = own_folder()
    if not own.is_dir():
        raise BgbenchError(f"{VARIABLE}={own} is not a folder; make it, name another, or unset {VARIABLE}")
    return [own, packaged]


def reference_path(name: str, temperature: float, forcefield: ForceFieldSpec | None = None) -> Path:
    """Path of a system's reference below a references folder.

    >>> reference_path("AA", 310.0), reference_path("noble:argon", 310.0)
    (PosixPath('AA.npz'), PosixPath('noble_argon.npz'))

    Another force field than the default has a folder of its own, and so has another temperature than 310 K.
    """
    spec = forcefield or ForceFieldSpec()
    other = "" if spec == ForceFieldSpec() else f"{spec.name}-{spec.sha256[:8]}"
    hot = "" if temperature == PACKAGED_TEMPERATURE else f"{temperature:g}K"
    return Path(other) / hot / f"{name.replace(':', '_')}.npz"


def find_reference(system: System, suite_id: str = "") -> Reference:
    """The reference of a system: the user's own, else the packaged one.

    At another temperature than 310 K and without a reference there, it is the one of 310 K reweighted.

    A registered system may come with its reference, and then has no other.

    Args:
        system: name, force field and temperature that the reference is of.
        suite_id: the suite that an error names in the command that makes or fetches references.

    Returns:
        Frames `(n, atoms, 3)` nm with their energies in kT, TICA model and certificate.

    Raises:
        MissingReference: if none exists, naming the commands that make or fetch one.
        BgbenchError: if the one that exists is damaged, or its temperature is too far to reweight from.

    >>> from bgbench import peptide
    >>> reference = find_reference(peptide("AA"))
    >>> reference.system, reference.grade
    ('AA', 'gold')
    """
    if not isinstance(system, System):
        raise BgbenchError(f"system must be a bgbench.System, got {system!r}; write bgbench.peptide('AA')")
    if has_own_reference(system.name):
        return build_reference(system.name)
    reference = stored_reference(system)
    if reference is not None:
        return reference
    packaged = stored_reference(system.at(PACKAGED_TEMPERATURE))
    if packaged is not None:
        return reweight_reference(packaged, PACKAGED_TEMPERATURE, system)
    raise MissingReference(missing([system.name], system.temperature, suite_id, system.forcefield))


def missing(
    names: list[str], temperature: float, suite_id: str, forcefield: ForceFieldSpec | None = None
) -> str:
    """What to do about systems without a reference."""
    hot = "" if temperature == PACKAGED_TEMPERATURE else f" --temperature {temperature:g}"
    if forcefield is not None and forcefield != ForceFieldSpec():
        known = suite_id in plugins().suites
        only = " ".join(f"--only {name}" for name in names)
        of_suite = f" of {suite_id}" if suite_id else ""
        file, what = (suite_id, "") if known else ("SUITE.yaml", ", SUITE.yaml being the file of that suite")
        return (
            f"no reference for {', '.join(names)} at {temperature:g} K with the force field "
            f"'{forcefield.name}'{of_suite} is at hand; simulate with `bgbench data simulate {file} {only} "
            f"--engine softened{hot}`{what}; --engine openmm where the batched energy does not know its terms"
        )
    published = f" or fetch with `bgbench data fetch many-peptides-md --suite {suite_id or PUBLISHED}`"
    return (
        f"no reference for {', '.join(names)} at {temperature:g} K is at hand; simulate with "
        f"`bgbench data simulate {' '.join(names)} --engine softened{hot}`{'' if hot else published}"
    )


def is_at_hand(name: str, temperature: float, forcefield: ForceFieldSpec | None = None) -> bool:
    """Whether `find_reference` has a reference of this system; a peptide need not be built to know.

    Raises:
        BgbenchError: for a system that is neither registered nor a peptide.
    """
    if has_own_reference(name):
        return True
    name = name if ":" in name else parse_chain(name).name
    forcefield = build_system(name).forcefield if is_registered(name) else forcefield
    paths = {reference_path(name, t, forcefield) for t in (temperature, PACKAGED_TEMPERATURE)}
    return any((folder / path).is_file() for folder in reference_folders() for path in paths)


def stored_reference(system: System) -> Reference | None:
    """The reference of exactly this system and temperature, where there is one."""
    name = reference_path(system.name, system.temperature, system.forcefield)
    for folder in reference_folders():
        path = folder / name
        if path.is_file():
            return read_reference(path, system)
    return None
