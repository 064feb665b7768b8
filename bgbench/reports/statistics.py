"""Intervals and comparisons over systems and seeds.

A table holds one metric: `values (systems, seeds)`, NaN where a cell failed. Bootstrap over systems, then
seeds within a system (Davison and Hinkley 1997); Wilcoxon's signed-rank test paired by system, with Holm's
correction (Holm 1979); rank intervals from the same bootstrap draws for all samplers.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

DRAWS = 4000
LEVEL = 0.95


@dataclass(frozen=True)
class Interval:
    """A mean with its 95 % interval, and the median."""

    mean: float
    low: float
    high: float
    median: float


def draws(values: np.ndarray, seed: int = 0) -> np.ndarray:
    """Bootstrap means `(DRAWS,)` of `values (systems, seeds)`; the same `seed` draws the same systems.

    Where a system has fewer seeds, its row ends in NaN and as many are drawn as it has.
    """
    random = np.random.default_rng(seed)
    n, k = values.shape
    systems = random.integers(0, n, (DRAWS, n))
    seeds = random.integers(0, k, (DRAWS, n, k))
    present = np.isfinite(values).sum(axis=1)[systems][..., None]
    if (present < k).any():
        among = (random.random(seeds.shape) * present).astype(int)
        seeds = np.where(present == k, seeds, np.where(np.arange(k) < present, among, k - 1))
    return np.nanmean(np.nanmean(values[systems[..., None], seeds], axis=2), axis=1)


def interval(values: np.ndarray, seed: int = 0) -> Interval:
    """Mean over systems of means over seeds, with its hierarchical bootstrap interval."""
    per_system = np.nanmean(values, axis=1)
    low, high = np.quantile(draws(values, seed), [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(float(per_system.mean()), float(low), float(high), float(np.median(per_system)))


def difference(a: np.ndarray, b: np.ndarray, seed: int = 0) -> Interval:
    """Interval of the mean of a − b, paired by system; seeds are drawn within systems as for `interval`."""
    gap = np.nanmean(a, axis=1) - np.nanmean(b, axis=1)
    low, high = np.quantile(draws(a, seed) - draws(b, seed), [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(float(gap.mean()), float(low), float(high), float(np.median(gap)))


def wilcoxon(a: np.ndarray, b: np.ndarray) -> float:
    """Two-sided p of the signed-rank test on means over seeds, paired by system; 1 if all are equal."""
    from scipy.stats import wilcoxon as signed_rank

    gap = np.nanmean(a, axis=1) - np.nanmean(b, axis=1)
    return 1.0 if not gap.any() else float(signed_rank(gap).pvalue)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down adjustment."""
    order = np.argsort(p_values)
    adjusted = np.empty(len(p_values))
    running = 0.0
    for place, index in enumerate(order):
        running = max(running, min(1.0, (len(p_values) - place) * p_values[index]))
        adjusted[index] = running
    return adjusted.tolist()


def rank_intervals(tables: Mapping[str, np.ndarray], better: str) -> dict[str, tuple[int, int]]:
    """Ranks 1… that each sampler takes within 95 % of joint bootstrap draws; overlapping ones are ties.

    All samplers see the same systems drawn. `better` is `lower` or `higher`.
    """
    return rank_ranges({name: draws(values) for name, values in tables.items()}, better)


def rank_ranges(drawn: Mapping[str, np.ndarray], better: str) -> dict[str, tuple[int, int]]:
    """`rank_intervals` of bootstrap means `(DRAWS,)` that are at hand."""
    from scipy.stats import rankdata

    means = np.stack(list(drawn.values()))
    ranks = rankdata(means if better == "lower" else -means, method="min", axis=0)
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(ranks, [tail, 1 - tail], axis=1)
    edges = zip(low.tolist(), high.tolist(), strict=True)
    return {name: (math.floor(a), math.ceil(b)) for name, (a, b) in zip(drawn, edges, strict=True)}


def rank_text(rank: tuple[int, int] | None) -> str:
    """`2`, or `2–4` for a tie; empty for None."""
    if rank is None:
        return ""
    return f"{rank[0]}" if rank[0] == rank[1] else f"{rank[0]}–{rank[1]}"
