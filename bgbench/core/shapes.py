"""What open tables must look like, as far as anybody reads them: first those that estimators fill.

An estimator may say of itself whatever it likes; the entries here are read by metrics, warnings and figures.
"""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import (
    ConfigDict,
    Field,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    TypeAdapter,
    ValidationError,
)
from typing_extensions import TypedDict

OPEN = ConfigDict(extra="allow")


class ChiralityShape(TypedDict, total=False):
    """Fractions of draws by what their chirality was before it was repaired."""

    __pydantic_config__ = OPEN  # type: ignore[misc]
    wrong_hand: float | None
    unrepairable: float | None
    mirrored: float | None


class HistoryShape(TypedDict):
    """Values by increment of t; None where one has none."""

    __pydantic_config__ = OPEN  # type: ignore[misc]
    t: list[float | None]
    ess: list[float | None]
    cess: list[float | None]
    acceptance: list[float | None]
    ancestors: list[float | None]


class AnnealingShape(TypedDict):
    """What an annealed estimator did."""

    __pydantic_config__ = OPEN  # type: ignore[misc]
    history: HistoryShape
    particles: NonNegativeInt
    steps: NonNegativeInt
    resamplings: NonNegativeInt
    resampling: str


class EstimateShape(TypedDict, total=False):
    """`diagnostics` of an estimate."""

    __pydantic_config__ = OPEN  # type: ignore[misc]
    handedness: ChiralityShape
    ess_against_n: Annotated[dict[PositiveInt, PositiveFloat], Field(min_length=1)]
    smc: AnnealingShape


ESTIMATE: TypeAdapter[Any] = TypeAdapter(EstimateShape)
READ = tuple(EstimateShape.__annotations__)
"""What is read of the diagnostics of an estimate."""


def describe_misfit(shape: TypeAdapter[Any], table: Mapping[str, Any]) -> str:
    """Where a table differs from a shape first, and how; empty if it is of that shape.

    >>> describe_misfit(ESTIMATE, {"handedness": {"wrong_hand": 0.5}, "mine": "anything"})
    ''
    >>> describe_misfit(ESTIMATE, {"handedness": "left"})
    'handedness: Input should be a valid dictionary'
    """
    try:
        shape.validate_python(table)
    except ValidationError as error:
        first = error.errors()[0]
        return f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}"
    return ""
