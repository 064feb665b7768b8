"""What the open fields of a record must look like, as far as anybody reads them.

A record keeps more than bgbench knows of: estimators and energies of others add their own entries. Those that
the tables, pages and the board read are checked where a record is read, so that a damaged file is refused
there, by the name of its field, and nowhere later.
"""

from collections.abc import Mapping
from typing import Any

from pydantic import AfterValidator, ConfigDict, TypeAdapter, ValidationError
from typing_extensions import TypedDict

OPEN = ConfigDict(extra="allow")


class CheckShape(TypedDict, total=False):
    """One check of a density."""

    __pydantic_config__ = OPEN  # type: ignore[misc]
    name: str
    value: float | None
    limit: float | None
    note: str


class DensityShape(TypedDict, total=False):
    """The quick audit."""

    __pydantic_config__ = OPEN  # type: ignore[misc]
    verified: bool
    checks: dict[str, CheckShape]
    error: str


class DiagnosticsShape(TypedDict, total=False):
    """`diagnostics` of a record."""

    __pydantic_config__ = OPEN  # type: ignore[misc]
    density: DensityShape
    effective_points: float | None
    floors_at_n_eff: dict[str, float | None]
    floor_bounds: dict[str, float | None]
    controls: dict[str, float | None]
    free_energies: dict[str, dict[str, float | None]]
    failed_diagnostics: dict[str, str]
    warnings: list[str]
    preparing_evaluations: int


ReweightedShape = TypedDict("ReweightedShape", {"from": float, "ess": float})
"""From which temperature (K) a reference was reweighted, and the ESS of that."""


class ReferenceShape(TypedDict, total=False):
    """`reference` of a record."""

    __pydantic_config__ = OPEN  # type: ignore[misc]
    system: str
    grade: str
    sha256: str
    reweighted: ReweightedShape


class CardShape(TypedDict, total=False):
    """`card` of a record."""

    __pydantic_config__ = OPEN  # type: ignore[misc]
    name: str
    training_sequences: list[str] | tuple[str, ...]
    training_evaluations: int
    training_hours: float
    n_parameters: int
    weights_sha256: str
    run_here: bool
    uncharged_evaluations: int


class EnergyShape(TypedDict, total=False):
    """`energy` of a record."""

    __pydantic_config__ = OPEN  # type: ignore[misc]
    openmm_difference: float | None


class HostShape(TypedDict, total=False):
    """The machine of a record."""

    __pydantic_config__ = OPEN  # type: ignore[misc]
    system: str
    cpu: str
    cores: int
    gpu: str
    torch_threads: int


class DeviceShape(TypedDict, total=False):
    """What computed, and what was handed to the sampler."""

    __pydantic_config__ = OPEN  # type: ignore[misc]
    device: str
    task_device: str
    precision: str
    name: str
    driver: str
    cuda: str


class GitShape(TypedDict, total=False):
    """The checkout of a record."""

    __pydantic_config__ = OPEN  # type: ignore[misc]
    commit: str
    dirty: bool


class ProvenanceShape(TypedDict, total=False):
    """`provenance` of a record."""

    __pydantic_config__ = OPEN  # type: ignore[misc]
    bgbench: str
    libraries: dict[str, str]
    python: str
    git: GitShape
    host: HostShape
    device: DeviceShape
    peak_memory_mb: float


def shaped(kind: Any) -> AfterValidator:
    """A validator that leaves a table as it is, if `kind` describes it.

    >>> shaped(EnergyShape).func({"openmm_difference": 0.5, "backend": "mine"})
    {'openmm_difference': 0.5, 'backend': 'mine'}
    """
    adapter = TypeAdapter(kind)

    def check(value: Mapping[str, Any]) -> Mapping[str, Any]:
        try:
            adapter.validate_python(value)
        except ValidationError as error:
            first = error.errors()[0]
            raise ValueError(f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}") from error
        return value

    return AfterValidator(check)
