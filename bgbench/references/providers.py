"""Where references come from: a folder of one's own first, then what the package brings."""

import os
from pathlib import Path

from bgbench.core.errors import BgbenchError
from bgbench.core.resources import data_path
from bgbench.core.types import ForceFieldSpec, Reference, System
from bgbench.references.reweight import reweighted
from bgbench.references.store import read_reference

VARIABLE = "BGBENCH_REFERENCES"
USUAL = 310.0
"""K. References at this temperature are packaged."""


class MissingReference(BgbenchError):
    """No reference of a system is at hand."""


def own_folder() -> Path:
    """The user's references: `$BGBENCH_REFERENCES`, else `~/.cache/bgbench/references`."""
    return Path(os.environ.get(VARIABLE) or Path.home() / ".cache" / "bgbench" / "references")


def reference_path(sequence: str, temperature: float, forcefield: ForceFieldSpec | None = None) -> Path:
    """Path of a system's reference below a references folder: other targets than the usual have their own."""
    spec = forcefield or ForceFieldSpec()
    other = "" if spec == ForceFieldSpec() else f"{spec.name}-{spec.sha256[:8]}"
    hot = "" if temperature == USUAL else f"{temperature:g}K"
    return Path(other) / hot / f"{sequence}.npz"


def find_reference(system: System, suite_id: str = "dipeptides30@1") -> Reference:
    """The reference of a system: the user's own, else the packaged one; at another temperature than 310 K,
    else the one at 310 K reweighted.

    Raises:
        MissingReference: if none exists, naming the two commands that get one.
        BgbenchError: if the temperature is too far.
    """
    found = stored_reference(system)
    if found is not None:
        return found
    usual = stored_reference(system.at(USUAL))
    if usual is not None:
        return reweighted(usual, USUAL, system)
    raise MissingReference(missing([system.name], system.temperature, suite_id, system.forcefield))


def missing(
    names: list[str], temperature: float, suite_id: str, forcefield: ForceFieldSpec | None = None
) -> str:
    """What to do about systems without a reference."""
    hot = "" if temperature == USUAL else f" --temperature {temperature:g}"
    if forcefield not in (None, ForceFieldSpec()):
        return (
            f"no reference for {', '.join(names)} at {temperature:g} K with the force field "
            f"'{forcefield.name}' of {suite_id} is at hand; simulate with `bgbench data simulate SUITE.yaml "
            f"--engine softened{hot}`, SUITE.yaml being the file of that suite; --engine openmm where the "
            "batched energy does not know its terms"
        )
    published = f" or fetch with `bgbench data fetch many-peptides-md --suite {suite_id}`"
    return (
        f"no reference for {', '.join(names)} at {temperature:g} K is at hand; simulate with "
        f"`bgbench data simulate {' '.join(names)} --engine softened{hot}`{'' if hot else published}"
    )


def stored_reference(system: System) -> Reference | None:
    """The reference of exactly this system and temperature, where there is one."""
    name = reference_path(system.name, system.temperature, system.forcefield)
    for folder in (own_folder(), data_path("references")):
        path = folder / name
        if path.is_file():
            return read_reference(path, system)
    return None
