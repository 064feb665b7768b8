"""`--set estimator.NAME=VALUE`: options of an estimator are the fields of a frozen dataclass of defaults."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any, TypeVar

from bgbench.errors import BgbenchError

T = TypeVar("T")

HANDS = ("protocol", "zero", "fold", "flip")
"""What `estimator.handedness` may be; `protocol` leaves it to the protocol."""


def chosen(estimator: str, defaults: T, given: Mapping[str, str]) -> T:
    """`defaults` with what was given, each in the kind of its default.

    Raises:
        BgbenchError: for an unknown option or a value of another kind.
    """
    known: dict[str, Any] = asdict(defaults)  # type: ignore[call-overload]
    unknown = sorted(set(given) - set(known))
    if unknown:
        has = ", ".join(f"estimator.{name}" for name in known) or "none"
        raise BgbenchError(
            f"{estimator} has no option estimator.{', estimator.'.join(unknown)}; it has {has}"
        )
    values = {}
    for name, text in given.items():
        try:
            values[name] = type(known[name])(text)
        except ValueError as error:
            raise BgbenchError(f"--set estimator.{name}={text}: {error}") from error
    return replace(defaults, **values)  # type: ignore[type-var]


def refuse_unless(name: str, value: str, allowed: Sequence[str]) -> None:
    """Raise BgbenchError unless `value` is one of `allowed`."""
    if value not in allowed:
        raise BgbenchError(f"estimator.{name} is one of {', '.join(allowed)}, not '{value}'")


def refuse_outside(name: str, value: float, low: float, high: float) -> None:
    """Raise BgbenchError unless low ≤ value ≤ high."""
    if not low <= value <= high:
        raise BgbenchError(f"estimator.{name} must lie from {low:g} to {high:g}, got {value:g}")


def nothing(estimator: str, given: Mapping[str, str]) -> None:
    """Raise BgbenchError for any option: this estimator has none."""
    if given:
        raise BgbenchError(f"{estimator} has no options, got estimator.{', estimator.'.join(sorted(given))}")
