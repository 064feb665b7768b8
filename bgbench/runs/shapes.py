"""What the open fields of a record must look like, as far as anybody reads them.

A record keeps more than bgbench knows of: estimators and energies of others add their own entries. Those that
the tables, pages and the board read are checked where a record is read, so that a damaged file is refused
there, by the name of its field, and nowhere later.
"""

from collections.abc import Mapping
from typing import Any

from pydantic import AfterValidator, TypeAdapter
from typing_extensions import TypedDict

from bgbench.core.shapes import OPEN, describe_misfit


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


class ForwardShape(TypedDict, total=False):
    """What the density says of reference frames."""

    __pydantic_config__ = OPEN  # type: ignore[misc]
    nll: float | None
    nll_per_dimension: float | None
    ess_forward: float | None
    frames: int


class DiagnosticsShape(TypedDict, total=False):
    """What bgbench itself writes into the `diagnostics` of a record."""

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
    forward: ForwardShape
    metrics_uncut: dict[str, float | None]
    rejudged: dict[str, Any]
    budget_used_known: bool
    unused: int


RESERVED = frozenset(DiagnosticsShape.__annotations__)
"""Diagnostics that bgbench itself writes, and an estimator cannot set."""


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
        if misfit := describe_misfit(adapter, value):
            raise ValueError(misfit)
        return value

    return AfterValidator(check)
