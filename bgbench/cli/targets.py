"""What `bgbench data` is asked for: a suite stands for its systems, temperature and force field."""

from dataclasses import dataclass, field
from pathlib import Path

from bgbench.core.plugins import plugins
from bgbench.core.types import ForceFieldSpec, System
from bgbench.evaluation.suites import load_suite
from bgbench.references.providers import PACKAGED_TEMPERATURE, reference_path
from bgbench.systems.peptides import peptide
from bgbench.systems.residues import parse_sequence


@dataclass(frozen=True)
class Target:
    """One system by name, its `temperature` in K and its force field."""

    name: str
    temperature: float = PACKAGED_TEMPERATURE
    forcefield: ForceFieldSpec = field(default_factory=ForceFieldSpec)

    @property
    def path(self) -> Path:
        """Of its reference, below a references folder."""
        return reference_path(self.name, self.temperature, self.forcefield)

    def system(self) -> System:
        """With a start structure."""
        return peptide(self.name, self.temperature, self.forcefield)


def targets_of(words: list[str], temperature: float | None = None) -> list[Target]:
    """Suites become their systems; sequences stay, with the usual force field. `temperature` goes before all.

    Raises:
        BgbenchError: for a suite that is not there, or a sequence with a residue that is none.
    """
    known = {name.partition("@")[0] for name in plugins().suites}
    found: dict[Target, None] = {}
    for word in words:
        if word.partition("@")[0] in known or word.endswith(".yaml"):
            suite = load_suite(word)
            kelvin = suite.temperature if temperature is None else temperature
            found |= dict.fromkeys(Target(name, kelvin, suite.forcefield) for name in suite.systems)
        else:
            found[
                Target(parse_sequence(word), PACKAGED_TEMPERATURE if temperature is None else temperature)
            ] = None
    return list(found)
