"""A suite by several samplers at one budget: the headline tables of the book.

`python benchmarks/headline.py dipeptides30` runs samplers and controls (or those of `--samplers`) one after
another into `runs/headline/` (unfinished runs there are resumed), keeps each as one file in
`benchmarks/headline/SUITE/`, writes `benchmarks/headline/SUITE.md`, the figure of error against cost beside
it and the table in `docs/results`. `--protocol paper@1` does the same by the published rules, in
`SUITE-paper`.
`--first-seed 1 --seeds 2` adds two seeds to a kept run, if the runs differ in nothing but their seeds (each
record says which commit made it); without it a kept run is replaced. `--budget 100 --only GGRS …` runs
those peptides at that budget, in `SUITE-100`. `--commands` only prints the commands; `--tables` only writes
the tables of kept runs.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from results import (
    ROOT,
    command_line,
    comparison_table,
    keep_run,
    open_runs,
    page_with,
    replace_between,
    systems_table,
    with_curves,
)

import bgbench
from bgbench.core.files import atomic_file
from bgbench.core.plugins import plugins
from bgbench.evaluation.suites import load_suite
from bgbench.metrics.names import CURVES
from bgbench.reports.comparability import comparability_of
from bgbench.reports.curves import curve, draw_curves, mean_point, stored_curve
from bgbench.runs.runfolder import Plan, RunFolder, new_plan
from bgbench.runs.shared_floors import FOLDER as FLOORS
from bgbench.runs.stores import SUFFIX, write_run_file

KEPT = ROOT / "benchmarks" / "headline"
DEFAULT = "bgbench@1"
SAMPLERS: dict[str, tuple[str, dict[str, str]]] = {
    "verse": ("verse", {}),
    "prose": ("prose", {}),
    "md": ("md", {}),
    "remd": ("remd", {}),
    "softened": ("softened", {}),
    "reference": ("reference", {}),
    "mode-deleted": ("reference", {"variant": "mode-deleted"}),
    "tbg": ("tbg", {}),
}
AFFORDED = {"tbg": 1000}
"""Evaluations a cell up to which a sampler runs unnamed: 10⁴ of 30 tetrapeptides are 100 hours of `tbg`."""


def arguments() -> argparse.Namespace:
    """The parsed command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("suite", help="a suite of `bgbench list suites`")
    parser.add_argument(
        "--samplers", nargs="+", choices=SAMPLERS, help="default: all that the budget affords"
    )
    parser.add_argument("--protocol", default=DEFAULT, choices=list(plugins().protocols))
    parser.add_argument("--budget", type=int, help="evaluations a cell; default: the suite's")
    parser.add_argument("--only", nargs="+", default=[], help="only these systems of the suite")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("runs") / "headline")
    parser.add_argument("--commands", action="store_true", help="print the commands and run nothing")
    parser.add_argument("--tables", action="store_true", help="only write the tables of kept runs")
    args = parser.parse_args()
    args.samplers = args.samplers or affordable_samplers(args)
    return args


def affordable_samplers(args: argparse.Namespace) -> list[str]:
    """The samplers that run unless others are named."""
    budget = args.budget or load_suite(args.suite).budget
    return [name for name in SAMPLERS if budget <= AFFORDED.get(name, budget)]


class TableKey(NamedTuple):
    """Which runs share a table: `only` names their systems, and is empty for the whole suite."""

    suite: str
    protocol: str
    budget: int | None = None
    only: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Name of the table and its folder: the suite, then protocol and budget if not the default ones."""
        name, protocol = self.suite.partition("@")[0], self.protocol.partition("@")[0]
        parts = [name] if self.protocol == DEFAULT else [name, protocol]
        return "-".join([*parts, *self._other_budget])

    @property
    def markers(self) -> list[str]:
        """The lines around the table in its page."""
        words = [self.suite.partition("@")[0]]
        words += [] if self.protocol == DEFAULT else ["--protocol", self.protocol]
        words += [word for number in self._other_budget for word in ("--budget", number)]
        words += ["--only", *self.only] if self.only else []
        return [f"<!-- headline: python benchmarks/headline.py {' '.join(words)} -->", "<!-- /headline -->"]

    @property
    def _other_budget(self) -> list[str]:
        """The budget, where it is not the suite's."""
        return [] if self.budget in (None, load_suite(self.suite).budget) else [str(self.budget)]


def key_of_plan(plan: Plan) -> TableKey:
    """The table of a run."""
    return _key(plan.suite, plan.protocol, plan.budget, {cell.system for cell in plan.cells})


def key_of_arguments(args: argparse.Namespace) -> TableKey:
    """The table of the runs that the command line asks for."""
    return _key(args.suite, args.protocol, args.budget, set(args.only))


def _key(suite: str, protocol: str, budget: int | None, systems: set[str]) -> TableKey:
    all_systems = load_suite(suite).systems
    whole = systems in (set(), set(all_systems))
    return TableKey(
        suite, protocol, budget, () if whole else tuple(name for name in all_systems if name in systems)
    )


def choices(args: argparse.Namespace, name: str) -> dict[str, Any]:
    """The arguments of `bgbench.run` for one run."""
    _, options = SAMPLERS[name]
    common = {"suite": args.suite, "seeds": args.seeds, "protocol": args.protocol, "options": options}
    common |= {key: value for key in ("first_seed", "budget", "only") if (value := getattr(args, key))}
    return {**common, "workers": args.workers, "out": folder(args, name), "resume": True}


def folder(args: argparse.Namespace, name: str) -> Path:
    """The folder that a run is written to."""
    seeds = f"-from-seed-{args.first_seed}" if args.first_seed else ""
    return args.out / f"{key_of_arguments(args).name}{seeds}" / name


def share_floors(out: Path) -> None:
    """Copy the floors that runs beside it have measured into a run's folder."""
    for source in out.parent.parent.glob(f"*/*/{FLOORS}/*.json"):
        target = out / FLOORS / source.name
        if not target.exists():
            with atomic_file(target) as stream:
                stream.write(source.read_bytes())


def common_terms(plan: Plan) -> dict[str, Any]:
    """What runs must have in common for their seeds to be one run's, besides what makes them comparable."""
    cell = plan.cells[0]
    return {
        "sampler": plan.sampler,
        "estimator": plan.estimator,
        "options": cell.options,
        "estimator_options": cell.estimator_options,
        "inputs": plan.inputs.model_dump(exclude={"references"}),
        "systems": sorted({cell.system for cell in plan.cells}),
    }


def seeds_are_missing(args: argparse.Namespace, name: str) -> bool:
    """False where the kept run has the wanted seeds already.

    Raises:
        SystemExit: with `--first-seed` and no kept run to add to, or one that has some of the seeds.
    """
    if not args.first_seed:
        return True
    archive = KEPT / key_of_arguments(args).name / f"{name}{SUFFIX}"
    if not archive.is_file():
        raise SystemExit(f"{archive} is not there to add seeds to; begin without --first-seed")
    wanted = set(range(args.first_seed, args.first_seed + args.seeds))
    present = wanted & {cell.seed for cell in RunFolder.open(archive).plan.cells}
    if present and present != wanted:
        missing = sorted(wanted - present)
        raise SystemExit(f"{archive} has seeds {sorted(present)} already; ask for {missing} alone")
    return not present


def add_seeds(source: Path, archive: Path) -> None:
    """Add the seeds of the run folder `source` to the run of its name in `kept`: plan, records, curve.

    The kept file is replaced at once: whatever stops this, it is the old one or the new one.

    Raises:
        SystemExit: unless both ended well and differ in nothing but their seeds.
    """
    fresh, before = RunFolder.open(source), RunFolder.open(archive / f"{source.name}{SUFFIX}")
    terms = [common_terms(run.plan) for run in (before, fresh)]
    values = [comparability_of(run) for run in (before, fresh)]
    unlike = values[0].differences(values[1], "it", "these")
    unlike += [name for name, value in terms[0].items() if value != terms[1][name]]
    if any(run.missing(retry_failed=True) for run in (before, fresh)):
        unlike.append("cells that failed or are missing")
    if {cell.name for cell in before.plan.cells} & {cell.name for cell in fresh.plan.cells}:
        unlike.append("seeds that it has")
    if unlike:
        raise SystemExit(f"{before.path} cannot take the seeds of {source}: {', '.join(unlike)}")
    counts = [len(run.plan.cells) for run in (before, fresh)]
    points = [mean_point(both, counts) for both in zip(curve(before), curve(fresh), strict=True)]
    systems = list(before.plan.inputs.references)
    records = sorted(
        [*before.records(), *fresh.records()],
        key=lambda record: (systems.index(record.cell.system), record.cell.seed),
    )
    plan = new_plan([record.cell for record in records], before.plan.suite_sha256, "", before.plan.inputs)
    plan = plan.model_copy(update={"sources": before.plan.sources})
    write_run_file(archive / f"{source.name}{SUFFIX}", plan, records, stored_curve(records, points))


def refuse_other_systems(args: argparse.Namespace) -> None:
    """Raise SystemExit if the table's kept runs are of other systems than the command line asks for."""
    wanted = key_of_arguments(args)
    place = KEPT / wanted.name
    for run in open_runs(place):
        present = key_of_plan(run.plan)
        if present.only != wanted.only:
            named = [" ".join(key.only) or "the whole suite" for key in (present, wanted)]
            raise SystemExit(f"{run.path} is of {named[0]}, not of {named[1]}; move {place} away first")


def rewrite_page(page: str, table: str) -> str:
    """A page with a fresh table of the runs kept for `table`."""
    runs = open_runs(KEPT / table)
    return replace_between(page, *key_of_plan(runs[0].plan).markers, comparison_table(runs))


def write_table(table: str) -> None:
    """The page of every system, the figure, and the table of the book."""
    runs = open_runs(KEPT / table)
    if len(runs) < 2:
        print("a table needs two runs or more; they are kept as they end")
        return
    plan = runs[0].plan
    page = (
        f"# `{plan.suite}` at {plan.budget:,} evaluations, {plan.protocol}\n\n{comparison_table(runs)}\n\n"
        f"Every system, mean over seeds, in brackets the noise floor:\n\n{systems_table(runs)}\n"
    )
    (KEPT / f"{table}.md").write_text(page)
    draw_curves(with_curves(runs), CURVES, KEPT / f"{table}.png")
    path = page_with(key_of_plan(plan).markers[0])
    path.write_text(rewrite_page(path.read_text(), table))


def refuse_missing_place(args: argparse.Namespace) -> None:
    """Raise SystemExit if no page has a place for the table: hours of runs end in it."""
    page_with(key_of_arguments(args).markers[0])


def run_and_keep(args: argparse.Namespace, names: Sequence[str], table: str) -> None:
    """Run samplers one after another and keep each run as it ends; print the commands."""
    missing = [name for name in names if not args.commands and seeds_are_missing(args, name)]
    for name in names:
        sampler, run_choices = SAMPLERS[name][0], choices(args, name)
        print(command_line(sampler, run_choices), flush=True)
        if name in missing:
            share_floors(run_choices["out"])
            bgbench.run(sampler, **run_choices)
            keep = add_seeds if args.first_seed else keep_run
            keep(run_choices["out"], KEPT / table)


def main() -> None:
    """Run everything, keep it and write the table."""
    args = arguments()
    table = key_of_arguments(args).name
    if not args.commands and not args.tables:
        refuse_other_systems(args)
        refuse_missing_place(args)
    run_and_keep(args, [] if args.tables else args.samplers, table)
    if not args.commands:
        write_table(table)


if __name__ == "__main__":
    main()
