"""Metrics by name: whatever is registered under it computes it."""

from collections.abc import Iterable, Mapping

from bgbench.core.abstract import MetricCase
from bgbench.core.errors import BgbenchError, BrokenContract
from bgbench.core.guard import contained
from bgbench.core.hookspecs import PLAIN_NAME
from bgbench.core.plugins import plugins


def compute_metrics(case: MetricCase, names: Iterable[str]) -> dict[str, float]:
    """The values of the registered metrics `names`, and their companions, in that order.

    Raises:
        BgbenchError: for an unknown metric, a case that a metric refuses, or what is no value of its own.
    """
    registry = plugins().metrics
    values: dict[str, float] = {}
    for name in names:
        computed = _compute(name, case)
        if not isinstance(computed, Mapping):
            raise BgbenchError(
                f"{registry.origin(name)}: metric '{name}' must return values by name, got {computed!r}"
            )
        for key in computed:
            if not isinstance(key, str) or not PLAIN_NAME.fullmatch(key):
                raise BgbenchError(
                    f"{registry.origin(name)}: metric '{name}' returns a value by the name {key!r}; letters, "
                    "digits, '.', '_' and '-' make one"
                )
        # None at all: the system has nothing that it could be computed of, such as a TICA model.
        if computed and name not in computed:
            raise BgbenchError(
                f"{registry.origin(name)}: metric '{name}' must return a value '{name}', got "
                f"{', '.join(computed)} only"
            )
        for key, value in computed.items():
            if key in values:
                raise BgbenchError(
                    f"{registry.origin(name)}: metric '{name}' returns a value '{key}', which another metric "
                    "has returned; give it another name"
                )
            values[key] = _number(value, f"{registry.origin(name)}: '{key}' of metric '{name}'")
    return values


def _compute(name: str, case: MetricCase) -> object:
    """What a metric returns, everything global and the case left as they were."""
    metric, origin = plugins().metrics[name], plugins().metrics.origin(name)
    ensemble, reference = case.estimate.ensemble, case.reference
    tensors = {
        "case.system.positions": case.system.positions,
        "case.estimate.ensemble.x": ensemble.x,
        "case.estimate.ensemble.u": ensemble.u,
        "case.estimate.ensemble.log_w": ensemble.log_w,
        "case.reference.x": reference.x,
        "case.reference.u": reference.u,
    }
    try:
        with contained(f"{origin}: metric '{name}'", tensors):
            return metric.compute(case)
    except BrokenContract as error:
        raise BgbenchError(str(error)) from error


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
        raise BgbenchError(f"{what} must be a number, got {value!r}") from error
    raise BgbenchError(f"{what} must be a number, got {value!r}")
