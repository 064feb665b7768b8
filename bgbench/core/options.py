"""Options in words: `--set KEY=VALUE`, prefixes, and the fields of a dataclass that they set."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any, TypeVar

from bgbench.core.errors import BgbenchError


def parse_settings(settings: Iterable[str] | None) -> dict[str, str]:
    """`KEY=VALUE` words as a dict.

    Raises:
        BgbenchError: for a word without `=` or an empty key.
    """
    parsed = {}
    for word in settings or ():
        key, equals, value = word.partition("=")
        if not equals or not key:
            raise BgbenchError(f"--set {word}: write KEY=VALUE")
        parsed[key] = value
    return parsed


PREFIXES = ("estimator", "cluster")
"""`--set PREFIX.KEY=VALUE` is the estimator's or the cluster's; without a prefix it is the sampler's."""


def refuse_unknown_prefixes(options: Mapping[str, str]) -> None:
    """Raise BgbenchError for `--set PREFIX.KEY` with a prefix that nobody reads."""
    for key in options:
        prefix, dot, _ = key.partition(".")
        if dot and prefix not in PREFIXES:
            raise BgbenchError(f"--set {key}: nobody reads '{prefix}.'; prefixes are {', '.join(PREFIXES)}")


def own_options(options: Mapping[str, str]) -> dict[str, str]:
    """The sampler's own."""
    return {key: value for key, value in options.items() if "." not in key and key != "temperature"}


def prefixed(options: Mapping[str, str], prefix: str) -> dict[str, str]:
    """Those of `prefix.`, without it."""
    start = f"{prefix}."
    return {key.removeprefix(start): value for key, value in options.items() if key.startswith(start)}


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
