"""A suite by several samplers at one budget: the README's headline tables.

`python benchmarks/headline.py dipeptides30` runs samplers and controls (or those of `--samplers`) one after
another into `runs/headline/` (what is there already is gone on with), keeps their records in
`benchmarks/headline/SUITE/`, writes `benchmarks/headline/SUITE.md`, the figure of error against cost beside
it and the README's table. `--protocol paper@1` does the same by the published rules, in `SUITE-paper`.
`--first-seed 1 --seeds 2` adds two seeds to a kept run, if nothing that was asked for differs but the seeds
(each record says which commit made it); without it a kept run is replaced. `--budget 100 --only GGRS …` runs
those peptides at that budget, in `SUITE-100`. `--commands` prints what it would run; `--tables` only writes
tables of what is kept.
"""

import argparse
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from results import ROOT, between, comparison_table, opened, systems_table, take, typed, with_curves

import bgbench
from bgbench.core.files import atomic_file, write_json
from bgbench.evaluation.protocols import PROTOCOLS
from bgbench.evaluation.suites import load_suite
from bgbench.metrics.names import CURVES
from bgbench.reports.curves import curve, draw_curves, mean_point, write_curve
from bgbench.runs.runfolder import Plan, RunFolder, new_plan
from bgbench.runs.shared_floors import FOLDER as FLOORS

KEPT = ROOT / "benchmarks" / "headline"
DEFAULT = "bgbench@1"
SAMPLERS: dict[str, tuple[str, dict[str, str]]] = {
    "verse": ("verse", {}),
    "prose": ("prose", {}),
    "md": ("md", {}),
    "remd": ("remd", {}),
    "reference": ("reference", {}),
    "mode-deleted": ("reference", {"variant": "mode-deleted"}),
    "tbg": ("tbg", {}),
}
AFFORDED = {"tbg": 1000}
"""Evaluations a cell up to which a sampler runs unasked: 10⁴ of 30 tetrapeptides are 100 hours of `tbg`."""


def arguments() -> argparse.Namespace:
    """What was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("suite", help="a suite of `bgbench list suites`")
    parser.add_argument(
        "--samplers", nargs="+", choices=SAMPLERS, help="default: all that the budget affords"
    )
    parser.add_argument("--protocol", default=DEFAULT, choices=PROTOCOLS)
    parser.add_argument("--budget", type=int, help="evaluations a cell; the suite's if not given")
    parser.add_argument("--only", nargs="+", default=[], help="these systems of the suite alone")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("runs") / "headline")
    parser.add_argument("--commands", action="store_true", help="print the commands and run nothing")
    parser.add_argument("--tables", action="store_true", help="write tables of what is kept")
    given = parser.parse_args()
    given.samplers = given.samplers or affordable(given)
    return given


def affordable(given: argparse.Namespace) -> list[str]:
    """The samplers that run unasked."""
    budget = given.budget or load_suite(given.suite).budget
    return [name for name in SAMPLERS if budget <= AFFORDED.get(name, budget)]


def table_name(asked: argparse.Namespace | Plan) -> str:
    """What a table and its folder are called: the suite, then protocol and budget where they are unusual."""
    name, protocol = asked.suite.partition("@")[0], asked.protocol
    parts = [name] if protocol == DEFAULT else [name, protocol.partition("@")[0]]
    return "-".join([*parts, *unusual(asked.suite, asked.budget)])


def unusual(suite: str, budget: int | None) -> list[str]:
    """The budget, where it is not the suite's."""
    return [] if budget in (None, load_suite(suite).budget) else [str(budget)]


def choices(given: argparse.Namespace, name: str) -> dict[str, Any]:
    """Of one run."""
    _, options = SAMPLERS[name]
    found = {"suite": given.suite, "seeds": given.seeds, "protocol": given.protocol, "options": options}
    found |= {key: asked for key in ("first_seed", "budget", "only") if (asked := getattr(given, key))}
    return {**found, "workers": given.workers, "out": folder(given, name), "resume": True}


def folder(given: argparse.Namespace, name: str) -> Path:
    """Where a run goes."""
    seeds = f"-from-seed-{given.first_seed}" if given.first_seed else ""
    return given.out / f"{table_name(given)}{seeds}" / name


def share_floors(out: Path) -> None:
    """Give a run the floors that runs beside it have measured."""
    for source in out.parent.parent.glob(f"*/*/{FLOORS}/*.json"):
        target = out / FLOORS / source.name
        if not target.exists():
            with atomic_file(target) as stream:
                stream.write(source.read_bytes())


def shared(plan: Plan) -> dict[str, Any]:
    """What runs must have in common for their seeds to be one run's."""
    told = plan.model_dump(exclude={"id", "created", "tracking_uri", "cells"})
    cell = plan.cells[0].model_dump(exclude={"system", "seed"})
    return {**told, **cell, "systems": sorted({cell.system for cell in plan.cells})}


def seeds_to_come(given: argparse.Namespace, name: str) -> bool:
    """False where the kept run has the seeds asked for already.

    Raises:
        SystemExit: with `--first-seed` and no kept run to add to, or one that has some of the seeds.
    """
    if not given.first_seed:
        return True
    kept = KEPT / table_name(given) / name
    if not (kept / "run.json").is_file():
        raise SystemExit(f"{kept} is not there to add seeds to; begin without --first-seed")
    wanted = set(range(given.first_seed, given.first_seed + given.seeds))
    there = wanted & {cell.seed for cell in RunFolder.open(kept).plan.cells}
    if there and there != wanted:
        raise SystemExit(f"{kept} has seeds {sorted(there)} already; ask for {sorted(wanted - there)} alone")
    return not there


def join(source: Path, kept: Path) -> None:
    """Add the seeds of a run to the kept run of its name: plan, records, curve.

    Raises:
        SystemExit: unless both ended well and differ in nothing but their seeds.
    """
    fresh, before = RunFolder.open(source), RunFolder.open(kept / source.name)
    told = [shared(run.plan) for run in (before, fresh)]
    unlike = [name for name, value in told[0].items() if value != told[1][name]]
    if any(run.missing(retry_failed=True) for run in (before, fresh)):
        unlike.append("cells that failed or are missing")
    if {cell.name for cell in before.plan.cells} & {cell.name for cell in fresh.plan.cells}:
        unlike.append("seeds that it has")
    if unlike:
        raise SystemExit(f"{before.path} cannot take the seeds of {source}: {', '.join(unlike)}")
    counts = [len(run.plan.cells) for run in (before, fresh)]
    points = [mean_point(both, counts) for both in zip(curve(before), curve(fresh), strict=True)]
    systems = list(before.plan.inputs.references)
    cells = [*before.plan.cells, *fresh.plan.cells]
    cells.sort(key=lambda cell: (systems.index(cell.system), cell.seed))
    plan = new_plan(cells, before.plan.suite_sha256, "", before.plan.inputs)
    for path in source.glob("cells/*.json"):
        shutil.copy(path, before.path / "cells")
    write_json(before.path / "run.json", plan)
    write_curve(RunFolder(before.path, plan), points)


Kind = tuple[str, str, int | None, tuple[str, ...]]
"""What a table's place follows from: suite, protocol, budget, and the systems if not all of the suite."""


def kind(asked: argparse.Namespace | Plan) -> Kind:
    """Of what was asked for, or is kept."""
    systems = {cell.system for cell in asked.cells} if isinstance(asked, Plan) else set(asked.only)
    known = load_suite(asked.suite).systems
    only = () if systems in (set(), set(known)) else tuple(name for name in known if name in systems)
    return asked.suite, asked.protocol, asked.budget, only


def markers(suite: str, protocol: str, budget: int | None = None, only: Sequence[str] = ()) -> list[str]:
    """Around a table in the README."""
    words = [suite.partition("@")[0]]
    words += [] if protocol == DEFAULT else ["--protocol", protocol]
    words += [word for number in unusual(suite, budget) for word in ("--budget", number)]
    words += ["--only", *only] if only else []
    return [f"<!-- headline: python benchmarks/headline.py {' '.join(words)} -->", "<!-- /headline -->"]


def refuse_other_systems(given: argparse.Namespace) -> None:
    """Raise SystemExit if the table's kept runs are of other systems than what is asked for."""
    place = KEPT / table_name(given)
    for run in opened(place):
        kept, asked = kind(run.plan)[-1], kind(given)[-1]
        if kept != asked:
            named = [" ".join(only) or "the whole suite" for only in (kept, asked)]
            raise SystemExit(f"{run.path} is of {named[0]}, not of {named[1]}; move {place} away first")


def rewritten(readme: str, table: str) -> str:
    """The README with a fresh table of what is kept for `table`."""
    runs = opened(KEPT / table)
    return between(readme, *markers(*kind(runs[0].plan)), comparison_table(runs))


def write(table: str) -> None:
    """The page of every system, the figure, and the README's table."""
    runs = opened(KEPT / table)
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
    path = ROOT / "README.md"
    path.write_text(rewritten(path.read_text(), table))


def main() -> None:
    """Run, keep, write."""
    given = arguments()
    table = table_name(given)
    if not given.commands and not given.tables:  # hours of runs end in a table: it has a place, or none begin
        refuse_other_systems(given)
        between((ROOT / "README.md").read_text(), *markers(*kind(given)), "")
    asked = [] if given.tables else given.samplers
    due = [name for name in asked if not given.commands and seeds_to_come(given, name)]
    for name in asked:
        sampler, wanted = SAMPLERS[name][0], choices(given, name)
        print(typed(sampler, wanted), flush=True)
        if name in due:
            share_floors(wanted["out"])
            bgbench.run(sampler, **wanted)
            keep = join if given.first_seed else take
            keep(wanted["out"], KEPT / table)
    if not given.commands:
        write(table)


if __name__ == "__main__":
    main()
