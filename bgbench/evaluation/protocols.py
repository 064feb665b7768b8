"""Protocols: named, versioned rules of judging, read from YAML files.

A protocol says how many frames are compared, how weights are treated, which metrics are computed and which of
them lead. Records of different protocols never share a table. `paper@1` holds the published rules
(arXiv 2508.18175); `bgbench@1` weights every point and throws nothing away.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from bgbench.core.abstract import Conventions, Thinning
from bgbench.core.errors import BgbenchError
from bgbench.core.options import refuse_below, refuse_unknown_word
from bgbench.core.plugins import plugins
from bgbench.core.types import Ensemble, System
from bgbench.estimators.weights import Cut
from bgbench.evaluation.versioned import find_file, read_file
from bgbench.metrics.names import DIVERGENCES
from bgbench.metrics.sides import equally_weighted


@dataclass(frozen=True)
class Protocol:
    """The rules that a cell is judged by; the fields of a protocol's YAML file.

    Attributes:
        name: without the version.
        version: from 1.
        summary: what it is, in half a sentence.
        n_samples: frames compared on each side; fewer only where budget or reference has fewer.
        metrics: names of the metrics that are computed, in the order of the records. On systems without atoms
            those that need atoms are left out.
        headline: those of them that runs are compared on (`bgbench compare`, `bgbench report`).
        conventions: choices about densities that samplers follow.
        weights: `weighted`: every point counts with its weight; `resampled`: points are drawn by their
            weights.
        most_frames: conformers of an estimate that are judged: where there are more, that many are drawn by
            their weights (`Thinning`), and runs store those. Weights, energies and faults of every draw count
            all the same. None: all are judged and stored.
        transport: frames of a transport problem in more than one dimension; None: n_samples.
        cut: which of the largest weights the protocol itself cuts, a rule of `cut_weights`; only `resampled`
            weights are cut.
        rank: what samplers are ranked by, the `value` of a metric or its `excess`, see `score_for_ranking`.
        effective_splits: ways to halve the reference's replicas, 1 to 4, that the floor at a sampler's own
            n_eff is the mean of.
        sha256: hash of the protocol's file.

    Raises:
        BgbenchError: for a number out of range, no metric, one that is named twice, or rules that contradict
            each other.
    """

    name: str
    version: int
    summary: str
    n_samples: int
    metrics: tuple[str, ...]
    headline: tuple[str, ...]
    conventions: Conventions = field(default_factory=Conventions)
    weights: Literal["weighted", "resampled"] = "weighted"
    most_frames: int | None = None
    transport: int | None = None
    cut: Cut = "none"
    rank: Literal["value", "excess"] = "value"
    effective_splits: Literal[1, 2, 3, 4] = 1
    sha256: str = ""

    def __post_init__(self) -> None:
        refuse_below("n_samples", self.n_samples, 1)
        if self.most_frames is not None:
            refuse_below("most_frames", self.most_frames, self.n_samples)
        if self.transport is not None:
            refuse_below("transport", self.transport, 1)
        if not self.metrics:
            raise BgbenchError("metrics must name at least one metric")
        for name in ("metrics", "headline"):
            twice = [metric for metric in getattr(self, name) if getattr(self, name).count(metric) > 1]
            if twice:
                raise BgbenchError(f"{name}: {twice[0]} is listed twice")
        for metric in self.headline:
            refuse_unknown_word("headline: each metric", metric, self.metrics)
        if self.cut != "none" and self.weights != "resampled":
            raise BgbenchError(f"cut: {self.cut} needs `weights: resampled`; weighted points are never cut")

    @property
    def id(self) -> str:
        """`name@version`."""
        return f"{self.name}@{self.version}"

    @property
    def thinning(self) -> Thinning | None:
        """How estimates are thinned before they are judged; None: not at all."""
        return None if self.most_frames is None else Thinning(self.most_frames, self.cut)

    @property
    def options(self) -> Mapping[str, Any]:
        """What metrics read of the rules (`MetricCase.options`)."""
        limit = {} if self.transport is None else {"transport": self.transport}
        return {"weights": self.weights, "cut": self.cut, **limit}

    def metrics_of(self, system: System) -> tuple[str, ...]:
        """The metrics that a system is judged by.

        >>> from bgbench.core.plugins import build_system
        >>> get_protocol("bgbench@1").metrics_of(build_system("analytic:harmonic"))
        ('ess', 'energy_w2')
        """
        registry = plugins().metrics
        return tuple(name for name in self.metrics if system.atoms or not registry[name].needs_atoms)

    def score_for_ranking(self, metric: str, value: float, floors_at_n_eff: Mapping[str, float]) -> float:
        """The number that samplers are ranked by, lower or higher being better as for the metric itself.

        Under `rank: excess` it is value² − floor² with the floor at the sampler's own n_eff: bias and noise
        of a distance add up in squares, so that what is left is the bias, and fewer points neither cost rank
        nor buy it. A divergence is a square already: value − floor. Never clipped. A metric without a floor,
        or a protocol without the rule, ranks by the value.

        >>> floors = {"torus_w2": 0.3}
        >>> round(get_protocol("bgbench@1").score_for_ranking("torus_w2", 0.5, floors), 3)
        0.16
        >>> get_protocol("paper@1").score_for_ranking("torus_w2", 0.5, floors)
        0.5
        """
        if self.rank != "excess" or metric not in floors_at_n_eff:
            return value
        power = 1 if metric in DIVERGENCES else 2
        return float(value**power - floors_at_n_eff[metric] ** power)

    def cuts_weights(self, ensemble: Ensemble) -> bool:
        """Whether the protocol itself drops weights of this ensemble; equal weights are never cut."""
        return self.cut != "none" and not equally_weighted(ensemble)


def get_protocol(name: str, beside: Path | None = None) -> Protocol:
    """The protocol `name@version` (`name` alone is its latest version), or the one in a YAML file.

    Args:
        name: a registered name, or the path of a YAML file.
        beside: a run folder. Its own copy of the protocol is used where it has one.

    Raises:
        BgbenchError: for an unknown name, listing the known ones, a file that is not a protocol, or a metric
            that is not registered.
    """
    own = protocol_copy(beside, name) if beside is not None else None
    return read_protocol(own if own is not None and own.is_file() else protocol_path(name))


def protocol_path(name: str) -> Path:
    """The file of a protocol.

    Raises:
        BgbenchError: for an unknown name, listing the known ones.
    """
    return find_file(name, plugins().protocols)


def protocol_copy(folder: Path, protocol_id: str) -> Path:
    """Where the run in `folder` has its own copy of a protocol."""
    return folder / "protocols" / f"{protocol_id}.yaml"


def read_protocol(path: Path) -> Protocol:
    """Read one protocol file.

    Raises:
        BgbenchError: if it cannot be read, its name lacks a version, a field is unknown or wrong, or a metric
            is not registered.
    """
    protocol = read_file(path, Protocol, "protocol")
    known = plugins().metrics
    try:
        for metric in protocol.metrics:
            if metric not in known:
                refuse_unknown_word("each of metrics", metric, known)
    except BgbenchError as error:
        raise BgbenchError(f"{path} is not a protocol: {error} (see `bgbench list metrics`)") from error
    return protocol
