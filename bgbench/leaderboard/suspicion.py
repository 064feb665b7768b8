"""Distances that are smaller than independent exact draws reach: fitted weights, chosen draws, copies.

What exact draws reach is measured on the reference alone: one random half of its frames against the other.
There the two sides differ by the noise of counting only. Nobody who draws from the target comes closer,
however well the reference is sampled.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy.special import chdtrc, stdtr

from bgbench.core.abstract import Estimate, MetricCase
from bgbench.core.types import Ensemble, Proposal
from bgbench.evaluation.bench import Bench
from bgbench.metrics.compute import compute_metrics
from bgbench.runs.records import Record

METRICS = ("energy_w2", "torus_w2")
"""Distances that are looked at: the cheap ones, among them that by which tables are ordered."""

HALVINGS = 8
"""Random halves of the reference by which the reach is measured."""

SMALLEST = 1e-12
"""Probability of one system, at least."""


@dataclass(frozen=True)
class Reach:
    """What exact draws score by metric: the mean of HALVINGS random halvings and their standard deviation."""

    means: Mapping[str, float]
    spreads: Mapping[str, float]


def reach_of(bench: Bench, n: int) -> Reach:
    """What `n` independent exact draws score against `n` frames of the whole reference.

    Where the reference has fewer than 2 n frames, halves are compared, and distances scaled by the square
    root of the numbers: no distance falls faster.
    """
    whole = bench.floors.reference
    half = whole.n_samples // 2
    frames = min(n, half)
    values: dict[str, list[float]] = {name: [] for name in METRICS}
    for k in range(HALVINGS):
        random = torch.Generator().manual_seed(k)
        order = torch.randperm(whole.n_samples, generator=random)
        draws = Ensemble.unweighted(whole.x[order[:half]], whole.u[order[:half]])
        rest = replace(
            whole,
            x=whole.x[order[half:]],
            u=whole.u[order[half:]],
            replica=whole.replica[order[half:]],
            sha256="",
        )
        estimate = Estimate(draws, Proposal(draws.x))
        case = MetricCase(bench.system, estimate, rest, frames, random, bench.protocol.options)
        for name, value in compute_metrics(case, METRICS).items():
            if name in values:
                values[name].append(math.sqrt(frames / n) * value)
    return Reach(
        {name: float(np.mean(v)) for name, v in values.items() if v},
        {name: float(np.std(v, ddof=1)) for name, v in values.items() if v},
    )


def probability_below(value: float, mean: float, spread: float) -> float:
    """The probability of one more draw below `value`, after HALVINGS of this mean and spread (Student).

    >>> round(probability_below(1.0, 1.0, 0.1), 3), probability_below(0.2, 1.0, 0.1) < 0.01
    (0.5, True)
    """
    if spread <= 0.0:
        return 0.5
    return float(stdtr(HALVINGS - 1, (value - mean) / (spread * math.sqrt(1 + 1 / HALVINGS))))


def suspicion(records: Sequence[Record], reaches: Mapping[str, Reach]) -> dict[str, float]:
    """The probability of each of METRICS to be as small as it is in `records`, or smaller, by chance.

    The mean over seeds of each system is held against what one draw reaches there (means spread less). The
    probabilities of the systems, which are independent, are joined (Fisher: systems with large distances
    excuse none with small ones), and multiplied by the number of metrics.

    Args:
        records: the finished cells of an entry.
        reaches: by system.
    """
    probabilities: dict[str, float] = {}
    for metric in METRICS:
        surprises = []
        for system, reach in reaches.items():
            values = [record.metrics.get(metric) for record in records if record.cell.system == system]
            known = [value for value in values if value is not None]
            if known and reach.means.get(metric, 0.0) > 0.0:
                mean, spread = reach.means[metric], reach.spreads[metric]
                chance = probability_below(float(np.mean(known)), mean, spread)
                surprises.append(-2.0 * math.log(max(chance, SMALLEST)))
        if surprises:
            probabilities[metric] = float(chdtrc(2 * len(surprises), sum(surprises)))
    return {name: min(1.0, value * len(probabilities)) for name, value in probabilities.items()}
