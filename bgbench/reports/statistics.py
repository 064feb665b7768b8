"""Intervals and comparisons over systems and seeds.

A table holds one metric: `values (systems, seeds)`, NaN where a cell failed. Two questions have two
intervals: what the mean over *new* systems would be, those that could have been chosen as well (Student over
the means of systems), and what the mean over *these* systems would be with other seeds (Student over seeds
within systems, by Welch and Satterthwaite). Ranks and orders are for new systems: paired by system, with
Holm's correction (Holm 1979) over all pairs. `benchmarks/interval_coverage.py` measures how often they
are right.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import NamedTuple

import numpy as np
from scipy.special import stdtr, stdtrit

LEVEL = 0.95

FEWEST_SYSTEMS = 2
"""Systems that an interval and a rank for new systems need, at least; of two it is wide."""

FEWEST_VALUES = 6
"""Values (systems × seeds) that they need besides: four systems of one seed order nobody.

n independent values of a symmetric distribution enclose its centre with probability 1 − 2^(1−n), which
reaches 95 % at n = 6.
"""

TOLERANCE = 1e-9
"""Relative difference below which two numbers are equal: it is rounding."""


@dataclass(frozen=True)
class Interval:
    """A mean with its 95 % intervals, and the median over systems.

    Attributes:
        mean: over systems of the means over seeds.
        low: of the interval for new systems; None below FEWEST_SYSTEMS systems or FEWEST_VALUES values.
        high: of the interval for new systems.
        median: over systems.
        these: the interval for these systems and other seeds; None unless every system has two seeds.
    """

    mean: float
    low: float | None
    high: float | None
    median: float
    these: tuple[float, float] | None = None

    def ends(self, number: Callable[[float], str], between: str = " to ") -> str:
        """Both ends of the interval for new systems, each written by `number`; empty where there is none.

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
    """Whether a table `values (systems, seeds)` has enough of both for an interval and a rank."""
    present = np.isfinite(values)
    return int(present.any(axis=1).sum()) >= FEWEST_SYSTEMS and int(present.sum()) >= FEWEST_VALUES


def interval(values: np.ndarray) -> Interval:
    """Mean over systems of means over seeds, with its intervals.

    Args:
        values: `(systems, seeds)` of one metric, NaN where a cell failed.
    """
    return _around(np.nanmean(values, axis=1), suffices(values), [values])


def difference(a: np.ndarray, b: np.ndarray) -> Interval:
    """Intervals of the mean of a − b, paired by system. Both sides need enough values."""
    return _around(_gaps(a, b), suffices(a) and suffices(b), [a, b])


def _around(per_system: np.ndarray, enough: bool, tables: Sequence[np.ndarray]) -> Interval:
    """The intervals around the mean of `per_system (systems,)`, whose seeds are those of `tables`."""
    mean, n = float(per_system.mean()), len(per_system)
    reach = _student(n - 1) * float(per_system.std(ddof=1)) / math.sqrt(n) if enough else math.inf
    low, high = (mean - reach, mean + reach) if enough else (None, None)
    return Interval(mean, low, high, float(np.median(per_system)), _these(mean, tables))


def _these(mean: float, tables: Sequence[np.ndarray]) -> tuple[float, float] | None:
    """The interval for these systems: variances of means over seeds, freedom by Welch and Satterthwaite."""
    counts = np.concatenate([np.isfinite(values).sum(axis=1) for values in tables])
    if (counts < 2).any():
        return None
    n = len(tables[0])
    squares = np.concatenate([np.nanvar(values, axis=1, ddof=1) for values in tables]) / counts / n**2
    if not squares.any():
        return mean, mean
    freedom = squares.sum() ** 2 / (squares**2 / (counts - 1)).sum()
    reach = _student(freedom) * math.sqrt(float(squares.sum()))
    return mean - reach, mean + reach


def _student(freedom: float) -> float:
    """The point that Student's t stays between with probability LEVEL."""
    return float(stdtrit(freedom, (1 + LEVEL) / 2))


def _p_of_student(gaps: np.ndarray) -> float:
    """Two-sided p of a mean of 0 of `gaps (systems,)`; 1 if all are 0, 0 if all are one other number."""
    error = float(gaps.std(ddof=1)) / math.sqrt(len(gaps))
    if error <= TOLERANCE * float(np.abs(gaps).max()):
        return 0.0 if gaps.any() else 1.0
    return 2 * float(stdtr(len(gaps) - 1, -abs(float(gaps.mean())) / error))


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
    """Ranks 1… that each sampler can have: places of those that are not known to be better or worse.

    One sampler is better than another where Student's test of the differences, paired by system, comes out
    below 5 % after Holm's correction over all pairs. Means that differ by rounding alone share a rank.

    Args:
        tables: `(systems, seeds)` of each sampler, all over the same systems.
        better: `lower` or `higher`.

    Returns:
        First and last rank of each sampler. A table with too few values (`suffices`) has none, and takes no
        part in those of the others.

    >>> easy = np.arange(6.0)[:, None]
    >>> rank_intervals({"a": easy, "b": easy + 1.0, "c": easy[::-1]}, "lower")
    {'a': RankRange(first=1, last=2), 'b': RankRange(first=2, last=3), 'c': RankRange(first=1, last=3)}
    """
    names = [name for name, values in tables.items() if suffices(values)]
    pairs = list(combinations(names, 2))
    gaps = {pair: _gaps(tables[pair[0]], tables[pair[1]]) for pair in pairs}
    p_values = holm([_p_of_student(gaps[pair]) for pair in pairs])
    best, worst = dict.fromkeys(names, 1), dict.fromkeys(names, len(names))
    for (first, second), p in zip(pairs, p_values, strict=True):
        if p <= 1 - LEVEL:
            first_wins = (float(gaps[first, second].mean()) < 0) == (better == "lower")
            winner, loser = (first, second) if first_wins else (second, first)
            best[loser] += 1
            worst[winner] -= 1
        elif not gaps[first, second].any():
            # Equal to rounding: one place for both, the better one.
            for name in (first, second):
                worst[name] -= 1
    return {name: RankRange(best[name], max(best[name], worst[name])) for name in names}


def rank_text(rank: RankRange | None) -> str:
    """`2`, or `2–4` for a tie; empty for None."""
    return "" if rank is None else str(rank)
