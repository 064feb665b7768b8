"""From a request to a plan, checked before anything is started."""

from collections.abc import Sequence
from typing import Any

from bgbench.core.abstract import AbstractSampler
from bgbench.core.errors import BgbenchError
from bgbench.core.plugins import Registry, build_estimator, build_sampler, plugins
from bgbench.core.types import Suite
from bgbench.evaluation.cell import Cell
from bgbench.evaluation.protocols import get_protocol
from bgbench.evaluation.suites import load_suite
from bgbench.references.providers import MissingReference, find_reference, is_at_hand, missing
from bgbench.runs.request import DEFAULT_SUITE, RunRequest
from bgbench.runs.runfolder import Inputs, Plan, new_plan
from bgbench.systems.analytic import analytic, is_analytic
from bgbench.systems.peptides import peptide
from bgbench.systems.residues import parse_sequence


def resolve(request: RunRequest, tracking_uri: str = "") -> Plan:
    """The plan that `request` stands for: every (system, seed), the defaults filled in, the inputs hashed.

    Args:
        request: what was asked for.
        tracking_uri: where records are mirrored if the request does not say so.

    Raises:
        BgbenchError: for anything unknown, impossible or not on this machine.
    """
    suite = load_suite(request.suite or DEFAULT_SUITE)
    plan = new_plan(
        cells_of(request, suite, systems_of(request, suite)),
        suite.sha256,
        request.tracking_uri or tracking_uri,
    )
    return with_inputs(plan, suite)


def cells_of(request: RunRequest, suite: Suite, systems: Sequence[str]) -> list[Cell]:
    """A cell for each of `systems` and each seed. No plugin is built and no reference is read.

    Raises:
        BgbenchError: for an unknown sampler, or a temperature that a system of the suite cannot have.
    """
    first = request.first_seed or 0
    n_seeds = suite.seeds if request.seeds is None else request.seeds
    shared: dict[str, Any] = {
        "sampler": request.sampler,
        "estimator": request.estimator or plugins().samplers[request.sampler].estimator,
        "protocol": request.protocol or suite.protocol,
        "suite": suite.id,
        "budget": suite.budget if request.budget is None else request.budget,
        "energy": suite.energy,
        "temperature": temperature_of(request, suite),
        "options": request.options,
        "estimator_options": request.estimator_options,
    }
    return [
        Cell(system=name, seed=seed, **shared) for name in systems for seed in range(first, first + n_seeds)
    ]


def systems_of(request: RunRequest, suite: Suite) -> tuple[str, ...]:
    """The systems of the suite that were asked for, in the suite's order.

    Raises:
        BgbenchError: for a system that is not in the suite.
    """
    unknown = sorted(set(request.only) - set(suite.systems))
    if unknown:
        raise BgbenchError(f"--only {', '.join(unknown)}: not in {suite.id} ({', '.join(suite.systems)})")
    return tuple(name for name in suite.systems if not request.only or name in request.only)


def temperature_of(request: RunRequest, suite: Suite) -> float:
    """The temperature asked for, else the suite's, in K.

    Raises:
        BgbenchError: if it differs from the suite's and a system has a temperature of its own.
    """
    if request.temperature is None:
        return suite.temperature
    fixed = [name for name in suite.systems if is_analytic(name)]
    if fixed and request.temperature != suite.temperature:
        raise BgbenchError(
            f"--set temperature={request.temperature:g}: the temperature of {fixed[0]} is fixed; "
            "leave the option out"
        )
    return request.temperature


def with_inputs(plan: Plan, suite: Suite) -> Plan:
    """The plan with the hashes of its inputs. Everything is built once: a wrong option fails here.

    Raises:
        BgbenchError: for a wrong option, a damaged reference, or systems without a reference.
    """
    cell = plan.cells[0]
    refuse_second_cut(cell)
    build_estimator(cell.estimator, cell.estimator_options)
    plugins().energies[cell.energy]
    sampler = build_sampler(cell.sampler, cell.options)
    systems = list(dict.fromkeys(cell.system for cell in plan.cells))
    return new_plan(
        plan.cells, plan.suite_sha256, plan.tracking_uri, inputs_of(cell, sampler, systems, suite)
    )


def refuse_second_cut(cell: Cell) -> None:
    """Raise BgbenchError where the protocol would cut weights that the estimator has cut."""
    by_estimator = str(cell.estimator_options.get("cut", "none"))
    by_protocol = get_protocol(cell.protocol).options.get("cut", "none")
    if "none" not in (by_estimator, by_protocol):
        raise BgbenchError(
            f"{cell.protocol} cuts the weights itself ('{by_protocol}'); leave out "
            f"estimator.cut={by_estimator}, or choose --protocol bgbench@1"
        )


def inputs_of(cell: Cell, sampler: AbstractSampler, systems: list[str], suite: Suite) -> Inputs:
    """Hashes of the references and the weights, and the distributions that the plugins come from.

    Raises:
        BgbenchError: for a damaged reference, or naming all systems without a reference.
    """
    return Inputs(
        references=references_of(cell, systems, suite),
        weights_sha256=sampler.card.weights_sha256,
        plugins={
            "sampler": origin_of(plugins().samplers, cell.sampler),
            "estimator": origin_of(plugins().estimators, cell.estimator),
            "energy": origin_of(plugins().energies, cell.energy),
        },
    )


def references_of(cell: Cell, systems: list[str], suite: Suite) -> dict[str, str]:
    """Hashes of all references, by system.

    Raises:
        MissingReference: naming every system that has none, and what runs without them.
    """
    without = [
        name
        for name in systems
        if not is_analytic(name) and not is_at_hand(parse_sequence(name), cell.temperature, suite.forcefield)
    ]
    if not without:
        return {name: reference_sha256(name, cell, suite) for name in systems}
    advice = missing(without, cell.temperature, suite.id, suite.forcefield)
    if len(without) < len(systems):
        names = " ".join(f"--only {name}" for name in systems if name not in without)
        advice += f"; or run the systems that have references: {names}"
    raise MissingReference(advice)


def reference_sha256(name: str, cell: Cell, suite: Suite) -> str:
    """Hash of a system's reference; empty for analytic systems, whose reference is drawn, not stored."""
    if is_analytic(name):
        analytic(name)
        return ""
    return find_reference(peptide(name, cell.temperature, suite.forcefield), suite.id).sha256


def origin_of(registry: Registry[Any], name: str) -> str:
    """`distribution version` of the plugin that registered `name`."""
    origin = registry.origin(name)
    return f"{origin.distribution} {origin.version}"
