"""One sampler by every estimator for densities, beside MD and parallel tempering, at the same budget.

`python benchmarks/estimators.py verse` runs them one after another into `runs/estimators/` (what is there
already is gone on with), keeps their records in `benchmarks/estimators/`, and writes the README's table.
`--commands` prints what it would run. One cell alone: `--only AA --seeds 1`.
"""

import argparse
from pathlib import Path
from typing import Any

from results import ROOT, rewritten, take, typed

import bgbench

KEPT = ROOT / "benchmarks" / "estimators"
START, END = "<!-- estimators: python benchmarks/estimators.py verse -->", "<!-- /estimators -->"
WEIGHTED = ("snis", "smc-ula", "smc-mala", "self-improve")
WALKS = ("md", "remd")


def arguments() -> argparse.Namespace:
    """What was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("sampler", help="a sampler with a density that can be fine-tuned")
    parser.add_argument("--budget", type=int, default=100_000)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", action="append", default=[], help="only this system; repeat for more")
    parser.add_argument("--set", action="append", default=[], dest="options", metavar="KEY=VALUE")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("runs") / "estimators")
    parser.add_argument("--commands", action="store_true", help="print the commands and run nothing")
    return parser.parse_args()


def runs(given: argparse.Namespace) -> list[tuple[str, str, list[str]]]:
    """Sampler, estimator and options of each run, in the order of the table."""
    weighted = [(given.sampler, estimator, given.options) for estimator in WEIGHTED]
    return [*weighted, *((walk, "mcmc", list[str]()) for walk in WALKS)]


def choices(given: argparse.Namespace, sampler: str, estimator: str, options: list[str]) -> dict[str, Any]:
    """Of one run."""
    return {
        "estimator": estimator,
        "budget": given.budget,
        "seeds": given.seeds,
        "only": tuple(given.only),
        "options": dict(option.split("=", 1) for option in options),
        "workers": given.workers,
        "out": folder(given, sampler, estimator),
        "resume": True,
    }


def folder(given: argparse.Namespace, sampler: str, estimator: str) -> Path:
    """Where a run goes."""
    return given.out / (sampler if estimator == "mcmc" else f"{sampler}-{estimator}")


def main() -> None:
    """Run, keep, write."""
    given = arguments()
    for sampler, estimator, options in runs(given):
        wanted = choices(given, sampler, estimator, options)
        print(typed(sampler, wanted), flush=True)
        if not given.commands:
            take(bgbench.run(sampler, **wanted).folder, KEPT)
    if not given.commands:
        readme = ROOT / "README.md"
        readme.write_text(rewritten(readme.read_text(), KEPT, START, END))


if __name__ == "__main__":
    main()
