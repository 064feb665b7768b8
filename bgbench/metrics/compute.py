"""Metrics by name: whatever is registered under it computes it."""

from collections.abc import Iterable

from bgbench.core.abstract import MetricCase
from bgbench.core.plugins import plugins


def compute_metrics(case: MetricCase, names: Iterable[str]) -> dict[str, float]:
    """The values of the registered metrics `names`, and their companions, in that order.

    Raises:
        BgbenchError: for an unknown metric, or a case that a metric refuses.
    """
    registry = plugins().metrics
    values: dict[str, float] = {}
    for name in names:
        values |= registry[name].compute(case)
    return values
