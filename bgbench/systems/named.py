"""Systems by the names that suites list: registered ones, with a colon in the name, peptides, PDB files."""

from bgbench.core.errors import BgbenchError
from bgbench.core.plugins import build_system, plugins
from bgbench.core.types import ForceFieldSpec, Suite, System
from bgbench.systems.peptides import peptide
from bgbench.systems.structures import build_structure, is_structure


def is_registered(name: str) -> bool:
    """Whether `name` has the form of a registered system's name, be it known or not.

    >>> is_registered("analytic:harmonic"), is_registered("AA"), is_registered("pdb:mine.pdb")
    (True, False, False)
    """
    return ":" in name and not is_structure(name)


def has_own_reference(name: str) -> bool:
    """Whether a system comes with its reference, so that nothing is stored and its temperature is fixed.

    Raises:
        BgbenchError: for a name of that form that is not registered.

    >>> has_own_reference("analytic:harmonic"), has_own_reference("AA")
    (True, False)
    """
    return is_registered(name) and plugins().systems[name].reference is not None


def find_member(suite: Suite, name: str, temperature: float | None = None) -> System:
    """A system of a suite, with the force field that it has there.

    Args:
        suite: the suite.
        name: as the suite lists it.
        temperature: in K; None: that which it has there.

    Raises:
        BgbenchError: for a name that is neither registered nor a sequence.

    >>> find_member(Suite("two", 1, ("AA", "GS"), temperature=300.0), "GS").temperature
    300.0
    """
    kelvin = suite.temperature_of(name) if temperature is None else temperature
    structure = suite.structure_of(name)
    if structure is not None:
        return build_structure(structure, kelvin, suite.forcefield_of(name))
    return find_system(name, kelvin, suite.forcefield_of(name))


def find_system(name: str, temperature: float, forcefield: ForceFieldSpec | None = None) -> System:
    """The system called `name`: a registered one, or the peptide of that sequence.

    Args:
        name: as a suite lists it.
        temperature: in K; systems with a reference of their own have their own.
        forcefield: of peptides; None: the default. Registered systems have their own.

    Raises:
        BgbenchError: for a name that is neither registered nor a sequence.

    >>> find_system("AA", 300.0).temperature, find_system("analytic:harmonic", 300.0).temperature
    (300.0, 310.0)
    """
    if is_structure(name):
        raise BgbenchError(f"{name} is a system of the suite beside its file; name that suite, with --only")
    if not is_registered(name):
        return peptide(name, temperature, forcefield)
    system = build_system(name)
    return system if has_own_reference(name) else system.at(temperature)
