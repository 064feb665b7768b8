"""How well the packaged references mix, by rank-normalised R̂ too: `python benchmarks/reference_mixing.py`.

Certificates grade by R̂ of Gelman and Rubin with split chains, on the slow coordinates. This page sets beside
it the rank-normalised R̂ of Vehtari et al. (Bayesian Analysis 16, 667 (2021); the larger of bulk and folded),
which heavy tails cannot mislead, and the fewest effective samples of any slow coordinate, which say what a
grade means: a mean has a standard error of 1/√n of the coordinate's own spread. Writes the page beside it;
two minutes on one thread.
"""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

import bgbench
from bgbench.evaluation.suites import load_suite
from bgbench.references.diagnostics import effective_samples, slow_coordinates, split_chains, split_rhat

PAGE = Path(__file__).with_suffix(".md")
SUITES = ("dipeptides30@1", "tetrapeptides30@1")


def by_rank(chains: Tensor) -> Tensor:
    """`chains (c, m, k)` with each column's values replaced by the normal scores of their ranks."""
    c, m, k = chains.shape
    ranks = chains.reshape(c * m, k).argsort(0).argsort(0).double() + 1
    return torch.special.ndtri((ranks - 0.375) / (c * m + 0.25)).reshape(c, m, k)


def rank_rhat(chains: Tensor) -> Tensor:
    """Rank-normalised R̂ of each column: the larger of bulk and tails (folded about the median)."""
    median = chains.flatten(0, 1).median(0).values
    return torch.maximum(split_rhat(by_rank(chains)), split_rhat(by_rank((chains - median).abs())))


def row(name: str) -> tuple[str, str, float, float, float]:
    """Name, grade, largest R̂, largest rank-normalised R̂, fewest effective samples."""
    system = bgbench.peptide(name)
    reference = bgbench.find_reference(system)
    columns = torch.stack(list(slow_coordinates(system, reference.x, reference.tica).values()), 1)
    chains = split_chains(columns.double(), reference.replica)
    worst, by_ranks = float(split_rhat(chains).max()), float(rank_rhat(chains).max())
    return name, reference.grade, worst, by_ranks, float(effective_samples(by_rank(chains)).min())


def summary(rows: Sequence[tuple[str, str, float, float, float]], grade: str) -> str:
    """A sentence about the references of a grade."""
    own = [row for row in rows if row[1] == grade]
    worst, fewest = max(row[3] for row in own), min(row[4] for row in own)
    return (
        f"{len(own)} {grade}: rank-normalised R̂ at most {worst:.3f}, at least {fewest:.0f} effective samples "
        f"of every slow coordinate, so that its mean is known to {fewest**-0.5:.3f} of its spread."
    )


def main() -> None:
    """Measure and write the page."""
    rows = [row(name) for suite in SUITES for name in load_suite(suite).systems]
    grades = [grade for grade in ("gold", "silver", "bronze") if any(row[1] == grade for row in rows)]
    lines = [
        "# How well the packaged references mix",
        "",
        "Made by `python benchmarks/reference_mixing.py`. R̂ as certificates have it, rank-normalised R̂",
        "(Vehtari et al. 2021), and the fewest effective samples among φ, ψ, ω before proline, χ₁ and two",
        "TICs.",
        "",
        *(f"- {summary(rows, grade)}" for grade in grades),
        f"- Rank-normalised R̂ is above 1.01, the bound that its authors propose, for "
        f"{sum(row[3] > 1.01 for row in rows)} of {len(rows)}.",
        "",
        "| peptide | grade | R̂ | rank-normalised R̂ | effective samples |",
        "|---|---|---|---|---|",
        *(f"| {name} | {grade} | {one:.3f} | {two:.3f} | {n:.0f} |" for name, grade, one, two, n in rows),
    ]
    PAGE.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
