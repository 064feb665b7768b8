"""A suite by several samplers at one budget: the README's headline tables.

`python benchmarks/headline.py dipeptides30` runs samplers and controls (or those of `--samplers`) one after
another into `runs/headline/` (what is there already is gone on with), keeps their records in
`benchmarks/headline/SUITE/`, writes `benchmarks/headline/SUITE.md` and the README's table.
`--commands` prints what it would run; `--tables` writes tables of what is kept, and runs nothing.
"""

import argparse
import shlex
from pathlib import Path

from results import ROOT, between, comparison_table, opened, systems_table, take

import bgbench

KEPT = ROOT / "benchmarks" / "headline"
SAMPLERS: dict[str, tuple[str, dict[str, str]]] = {
    "verse": ("verse", {}),
    "prose": ("prose", {}),
    "md": ("md", {}),
    "remd": ("remd", {}),
    "reference": ("reference", {}),
    "mode-deleted": ("reference", {"variant": "mode-deleted"}),
}


def arguments() -> argparse.Namespace:
    """What was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("suite", help="a suite of `bgbench list suites`")
    parser.add_argument("--samplers", nargs="+", default=list(SAMPLERS), choices=SAMPLERS)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("runs") / "headline")
    parser.add_argument("--commands", action="store_true", help="print the commands and run nothing")
    parser.add_argument("--tables", action="store_true", help="write tables of what is kept")
    return parser.parse_args()


def command(given: argparse.Namespace, name: str) -> str:
    """One run as it would be typed."""
    sampler, options = SAMPLERS[name]
    words = ["bgbench", "run", sampler, "--suite", given.suite, "--seeds", str(given.seeds)]
    words += [word for option in options.items() for word in ("--set", "=".join(option))]
    words += ["--workers", str(given.workers), "--out", str(folder(given, name)), "--resume"]
    return shlex.join(words)


def folder(given: argparse.Namespace, name: str) -> Path:
    """Where a run goes."""
    return given.out / given.suite.partition("@")[0] / name


def markers(suite: str) -> tuple[str, str]:
    """Around a suite's table in the README."""
    return f"<!-- headline: python benchmarks/headline.py {suite} -->", "<!-- /headline -->"


def rewritten(readme: str, suite: str) -> str:
    """The README with a fresh table of what is kept of `suite`."""
    return between(readme, *markers(suite), comparison_table(opened(KEPT / suite)))


def write(suite: str) -> None:
    """The page of every system, and the README's table."""
    runs = opened(KEPT / suite)
    plan = runs[0].plan
    page = (
        f"# `{plan.suite}` at {plan.budget:,} evaluations, {plan.protocol}\n\n{comparison_table(runs)}\n\n"
        f"Every system, mean over seeds, in brackets the noise floor:\n\n{systems_table(runs)}\n"
    )
    (KEPT / f"{suite}.md").write_text(page)
    path = ROOT / "README.md"
    path.write_text(rewritten(path.read_text(), suite))


def main() -> None:
    """Run, keep, write."""
    given = arguments()
    suite = given.suite.partition("@")[0]
    for name in [] if given.tables else given.samplers:
        print(command(given, name), flush=True)
        if given.commands:
            continue
        sampler, options = SAMPLERS[name]
        bgbench.run(
            sampler,
            suite=given.suite,
            seeds=given.seeds,
            workers=given.workers,
            options=options,
            out=folder(given, name),
            resume=True,
        )
        take(folder(given, name), KEPT / suite)
    if not given.commands:
        write(suite)


if __name__ == "__main__":
    main()
