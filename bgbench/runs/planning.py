"""What a run will do: its cells and the inputs they rest on, checked before anything is started."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bgbench.core.errors import BgbenchError
from bgbench.core.options import refuse_unknown_prefixes, select_prefixed, select_sampler_options
from bgbench.core.plugins import Registry, build_sampler, plugins
from bgbench.core.types import Suite
from bgbench.evaluation.cell import Cell
from bgbench.evaluation.protocols import get_protocol
from bgbench.evaluation.suites import load_suite
from bgbench.references.providers import MissingReference, find_reference, missing
from bgbench.runs.choices import Choices
from bgbench.runs.runfolder import Inputs, Plan
from bgbench.systems.analytic import analytic
from bgbench.systems.peptides import peptide

DEFAULT_SUITE = "dipeptides-mini@1"


def plan_cells(sampler: str, asked: Choices) -> tuple[list[Cell], Suite]:
    """Every (system, seed) of the suite, with defaults filled in.

    Raises:
        BgbenchError: for anything unknown or impossible.
    """
    plugin = plugins().samplers[sampler]
    suite = load_suite(asked.get("suite", DEFAULT_SUITE))
    options = dict(asked.get("options", {}))
    refuse_unknown_prefixes(options)
    seeds = asked.get("seeds", suite.seeds)
    budget = asked.get("budget", suite.budget)
    if budget < 1:
        raise BgbenchError(f"--budget must be at least 1 energy evaluation, got {budget}")
    if seeds < 1:
        raise BgbenchError(f"--seeds must be at least 1, got {seeds}")
    first = asked.get("first_seed", 0)
    if first < 0:
        raise BgbenchError(f"--first-seed must be 0 or more, got {first}")
    shared: Any = {
        "sampler": sampler,
        "estimator": asked.get("estimator") or plugin.estimator,
        "protocol": asked.get("protocol") or suite.protocol,
        "suite": suite.id,
        "budget": budget,
        "energy": suite.energy,
        "temperature": temperature(options, suite),
        "options": select_sampler_options(options),
        "estimator_options": select_prefixed(options, "estimator"),
    }
    systems = chosen(suite, asked.get("only", ()))
    drawn = range(first, first + seeds)
    cells = [Cell(system=name, seed=seed, **shared) for name in systems for seed in drawn]
    check_choices(cells[0])
    return cells, suite


def check_choices(cell: Cell) -> None:
    """Build everything but the sampler once, so that a wrong option fails before the first cell."""
    refuse_second_cut(cell)
    plugins().estimators[cell.estimator].build(cell.estimator_options)
    plugins().energies[cell.energy]


def refuse_second_cut(cell: Cell) -> None:
    """Raise BgbenchError where the protocol would cut weights that the estimator has cut."""
    ours = str(cell.estimator_options.get("cut", "none"))
    theirs = get_protocol(cell.protocol).options.get("cut", "none")
    if "none" not in (ours, theirs):
        raise BgbenchError(
            f"{cell.protocol} cuts the weights itself ('{theirs}'); leave out estimator.cut={ours}, "
            "or take --protocol bgbench@1"
        )


def inputs_of(cell: Cell, systems: list[str], suite: Suite) -> Inputs:
    """Hashes of the references and the weights, and who made the plugins.

    Raises:
        BgbenchError: for a damaged reference, or for all systems that have none.
    """
    sampler = build_sampler(cell.sampler, cell.options)
    return Inputs(
        references=references(cell, systems, suite),
        weights_sha256=sampler.card.weights_sha256,
        plugins={
            "sampler": origin(plugins().samplers, cell.sampler),
            "estimator": origin(plugins().estimators, cell.estimator),
            "energy": origin(plugins().energies, cell.energy),
        },
    )


def references(cell: Cell, systems: list[str], suite: Suite) -> dict[str, str]:
    """Hashes of all references.

    Raises:
        MissingReference: naming every system that has none, and what runs without.
    """
    found, absent = dict[str, str](), list[str]()
    for name in systems:
        try:
            found[name] = reference_sha256(name, cell, suite)
        except MissingReference:
            absent.append(name)
    if not absent:
        return found
    told = missing(absent, cell.temperature, suite.id, suite.forcefield)
    if found:
        told += f"; or run what is at hand: {' '.join(f'--only {name}' for name in found)}"
    raise MissingReference(told)


def reference_sha256(name: str, cell: Cell, suite: Suite) -> str:
    """Hash of a system's reference; of analytic systems, which draw theirs, empty."""
    if name.startswith("analytic:"):
        analytic(name)
        return ""
    return find_reference(peptide(name, cell.temperature, suite.forcefield), suite.id).sha256


def origin(registry: Registry[Any], name: str) -> str:
    """`distribution version` that registered `name`."""
    found = registry.origin(name)
    return f"{found.distribution} {found.version}"


def refuse_other_run(path: Path, plan: Plan, sampler: str, asked: Choices) -> None:
    """A run is resumed as it was planned.

    Raises:
        BgbenchError: if something else is asked for now, or an input changed since.
    """
    cell = plan.cells[0]
    options = dict(asked.get("options", {}))
    refuse_unknown_prefixes(options)
    wanted = {
        "sampler": sampler,
        "suite": load_suite(asked["suite"]).id if "suite" in asked else plan.suite,
        "estimator": asked.get("estimator", plan.estimator),
        "protocol": asked.get("protocol", plan.protocol),
        "budget": asked.get("budget", plan.budget),
        "seeds": asked.get("seeds", seeds_of(plan)),
        "options": select_sampler_options(options) or cell.options,
        "estimator_options": select_prefixed(options, "estimator") or cell.estimator_options,
    }
    planned = {**{key: getattr(cell, key) for key in wanted if key != "seeds"}, "seeds": seeds_of(plan)}
    for key, value in wanted.items():
        if value != planned[key]:
            raise BgbenchError(
                f"{path} was planned with {key} {planned[key]}, not {value}; resume it without that, or "
                f"choose another --out"
            )
    refuse_changed_inputs(path, plan)


def refuse_changed_inputs(path: Path, plan: Plan) -> None:
    """Raise BgbenchError if references, weights, suite or plugins are not those of the plan."""
    if plan.inputs == Inputs():
        return
    cell = plan.cells[0]
    now = inputs_of(cell, list(plan.inputs.references), load_suite(plan.suite, path))
    for name, value in now.model_dump().items():
        before = plan.inputs.model_dump()[name]
        if value != before:
            raise BgbenchError(
                f"{path} was planned with other {name.replace('_', ' ')} ({before}, now {value}): results "
                f"would mix; put the old ones back or start anew with another --out"
            )


def seeds_of(plan: Plan) -> int:
    """Seeds a system."""
    return len({cell.seed for cell in plan.cells})


def only_of(plan: Plan, only: tuple[str, ...]) -> list[Cell]:
    """The plan's cells of the systems `only`; of all where that is empty.

    Raises:
        BgbenchError: for a system that is not in the plan.
    """
    systems = {cell.system for cell in plan.cells}
    unknown = sorted(set(only) - systems)
    if unknown:
        raise BgbenchError(f"--only {', '.join(unknown)}: not in this run ({', '.join(sorted(systems))})")
    return [cell for cell in plan.cells if not only or cell.system in only]


def temperature(options: Mapping[str, str], suite: Suite) -> float:
    """K; the option, else the suite's.

    Raises:
        BgbenchError: if the option is no number, or a system has a temperature of its own.
    """
    text = options.get("temperature")
    if text is None:
        return suite.temperature
    try:
        kelvin = float(text)
    except ValueError as error:
        raise BgbenchError(f"--set temperature={text}: not a number of kelvin") from error
    fixed = [name for name in suite.systems if name.startswith("analytic:")]
    if fixed and kelvin != suite.temperature:
        raise BgbenchError(f"--set temperature={text}: {fixed[0]} has its own temperature; leave it out")
    return kelvin


def chosen(suite: Suite, only: tuple[str, ...]) -> tuple[str, ...]:
    """Systems of the suite.

    Raises:
        BgbenchError: for one that is not in it.
    """
    unknown = sorted(set(only) - set(suite.systems))
    if unknown:
        raise BgbenchError(f"--only {', '.join(unknown)}: not in {suite.id} ({', '.join(suite.systems)})")
    return tuple(name for name in suite.systems if not only or name in only)
