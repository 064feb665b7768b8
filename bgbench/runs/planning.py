"""From a request to a plan, checked before anything is started."""

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from bgbench.core.abstract import AbstractSampler, refuse_unsupported
from bgbench.core.errors import BgbenchError, Unsupported
from bgbench.core.options import RUN_TEMPERATURE, describe_known, describe_options, refuse_misplaced
from bgbench.core.plugins import Origin, build_estimator, build_sampler, call_plugin, plugins
from bgbench.core.types import ForceFieldSpec, Suite
from bgbench.evaluation.cell import Cell
from bgbench.evaluation.protocols import Protocol, get_protocol
from bgbench.evaluation.suites import load_suite
from bgbench.references.providers import MissingReference, find_reference, is_at_hand, missing
from bgbench.references.soundness import refuse_unsound
from bgbench.runs.distributions import code_sha256, source_of
from bgbench.runs.mirroring import NOWHERE
from bgbench.runs.request import DEFAULT_SUITE, RunRequest
from bgbench.runs.runfolder import Inputs, Plan, new_plan
from bgbench.runs.tracking import tracker_for
from bgbench.systems.named import find_member, has_own_reference, is_registered


def resolve(request: RunRequest, tracking_uri: str = "") -> Plan:
    """The plan that `request` stands for: every (system, seed), the defaults filled in, the inputs hashed.

    Args:
        request: what was asked for.
        tracking_uri: where records are mirrored if the request does not say so; empty: in the run folder.

    Raises:
        BgbenchError: for anything unknown, impossible or not on this machine.
    """
    suite = load_suite(request.suite or DEFAULT_SUITE)
    protocol = get_protocol(request.protocol or suite.protocol)
    uri = request.tracking_uri or tracking_uri
    if uri not in ("", NOWHERE):
        tracker_for(uri)
    cells = cells_of(request, suite, protocol, systems_of(request, suite))
    return with_inputs(new_plan(cells, suite.sha256, uri), suite, protocol)


def cells_of(request: RunRequest, suite: Suite, protocol: Protocol, systems: Sequence[str]) -> list[Cell]:
    """A cell for each of `systems` and each seed. No plugin is built and no reference is read.

    Raises:
        BgbenchError: for an unknown sampler or system, or a temperature that a system of the suite cannot
            have.
    """
    first = request.first_seed or 0
    n_seeds = suite.seeds if request.seeds is None else request.seeds
    shared: dict[str, Any] = {
        "sampler": request.sampler,
        "estimator": request.estimator or estimator_for(request),
        "protocol": protocol.id,
        "suite": suite.id,
        "budget": suite.budget if request.budget is None else request.budget,
        "energy": suite.energy,
        "options": request.options,
        "estimator_options": request.estimator_options,
    }
    refuse_other_temperature(request, suite)
    return [
        Cell(system=name, seed=seed, temperature=request.temperature or suite.temperature_of(name), **shared)
        for name in systems
        for seed in range(first, first + n_seeds)
    ]


def estimator_for(request: RunRequest) -> str:
    """The estimator of a run that names none, by its sampler and the sampler's options.

    Raises:
        BgbenchError: for an unknown sampler, or a plugin that raises or returns anything but a name.
    """
    samplers = plugins().samplers
    plugin, origin = samplers[request.sampler], samplers.origin(request.sampler)
    name: object = call_plugin(
        origin, f"choosing the estimator of '{request.sampler}'", plugin.estimator_for, request.options
    )
    if not isinstance(name, str):
        raise BgbenchError(
            f"{origin}: choose_estimator of '{request.sampler}' must return a name, got {name!r}"
        )
    return name


def systems_of(request: RunRequest, suite: Suite) -> tuple[str, ...]:
    """The systems of the suite that were asked for, in the suite's order.

    Raises:
        BgbenchError: for a system that is not in the suite.
    """
    unknown = sorted(set(request.only) - set(suite.systems))
    if unknown:
        end = describe_known(unknown[0], suite.systems, "its systems")
        raise BgbenchError(f"--only {', '.join(unknown)}: not in {suite.id}{end}")
    return tuple(name for name in suite.systems if not request.only or name in request.only)


def refuse_other_temperature(request: RunRequest, suite: Suite) -> None:
    """Raise BgbenchError if a temperature is asked for that a system of the suite cannot have."""
    if request.temperature is None:
        return
    for name in suite.systems:
        if has_own_reference(name) and request.temperature != suite.temperature_of(name):
            raise BgbenchError(
                f"--set temperature={request.temperature:g}: the temperature of {name} is fixed; "
                "leave the option out"
            )


def with_inputs(plan: Plan, suite: Suite, protocol: Protocol) -> Plan:
    """The plan with the hashes of its inputs. Everything is built once: a wrong option fails here.

    Raises:
        BgbenchError: for a wrong option, an estimator that needs what the sampler lacks, a damaged reference,
            or systems without a reference.
    """
    cell = plan.cells[0]
    refuse_second_cut(cell, protocol)
    estimator = build_estimator(cell.estimator, cell.estimator_options)
    plugins().energies[cell.energy]
    refuse_misplaced_options(cell)
    sampler = build_sampler(cell.sampler, cell.options)
    estimator.check_sampler(sampler)
    first_cells = {one.system: one for one in reversed(plan.cells)}
    systems = list(dict.fromkeys(cell.system for cell in plan.cells))
    cells = [first_cells[name] for name in systems]
    refuse_unreadable(sampler, cells, suite)
    origins = origins_of(cell, protocol, systems)
    inputs = Inputs(
        references=references_of(cells, suite),
        weights_sha256=sampler.card.weights_sha256,
        plugins={kind: f"{origins[kind][0].distribution} {origins[kind][0].version}" for kind in KINDS},
        protocol_sha256=protocol.sha256,
        code={
            o.package: code_sha256(o.package) for several in origins.values() for o in several if o.package
        },
    )
    sources = {kind: source_of(origins[kind][0].distribution) for kind in KINDS}
    planned = new_plan(plan.cells, plan.suite_sha256, plan.tracking_uri, inputs)
    return planned.model_copy(update={"sources": sources})


KINDS = ("sampler", "estimator", "energy")
"""What a plan names the distributions of."""


def origins_of(cell: Cell, protocol: Protocol, systems: Sequence[str]) -> dict[str, list[Origin]]:
    """Where everything comes from that has a part in the numbers of a cell, by kind."""
    installed = plugins()
    return {
        "sampler": [installed.samplers.origin(cell.sampler)],
        "estimator": [installed.estimators.origin(cell.estimator)],
        "energy": [installed.energies.origin(cell.energy)],
        "metrics": [installed.metrics.origin(name) for name in protocol.metrics],
        "systems": [installed.systems.origin(name) for name in systems if is_registered(name)],
    }


def refuse_misplaced_options(cell: Cell) -> None:
    """Raise BgbenchError for an option of the sampler that is the run's (`temperatue`) or the estimator's."""
    kind = plugins().samplers[cell.sampler].options
    if kind is None:
        return
    estimators = plugins().estimators[cell.estimator].options
    theirs = [] if estimators is None else [option.name for option in describe_options(estimators)]
    elsewhere = (RUN_TEMPERATURE, *(f"estimator.{name}" for name in theirs))
    refuse_misplaced(cell.options, kind, elsewhere, owner=cell.sampler)


def refuse_unreadable(sampler: AbstractSampler, cells: Sequence[Cell], suite: Suite) -> None:
    """Raise BgbenchError where a sampler does so of the system of one of `cells`, as for a damaged file.

    Systems that it does not support have records that say so, and so has everything else that goes wrong.
    """
    if sampler.card.run_here:
        return
    for cell in cells:
        with suppress(Unsupported):
            refuse_unsupported(sampler, find_member(suite, cell.system, cell.temperature))


def refuse_second_cut(cell: Cell, protocol: Protocol) -> None:
    """Raise BgbenchError where the protocol would cut weights that the estimator has cut."""
    by_estimator = str(cell.estimator_options.get("cut", "none"))
    if "none" not in (by_estimator, protocol.cut):
        raise BgbenchError(
            f"{cell.protocol} cuts the weights itself ('{protocol.cut}'); leave out "
            f"estimator.cut={by_estimator}, or choose --protocol bgbench@1"
        )


def references_of(cells: Sequence[Cell], suite: Suite) -> dict[str, str]:
    """Hashes of the references of `cells`, one of each system, by system.

    Raises:
        MissingReference: naming every system that has none, and what runs without them.
    """
    without = [
        cell
        for cell in cells
        if not is_at_hand(cell.system, cell.temperature, suite.forcefield_of(cell.system))
    ]
    if not without:
        return {cell.system: reference_sha256(cell.system, cell, suite) for cell in cells}
    raise MissingReference(advice_on_missing(without, cells, suite))


def advice_on_missing(without: Sequence[Cell], cells: Sequence[Cell], suite: Suite) -> str:
    """What to do about the cells `without` a reference among `cells`, one of each system."""
    alike: dict[tuple[float, ForceFieldSpec], list[str]] = {}
    for cell in without:
        alike.setdefault((cell.temperature, suite.forcefield_of(cell.system)), []).append(cell.system)
    if len(alike) == 1:
        [((temperature, forcefield), names)] = alike.items()
        advice = missing(names, temperature, suite.id, forcefield)
    else:
        names = [cell.system for cell in without]
        file = suite.id if suite.id in plugins().suites else "SUITE.yaml"
        only = " ".join(f"--only {name}" for name in names)
        advice = (
            f"no reference for {', '.join(names)} on the terms of {suite.id} is at hand; simulate with "
            f"`bgbench data simulate {file} {only} --engine softened`"
        )
    others = " ".join(f"--only {cell.system}" for cell in cells if cell not in without)
    return f"{advice}; or run the systems that have references: {others}" if others else advice


def reference_sha256(name: str, cell: Cell, suite: Suite) -> str:
    """Hash of a system's reference; empty where it is drawn, not stored.

    Raises:
        BgbenchError: for a damaged or unsound reference, or a system of another temperature than the suite's.
    """
    system = find_member(suite, name, cell.temperature)
    if system.temperature != cell.temperature:
        raise BgbenchError(
            f"the temperature of {name} is fixed at {system.temperature:g} K, and {suite.id} has "
            f"{cell.temperature:g} K; write `temperature: {system.temperature:g}` into the suite"
        )
    reference = find_reference(system, suite.id)
    refuse_unsound(system, reference, cell.energy)
    return reference.sha256
