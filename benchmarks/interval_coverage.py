"""How often intervals hold what they are of, and orders are false: `python benchmarks/interval_coverage.py`.

Simulated, so that the truth is known: tables of systems × seeds whose difficulties and seeds are normal or
log-normal (skewed, as energies are), equal samplers that should not be ordered, weights of a density that is
too narrow, and what few points do to the score of a sampler that is wrong. Writes the page beside it. (Not
named `coverage`: numba imports a module of that name.)
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch

from bgbench.estimators.pareto import errors_known
from bgbench.estimators.weights import log_z, mean_and_error
from bgbench.metrics.transport import exact_transport
from bgbench.reports.statistics import LEVEL, interval, rank_intervals

PAGE = Path(__file__).with_suffix(".md")
SHAPES = ((4, 1), (4, 3), (6, 1), (30, 1), (30, 3))
REPETITIONS = 1000
SAMPLERS = 6
NOISE = 0.5
"""Spread of seeds, where that of systems is 1."""

Draw = Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]
LAWS: dict[str, tuple[Draw, float]] = {
    "normal": (lambda random, shape: random.standard_normal(shape), 0.0),
    "log-normal": (lambda random, shape: random.lognormal(0.0, 1.0, shape), float(np.exp(0.5))),
}
"""By name: draws, and their mean."""


def bootstrap(values: np.ndarray, random: np.random.Generator) -> tuple[float, float]:
    """The interval of before 28 November 2026: middle 95 % of means over drawn systems, then drawn seeds."""
    n, k = values.shape
    systems = random.integers(0, n, (500, n))
    drawn = values[systems[..., None], random.integers(0, k, (500, n, k))]
    low, high = np.quantile(drawn.mean((1, 2)), [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def cover(law: str, shape: tuple[int, int], repetitions: int = REPETITIONS) -> list[str]:
    """Coverage of the bootstrap and of Student for new systems, and of the interval for these systems."""
    draw, truth = LAWS[law]
    random = np.random.default_rng(0)
    hits: dict[str, list[bool]] = {"before, new": [], "before, these": [], "new": [], "these": []}
    for _ in range(repetitions):
        difficulty = draw(random, (shape[0], 1))
        values = difficulty + NOISE * random.standard_normal(shape)
        before, now = bootstrap(values, random), interval(values)
        hits["before, new"].append(before[0] <= truth <= before[1])
        hits["before, these"].append(before[0] <= difficulty.mean() <= before[1])
        if now.low is not None and now.high is not None:
            hits["new"].append(now.low <= truth <= now.high)
        if now.these is not None:
            hits["these"].append(now.these[0] <= difficulty.mean() <= now.these[1])
    return [percent(found) for found in hits.values()]


def order(law: str, shape: tuple[int, int], repetitions: int = REPETITIONS // 2) -> str:
    """How often some pair of equal samplers is ordered."""
    draw, _ = LAWS[law]
    random = np.random.default_rng(1)
    ordered = []
    for _ in range(repetitions):
        hard = 3 * draw(random, (shape[0], 1))
        tables = {str(k): hard + draw(random, shape) for k in range(SAMPLERS)}
        ranks = set(rank_intervals(tables, "lower").values())
        ordered.append(bool(ranks) and ranks != {(1, SAMPLERS)})
    return percent(ordered) if rank_intervals(tables, "lower") else "no ranks"


def percent(found: Sequence[bool]) -> str:
    """A frequency; a dash where there was nothing to count."""
    return f"{100 * np.mean(found):.1f}" if found else "–"


def narrow(width: float, n: int = 2000, repetitions: int = 400) -> list[str]:
    """Coverage of log Z and a mean by a normal density of this width in ten dimensions, target of width 1.

    All repetitions, then the fraction whose weights allow errors, and the coverage among those.
    """
    generator = torch.Generator().manual_seed(0)
    hits: dict[str, list[bool]] = {"log Z": [], "mean": []}
    known = []
    for _ in range(repetitions):
        x = width * torch.randn(n, 10, generator=generator, dtype=torch.float64)
        log_w = -0.5 * x.square().sum(1) + 0.5 * (x / width).square().sum(1) + 10 * np.log(width)
        value, error = log_z(log_w)
        energy = 0.5 * x.square().sum(1)
        mean, mean_error = mean_and_error(energy, torch.softmax(log_w, 0))
        hits["log Z"].append(abs(value) <= 1.96 * error)
        hits["mean"].append(abs(mean - 5.0) <= 1.96 * mean_error)
        known.append(errors_known(log_w))
    among = [[hit for hit, allowed in zip(found, known, strict=True) if allowed] for found in hits.values()]
    return [
        *(percent(found) for found in hits.values()),
        percent(known),
        *(percent(found) for found in among),
    ]


def credit(points: int, n: int = 1000, repetitions: int = 12) -> tuple[float, float]:
    """value² − floor² of a sampler whose modes are wrong by 15 %, with so many points; mean and its error.

    Six dimensions, two modes 4 apart; squared 2-Wasserstein distances to n exact draws, the floor being that
    of as many exact draws as the sampler has points.
    """
    random = np.random.default_rng(2)

    def draw(size: int, minor: float) -> np.ndarray:
        x = random.standard_normal((size, 6))
        x[:, 0] += 4.0 * (random.random(size) < minor)
        return x

    scores = []
    for _ in range(repetitions):
        truth = draw(n, 0.35)
        value = exact_transport(draw(points, 0.2), truth, periodic=False).cost
        scores.append(value - exact_transport(draw(points, 0.35), truth, periodic=False).cost)
    return float(np.mean(scores)), float(np.std(scores, ddof=1) / np.sqrt(repetitions))


def row(*cells: str) -> str:
    """A row of a Markdown table."""
    return "| " + " | ".join(cells) + " |"


def page() -> str:
    """The tables, in the order of the module's description."""
    lines = [
        "# How often intervals and orders are right",
        "",
        "Written by `python benchmarks/interval_coverage.py`; 95 % is what intervals promise, 5 % "
        "the most that equal samplers should be ordered. *Before*: bootstrap over systems, then seeds.",
        "",
        row("law of systems", "systems × seeds", "before, new systems", "before, these systems",
            "new systems", "these systems", f"{SAMPLERS} equal samplers, some pair ordered"),
        "|" + "---|" * 7,
    ]  # fmt: skip
    for law in LAWS:
        for shape in SHAPES:
            lines.append(row(law, f"{shape[0]} × {shape[1]}", *cover(law, shape), order(law, shape)))
    lines += [
        "",
        "A normal density of ten dimensions, as wide as the target times the width: coverage in %, then "
        "among the repetitions whose weights allow errors (k̂ ≤ .7, 100 effective points). Of a density that "
        "is too narrow those are the ones that met nothing of the tail: the rule removes most of its errors, "
        "and those that stay are too small.",
        "",
        row("width", "log Z", "mean energy", "errors allowed", "log Z, allowed", "mean energy, allowed"),
        "|" + "---|" * 6,
    ]
    lines += [row(f"{width:g}", *narrow(width)) for width in (1.2, 0.9, 0.8, 0.7, 0.6)]
    lines += [
        "",
        "A sampler whose modes are wrong by 15 %: value² − floor², the floor at as many points. It should "
        "not depend on their number.",
        "",
        row("points", "score", "standard error"),
        "|" + "---|" * 3,
    ]
    lines += [
        row(str(n), f"{score:.2f}", f"{error:.2f}") for n in (100, 300, 1000) for score, error in [credit(n)]
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page())
