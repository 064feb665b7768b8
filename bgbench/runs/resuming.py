"""A run is resumed as it was planned: what is asked for now is compared with the plan, field by field."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bgbench.core.errors import BgbenchError
from bgbench.core.plugins import plugins
from bgbench.evaluation.cell import Cell
from bgbench.evaluation.protocols import get_protocol
from bgbench.evaluation.suites import load_suite
from bgbench.runs.planning import cells_of, with_inputs
from bgbench.runs.request import RunRequest
from bgbench.runs.runfolder import LATER, NO_INPUTS, Inputs, Plan, RunFolder, new_plan

NOT_COMPARED = frozenset({"schema_version", "id", "created", "cells", "sources"})
"""Fields of a plan that are not compared themselves: `id` follows from the other fields and from library
versions, whose change is only a notice; `created` is a date; `sources` say where to get what is compared by
its hash; of `cells` every field is compared."""


@dataclass(frozen=True)
class Difference:
    """A field in which two plans differ, as `budget` or `options.width`, and its value in both."""

    field: str
    planned: Any
    requested: Any


def refuse_another_plan(path: Path, plan: Plan, request: RunRequest) -> None:
    """Compare the plan of the run in `path` with the plan that `request` stands for today.

    Raises:
        BgbenchError: naming the first field in which they differ, and both values.
    """
    suite = load_suite(request.suite) if request.suite else load_suite(plan.suite, path)
    named = request.protocol or ""
    protocol = get_protocol(named) if named else get_protocol(plan.protocol, path)
    complete = completed(request, plan)
    systems = list(dict.fromkeys(cell.system for cell in plan.cells))
    cells = cells_of(complete, suite, protocol, systems)
    today = new_plan(cells, suite.sha256, complete.tracking_uri or "", plan.inputs)
    for difference in differences(plan, today):
        raise BgbenchError(
            f"{path} was planned with {difference.field} {_shown(difference.planned)}, not "
            f"{_shown(difference.requested)}; resume it with what was planned, or choose another --out"
        )
    if plan.inputs == NO_INPUTS:
        return
    for difference in differences(plan, with_known_inputs(with_inputs(today, suite, protocol), plan.inputs)):
        name, _, key = difference.field.removeprefix("inputs.").partition(".")
        of_what = f" of {key}" if key else ""
        raise BgbenchError(
            f"{path} was planned with other {name.replace('_', ' ')}{of_what} "
            f"({_shown(difference.planned)}, now {_shown(difference.requested)}): results would mix; "
            f"{_way_back(path, key if name == 'code' else '')}, or start a new run with another --out"
        )


def _way_back(path: Path, package: str) -> str:
    """What makes an input the plan's again; `package` is one whose code changed, empty for another input.

    Any edit counts, even of a comment: nobody can tell which edits leave the numbers alone, and the ids of
    records say which code they were made with.
    """
    if not package:
        return "restore what was there"
    back = f"any edit of its files counts; go back to the {package} of the plan"
    # Records name the commit of the checkout that holds bgbench and the samplers that come with it.
    with_it = {origin.package for origin in plugins().origins.values() if origin.distribution == "bgbench"}
    records = RunFolder.open(path).readable()[0] if package in with_it else []
    for git in (record.provenance.get("git", {}) for record in records):
        if commit := git.get("commit"):
            uncommitted = " and changes that were not committed" if git.get("dirty") else ""
            return f"{back} (commit {commit[:12]}{uncommitted})"
    return back


def with_known_inputs(plan: Plan, known: Inputs) -> Plan:
    """The plan without the hashes that an older plan's inputs do not know."""
    unknown = {name: getattr(NO_INPUTS, name) for name in LATER if not getattr(known, name)}
    return plan.model_copy(update={"inputs": plan.inputs.model_copy(update=unknown)})


def completed(request: RunRequest, plan: Plan) -> RunRequest:
    """`request` with every field that it leaves open filled in from `plan`.

    Options are filled in one by one: repeating one of them does not drop the others.
    """
    seeds = sorted({cell.seed for cell in plan.cells})
    planned: dict[str, Any] = {
        **plan.cells[0].model_dump(exclude={"system", "seed"}),
        "seeds": len(seeds),
        "first_seed": seeds[0],
        "tracking_uri": plan.tracking_uri,
    }
    requested = request.model_dump(exclude_defaults=True)
    merged = {
        name: {**value, **requested.get(name, {})} if isinstance(value, dict) else requested.get(name, value)
        for name, value in planned.items()
        if name in RunRequest.model_fields
    }
    if len({cell.temperature for cell in plan.cells}) > 1 and request.temperature is None:
        # Each system has its own in the suite, and no request named one for all.
        del merged["temperature"]
    return RunRequest(**{**requested, **merged})


def differences(planned: Plan, requested: Plan) -> list[Difference]:
    """Every field of the plans, of their inputs and of their cells that differs."""
    before, after = _values(planned), _values(requested)
    return [
        Difference(name, before.get(name, "unset"), after.get(name, "unset"))
        for name in {**before, **after}
        if before.get(name) != after.get(name)
    ]


def _values(plan: Plan) -> dict[str, Any]:
    """What is compared, by name. Dictionaries are taken apart; of the cells, the values that occur."""
    values: dict[str, Any] = {}
    for name in Cell.model_fields:
        occurring: list[Any] = []
        for cell in plan.cells:
            if getattr(cell, name) not in occurring:
                occurring.append(getattr(cell, name))
        values |= _flat(name, occurring[0] if len(occurring) == 1 else occurring)
    for name in Plan.model_fields:
        if name not in NOT_COMPARED and name not in Cell.model_fields:
            values |= _flat(name, getattr(plan, name))
    return {**values, "cells": len(plan.cells)}


def _flat(name: str, value: Any) -> dict[str, Any]:
    """`{"a": {"b": 1}}` as `{"a.b": 1}`."""
    value = value.model_dump() if isinstance(value, Inputs) else value
    if not isinstance(value, dict):
        return {name: value}
    return {path: leaf for key, item in value.items() for path, leaf in _flat(f"{name}.{key}", item).items()}


def _shown(value: Any) -> str:
    numbered = isinstance(value, list) and all(isinstance(item, int) for item in value)
    if numbered and value == list(range(value[0], value[0] + len(value))):
        return f"{value[0]} to {value[-1]}"
    return f"{value:g}" if isinstance(value, float) else str(value)


def select(plan: Plan, only: Sequence[str]) -> list[Cell]:
    """The plan's cells of the systems `only`; all of them where that is empty.

    Raises:
        BgbenchError: for a system that is not in the plan.
    """
    systems = {cell.system for cell in plan.cells}
    unknown = sorted(set(only) - systems)
    if unknown:
        raise BgbenchError(f"--only {', '.join(unknown)}: not in this run ({', '.join(sorted(systems))})")
    return [cell for cell in plan.cells if not only or cell.system in only]
