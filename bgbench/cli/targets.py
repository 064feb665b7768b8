"""The systems that `bgbench data` commands name. A suite stands for its systems, at its temperature and with
its force field."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bgbench.core.errors import BgbenchError
from bgbench.core.options import nearest_word

if TYPE_CHECKING:
    from bgbench.core.types import ForceFieldSpec, Structure, System


@dataclass(frozen=True)
class Target:
    """One system by name, its `temperature` in K and its force field; default: the usual one."""

    name: str
    temperature: float
    forcefield: "ForceFieldSpec"
    structure: "Structure | None" = None

    @property
    def path(self) -> Path:
        """Of its reference, below a references folder."""
        from bgbench.references.providers import reference_path

        return reference_path(self.name, self.temperature, self.forcefield)

    def system(self) -> "System":
        """The system, with a start structure."""
        from bgbench.systems.named import find_system
        from bgbench.systems.structures import build_structure

        if self.structure is not None:
            return build_structure(self.structure, self.temperature, self.forcefield)
        return find_system(self.name, self.temperature, self.forcefield)


def named_target(word: str, temperature: float) -> Target:
    """The target that a sequence or the name of a registered system stands for.

    Raises:
        BgbenchError: for an unknown system or residue.
    """
    from bgbench.core.plugins import build_system, plugins
    from bgbench.core.types import ForceFieldSpec
    from bgbench.systems.named import is_registered
    from bgbench.systems.residues import parse_chain
    from bgbench.systems.structures import is_structure

    if is_structure(word):
        raise BgbenchError(f"{word}: name the file of the suite that lists it, with --only {word}")
    if is_registered(word):
        return Target(word, temperature, build_system(word).forcefield or ForceFieldSpec())
    try:
        return Target(parse_chain(word).name, temperature, ForceFieldSpec())
    except BgbenchError as error:
        nearest = nearest_word(word, plugins().suites)
        raise BgbenchError(f"{error}; did you mean '{nearest}'?" if nearest else str(error)) from error


def targets_of(words: list[str], temperature: float | None = None) -> list[Target]:
    """The targets that `words` name, each once. A suite becomes its systems; a sequence has the default
    force field.

    Args:
        words: names of suites, paths of suite files, sequences, or names of registered systems.
        temperature: in K, instead of the suites'.

    Raises:
        BgbenchError: for an unknown suite or an unknown residue.
    """
    from bgbench.core.plugins import plugins
    from bgbench.evaluation.suites import load_suite
    from bgbench.evaluation.versioned import is_path
    from bgbench.references.providers import PACKAGED_TEMPERATURE

    suites = {name.partition("@")[0] for name in plugins().suites}
    targets: dict[Target, None] = {}
    for word in words:
        if word.partition("@")[0] in suites or is_path(word):
            suite = load_suite(word)
            for name in suite.systems:
                kelvin = suite.temperature_of(name) if temperature is None else temperature
                own = Target(name, kelvin, suite.forcefield_of(name), suite.structure_of(name))
                targets[own] = None
        else:
            kelvin = PACKAGED_TEMPERATURE if temperature is None else temperature
            targets[named_target(word, kelvin)] = None
    return list(targets)
