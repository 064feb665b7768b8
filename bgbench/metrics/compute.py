"""Metrics by name: whatever is registered under it computes it."""

import reprlib
from collections.abc import Iterable, Mapping, Sequence

from torch import Tensor

from bgbench.core.abstract import MetricCase
from bgbench.core.errors import BgbenchError, BrokenContract
from bgbench.core.guard import contained
from bgbench.core.hookspecs import PLAIN_NAME
from bgbench.core.plugins import named, plugins


def compute_metrics(case: MetricCase, names: Iterable[str]) -> dict[str, float]:
    """The values of the registered metrics `names`, and their companions, in that order.

    Raises:
        BgbenchError: for an unknown metric, a case that a metric refuses, or what is no value of its own.
    """
    names = list(names)
    try:
        # One guard for all, since it copies frames: which metric it was is found out where there is a fault.
        with contained("a metric", _tensors(case)):
            return _compute(names, case)
    except BrokenContract as error:
        for name in names:
            _refuse_culprit(name, case)
        raise BgbenchError(str(error)) from error


def _tensors(case: MetricCase) -> dict[str, Tensor]:
    """What no metric may change, by what the error calls it."""
    ensemble, reference = case.estimate.ensemble, case.reference
    return {
        "case.system.positions": case.system.positions,
        "case.estimate.ensemble.x": ensemble.x,
        "case.estimate.ensemble.u": ensemble.u,
        "case.estimate.ensemble.log_w": ensemble.log_w,
        "case.reference.x": reference.x,
        "case.reference.u": reference.u,
    }


def _refuse_culprit(name: str, case: MetricCase) -> None:
    """Compute a metric alone, and raise BgbenchError naming it if it does what none may."""
    try:
        with contained(f"{plugins().metrics.origin(name)}: metric '{name}'", _tensors(case)):
            _call(name, case)
    except BrokenContract as error:
        raise BgbenchError(str(error)) from error


def _call(name: str, case: MetricCase) -> object:
    """What a metric returns.

    Raises:
        BgbenchError: naming the metric, for whatever it raises.
    """
    metric, origin = plugins().metrics[name], plugins().metrics.origin(name)
    with named(origin, f"metric '{name}'"):
        return metric.compute(case)


def _compute(names: Sequence[str], case: MetricCase) -> dict[str, float]:
    """The values of the metrics and their companions, each of which is one of its own and a number."""
    registry = plugins().metrics
    values: dict[str, float] = {}
    for name in names:
        owner = f"{registry.origin(name)}: metric '{name}'"
        computed = _call(name, case)
        if not isinstance(computed, Mapping):
            raise BgbenchError(f"{owner} must return values by name, got {reprlib.repr(computed)}")
        for key in computed:
            if not isinstance(key, str) or not PLAIN_NAME.fullmatch(key):
                raise BgbenchError(
                    f"{owner} returns a value by the name {reprlib.repr(key)}; letters, "
                    "digits, '.', '_' and '-' make one"
                )
        # None at all: the system has nothing that it could be computed of, such as a TICA model.
        if computed and name not in computed:
            raise BgbenchError(f"{owner} must return a value '{name}', got {', '.join(computed)} only")
        for key, value in computed.items():
            if key in values:
                raise BgbenchError(
                    f"{owner} returns a value '{key}', which another metric "
                    "has returned; give it another name"
                )
            values[key] = _number(value, f"{owner}: '{key}'")
    return values


def _number(value: object, what: str) -> float:
    """A number or a tensor of one as a float.

    Raises:
        BgbenchError: for anything else, texts and truth values among it, and a number beyond every float.
    """
    item = getattr(value, "item", None)
    try:
        number = value if item is None else item()
        if isinstance(number, (int, float)) and not isinstance(number, bool):
            return float(number)
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        raise BgbenchError(f"{what} must be a number, got {reprlib.repr(value)}") from error
    raise BgbenchError(f"{what} must be a number, got {reprlib.repr(value)}")
