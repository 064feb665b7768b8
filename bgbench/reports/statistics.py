"""Intervals and comparisons over systems and seeds.

A table holds one metric: `values (systems, seeds)`, NaN where a cell failed. Bootstrap over systems, then
seeds within a system (Davison and Hinkley 1997); Wilcoxon's signed-rank test paired by system, with Holm's
correction (Holm 1979); rank intervals from the same bootstrap draws for all samplers.

Over few systems, intervals and ranks are of the mean over *these* systems, not over all that could have been
chosen. Below `FEWEST_VALUES` values there are none.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

DRAWS = 4000
LEVEL = 0.95

FEWEST_VALUES = 6
"""Values (systems × seeds) that an interval and a rank need, at least.

What is drawn from n values stays between the smallest and the largest. n independent values of a symmetric
distribution enclose its centre with probability 1 − 2^(1−n), which reaches 95 % at n = 6; from there on a
sign test of n differences can reach p < .05, too.
"""

TOLERANCE = 1e-9
"""Relative difference below which two numbers are equal: it is rounding."""


@dataclass(frozen=True)
class Interval:
    """A mean with its 95 % interval, and the median over systems.

    `low` and `high` are None where there are fewer than `FEWEST_VALUES` values.
    """

    mean: float
    low: float | None
    high: float | None
    median: float

    def ends(self, number: Callable[[float], str], between: str = " to ") -> str:
        """Both ends, each written by `number`; empty where there is no interval.

        >>> Interval(2.0, 1.5, 2.5, 2.0).ends("{:.2f}".format)
        '1.50 to 2.50'
        >>> Interval(2.0, None, None, 2.0).ends("{:.2f}".format)
        ''
        """
        if self.low is None or self.high is None:
            return ""
        return f"{number(self.low)}{between}{number(self.high)}"


class RankRange(NamedTuple):
    """The first and the last of the ranks 1… that a sampler takes; they are equal without a tie."""

    first: int
    last: int

    def __str__(self) -> str:
        return f"{self.first}" if self.first == self.last else f"{self.first}–{self.last}"


def suffices(values: np.ndarray) -> bool:
    """Whether a table `values (systems, seeds)` has enough values for an interval and a rank."""
    return int(np.isfinite(values).sum()) >= FEWEST_VALUES


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
    """Mean over systems of means over seeds, with its hierarchical bootstrap interval.

    Args:
        values: `(systems, seeds)` of one metric, NaN where a cell failed.
        seed: of the bootstrap.
    """
    per_system = np.nanmean(values, axis=1)
    low, high = _middle(draws(values, seed)) if suffices(values) else (None, None)
    return Interval(float(per_system.mean()), low, high, float(np.median(per_system)))


def difference(a: np.ndarray, b: np.ndarray, seed: int = 0) -> Interval:
    """Interval of the mean of a − b, paired by system; seeds are drawn within systems as for `interval`.

    It needs enough values on both sides.
    """
    gap = _gaps(a, b)
    enough = suffices(a) and suffices(b)
    low, high = _middle(draws(a, seed) - draws(b, seed)) if enough else (None, None)
    return Interval(float(gap.mean()), low, high, float(np.median(gap)))


def _middle(means: np.ndarray) -> tuple[float, float]:
    """The ends of the middle 95 % of bootstrap means."""
    low, high = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def _gaps(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Differences of the means over seeds, `(systems,)`; 0 where there is nothing but rounding."""
    mine, theirs = np.nanmean(a, axis=1), np.nanmean(b, axis=1)
    return np.where(np.isclose(mine, theirs, rtol=TOLERANCE, atol=0.0), 0.0, mine - theirs)


def wilcoxon(a: np.ndarray, b: np.ndarray) -> float:
    """Two-sided p of the signed-rank test on means over seeds, paired by system; 1 if all are equal."""
    from scipy.stats import wilcoxon as signed_rank

    gap = _gaps(a, b)
    return 1.0 if not gap.any() else float(signed_rank(gap).pvalue)


def can_reject(systems: int, tests: int) -> bool:
    """Whether signed-rank tests over so many systems, so many of them at once, can come out below 5 % at all.

    The smallest two-sided p over n systems is 2^(1−n), where all differences have one sign; Holm's adjustment
    multiplies the smallest of m values by m.

    >>> can_reject(6, 1), can_reject(5, 1), can_reject(6, 2), can_reject(30, 435)
    (True, False, False, True)
    """
    return tests * 2.0 ** (1 - systems) <= 1 - LEVEL


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down adjustment."""
    order = np.argsort(p_values)
    adjusted = np.empty(len(p_values))
    running = 0.0
    for place, index in enumerate(order):
        running = max(running, min(1.0, (len(p_values) - place) * p_values[index]))
        adjusted[index] = running
    return adjusted.tolist()


def rank_intervals(tables: Mapping[str, np.ndarray], better: str) -> dict[str, RankRange]:
    """Ranks 1… that each sampler takes within 95 % of joint bootstrap draws; overlapping ones are ties.

    Means that differ by rounding alone share a rank.

    Args:
        tables: `(systems, seeds)` of each sampler, all over the same systems.
        better: `lower` or `higher`.

    Returns:
        First and last rank of each sampler. A table of fewer than `FEWEST_VALUES` values has none, and takes
        no part in those of the others.
    """
    means = {name: draws(values) for name, values in tables.items() if suffices(values)}
    if not means:
        return {}
    table = np.stack(list(means.values()))
    ranks = tolerant_ranks(table if better == "lower" else -table)
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(ranks, [tail, 1 - tail], axis=1)
    edges = zip(low.tolist(), high.tolist(), strict=True)
    return {name: RankRange(math.floor(a), math.ceil(b)) for name, (a, b) in zip(means, edges, strict=True)}


def tolerant_ranks(values: np.ndarray) -> np.ndarray:
    """Ranks 1… of each column of `values (samplers, draws)`, the lowest first; ties have the best rank.

    Neighbours that differ by `TOLERANCE` or less are ties.

    >>> tolerant_ranks(np.array([[1.0], [0.9999999999999998], [2.0]])).tolist()
    [[1], [1], [3]]
    """
    order = np.argsort(values, axis=0, kind="stable")
    ascending = np.take_along_axis(values, order, axis=0)
    places = np.arange(1, len(values) + 1)[:, None]
    sizes = np.maximum(np.abs(ascending[1:]), np.abs(ascending[:-1]))
    apart = np.diff(ascending, axis=0) > TOLERANCE * sizes
    begins = np.vstack([np.ones_like(apart, shape=(1, values.shape[1])), apart])
    ranks = np.empty(values.shape, dtype=int)
    np.put_along_axis(ranks, order, np.maximum.accumulate(np.where(begins, places, 1), axis=0), axis=0)
    return ranks


def rank_text(rank: RankRange | None) -> str:
    """`2`, or `2–4` for a tie; empty for None."""
    return "" if rank is None else str(rank)
