"""Headings of tables: a metric with its unit and which way is better, and the metrics that lead."""

from collections.abc import Sequence

from bgbench.core.plugins import plugins
from bgbench.runs.records import Record

ARROWS = {"lower": "↓", "higher": "↑", "": ""}


def heading(name: str) -> str:
    """A metric's name with its unit and the arrow for better."""
    metrics = plugins().metrics
    if name not in metrics:
        return name
    unit = f" ({metrics[name].unit})" if metrics[name].unit else ""
    return f"{name}{unit} {ARROWS[metrics[name].better]}".strip()


def headline(records: Sequence[Record]) -> list[str]:
    """The metrics to print: those that carry a registered metric's own name, in the records' order."""
    seen: dict[str, None] = {}
    for record in records:
        seen.update(dict.fromkeys(record.metrics))
    known = plugins().metrics
    return [name for name in seen if name in known] or list(seen)[:8]
