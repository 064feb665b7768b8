"""What tables show: a metric's heading with its unit and which way is better, its value, and which lead."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from bgbench.core.plugins import plugins
from bgbench.estimators.pareto import FEWEST_EFFECTIVE, HEAVIEST_TAIL
from bgbench.metrics.names import OF_WEIGHTS
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


def unit_of(name: str) -> str:
    """A metric's unit; empty if it has none or is not registered."""
    metrics = plugins().metrics
    return metrics[name].unit if name in metrics else ""


def means_something(name: str, estimator: str) -> bool:
    """Whether a metric says anything of runs with this estimator: ESS says nothing of equal weights.

    An estimator that is not installed is taken to give weights.

    >>> means_something("ess", "snis"), means_something("ess", "mcmc"), means_something("torus_w2", "mcmc")
    (True, False, True)
    """
    estimators = plugins().estimators
    return name not in OF_WEIGHTS or estimator not in estimators or estimators[estimator].weights != "equal"


def value_of(record: Record, name: str) -> float | None:
    """A record's metric as tables show it; None where it has none, or where it says nothing."""
    return record.metrics.get(name) if means_something(name, record.cell.estimator) else None


def is_control(sampler: str) -> bool:
    """Whether a sampler is a control, which is never ranked; one that is not installed counts as none.

    >>> is_control("reference"), is_control("verse")
    (True, False)
    """
    samplers = plugins().samplers
    return sampler in samplers and samplers[sampler].control


def was_run_here(records: Sequence[Record]) -> bool:
    """Whether bgbench ran the sampler, instead of reading samples that were made elsewhere.

    Those are never ranked: what they cost is not known.
    """
    return all(record.card.get("run_here", True) for record in records)


def effective_points(record: Record) -> float | None:
    """Kish's effective number of points of a finished cell; None where it was not recorded."""
    value = record.diagnostics.get("effective_points")
    return float(value) if isinstance(value, int | float) else None


def forward_ess(record: Record) -> float | None:
    """The ESS by reference frames, which sees modes that q never visits; None without a density."""
    value = record.diagnostics.get("forward", {}).get("ess_forward")
    return float(value) if isinstance(value, int | float) else None


def errors_known(record: Record) -> bool:
    """Whether errors of averages of a finished cell mean anything: k̂ ≤ .7 and 100 effective points."""
    points, tail = effective_points(record), value_of(record, "pareto_k")
    return (points is None or points >= FEWEST_EFFECTIVE) and (tail is None or tail <= HEAVIEST_TAIL)


@dataclass(frozen=True)
class Trust:
    """How far the weights of finished cells can be trusted; None where nothing was recorded or has weights.

    Attributes:
        heavy: the fraction of cells with k̂ above HEAVIEST_TAIL.
        points: median over cells of the effective points.
        forward: median over cells of the forward ESS.
    """

    heavy: float | None
    points: float | None
    forward: float | None

    @classmethod
    def of(cls, records: Sequence[Record]) -> "Trust":
        """That of the records whose cells ended well."""
        finished = [record for record in records if record.status == "ok"]
        tails = [tail for record in finished if (tail := value_of(record, "pareto_k")) is not None]
        points = [n for record in finished if (n := effective_points(record)) is not None]
        forward = [value for record in finished if (value := forward_ess(record)) is not None]
        return cls(
            heavy=sum(tail > HEAVIEST_TAIL for tail in tails) / len(tails) if tails else None,
            points=median(points) if points else None,
            forward=median(forward) if forward else None,
        )
