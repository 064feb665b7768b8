"""One sampler by every estimator for densities, beside MD and parallel tempering, at the same budget.

`python benchmarks/estimators.py verse` runs them one after another into `runs/estimators/` (unfinished runs
there are resumed), keeps each as one file in `benchmarks/estimators/`, and writes the table of the book.
`--commands` only prints the commands. For one cell: `--only AA --seeds 1`.
"""

import argparse
from pathlib import Path
from typing import Any

from results import ROOT, command_line, keep_run, page_with, rewrite_page

import bgbench

KEPT = ROOT / "benchmarks" / "estimators"
START, END = "<!-- estimators: python benchmarks/estimators.py verse -->", "<!-- /estimators -->"
WEIGHTED = ("snis", "smc-ula", "smc-mala", "self-improve")
WALKS = ("md", "remd")


def arguments() -> argparse.Namespace:
    """The parsed command line."""
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


def runs(args: argparse.Namespace) -> list[tuple[str, str, list[str]]]:
    """Sampler, estimator and options of each run, in the order of the table."""
    weighted = [(args.sampler, estimator, args.options) for estimator in WEIGHTED]
    return [*weighted, *((walk, "mcmc", list[str]()) for walk in WALKS)]


def choices(args: argparse.Namespace, sampler: str, estimator: str, options: list[str]) -> dict[str, Any]:
    """The arguments of `bgbench.run` for one run."""
    return {
        "estimator": estimator,
        "budget": args.budget,
        "seeds": args.seeds,
        "only": tuple(args.only),
        "options": dict(option.split("=", 1) for option in options),
        "workers": args.workers,
        "out": folder(args, sampler, estimator),
        "resume": True,
    }


def folder(args: argparse.Namespace, sampler: str, estimator: str) -> Path:
    """The folder that a run is written to."""
    return args.out / (sampler if estimator == "mcmc" else f"{sampler}-{estimator}")


def main() -> None:
    """Run everything, keep it and write the table."""
    args = arguments()
    for sampler, estimator, options in runs(args):
        run_choices = choices(args, sampler, estimator, options)
        print(command_line(sampler, run_choices), flush=True)
        if not args.commands:
            keep_run(bgbench.run(sampler, **run_choices).folder, KEPT)
    if not args.commands:
        path = page_with(START)
        path.write_text(rewrite_page(path.read_text(), KEPT, START, END))


if __name__ == "__main__":
    main()
