"""What can be checked of an entry without its arrays: identity, terms, completeness, leakage, numbers."""

import re
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from bgbench.core.errors import BgbenchError
from bgbench.core.hookspecs import Weights
from bgbench.core.plugins import plugins
from bgbench.core.types import Card
from bgbench.evaluation.leakage import Stamp, leakage
from bgbench.evaluation.protocols import get_protocol
from bgbench.evaluation.suites import load_suite
from bgbench.leaderboard.confusables import of_two_alphabets
from bgbench.leaderboard.entries import EntryFiles
from bgbench.leaderboard.folders import LAWS
from bgbench.leaderboard.pins import Pin
from bgbench.leaderboard.problems import Problem
from bgbench.leaderboard.rules import FEWEST_SEEDS, LICENCES
from bgbench.metrics.names import WITH_FLOOR
from bgbench.references.superseded import is_superseded
from bgbench.runs.planning import reference_sha256
from bgbench.runs.records import Record
from bgbench.runs.stores import first_fault

SHORTEST, LONGEST = 1e-9, 1e9
"""Seconds that a stage takes, unless it takes none."""

LARGEST = 1e40
"""Size of a metric, at most: energies of collapsed conformers in float32 lie below."""

SMALLEST = 1e-6
"""Of the distances energy W2 and torus W2, which copies of the whole reference alone fall below."""

FRACTIONS = ("ess", "max_weight_share", "unique_fraction", "validity", "torus_jsd", "tica_jsd")
DISTANCES = (*WITH_FLOOR, "energy_w1")


def weights_of(estimator: str) -> Weights:
    """What the weights of a registered estimator are; `other` of one that is not installed here."""
    estimators = plugins().estimators
    return estimators[estimator].weights if estimator in estimators else "other"


def publishable(files: EntryFiles) -> Iterator[Problem]:
    """The licence lets the board publish, and the pin names what the run says made it."""
    if files.entry.licence not in LICENCES:
        yield Problem("licence", "entry.json", f"{files.entry.licence!r}; known: {', '.join(LICENCES)}")
    made_by = files.plan.inputs.plugins.get("sampler", "")
    pin = Pin.parse(files.entry.pin)
    if f"{pin.distribution} {pin.version}" != made_by:
        yield Problem("pin", "entry.json", f"{files.entry.pin!r} is not of {made_by or 'a known plugin'}")


def same_check(files: EntryFiles) -> Iterator[Problem]:
    """The report of `bgbench check`, where there is one, is of the sampler that ran, with its options."""
    report, plan = files.check, files.plan
    if report is None:
        return
    if (report.kind, report.name) != ("samplers", plan.sampler):
        yield Problem("check", LAWS, f"it is of {report.name!r} ({report.kind}), not of {plan.sampler!r}")
    made_by = plan.inputs.plugins.get("sampler", "")
    if made_by and f"{report.distribution} {report.version}" != made_by:
        yield Problem("check", LAWS, f"it is of {report.distribution} {report.version}, the run of {made_by}")
    if report.code_sha256 and plan.inputs.code and report.code_sha256 not in plan.inputs.code.values():
        yield Problem("check", LAWS, "the sampler's code was another than that of the run")
    options = {name: str(value) for name, value in plan.cells[0].options.items()}
    if report.options != options:
        yield Problem("check", LAWS, f"its options are {report.options}, those of the run {options}")


def known_terms(files: EntryFiles) -> Iterator[Problem]:
    """Suite, version, energy, temperature, protocol and estimator are the board's."""
    plan = files.plan
    if plan.suite not in plugins().suites:
        yield Problem("suite", "run.json", f"unknown suite {plan.suite!r}")
        return
    suite = load_suite(plan.suite)
    if plan.suite_sha256 != suite.sha256:
        yield Problem("suite", "run.json", f"not the board's {plan.suite}: its sha256 differs")
    for cell in plan.cells:
        if (cell.energy, cell.temperature) != (suite.energy, suite.temperature_of(cell.system)):
            yield Problem("suite", cell.name, f"{cell.energy} at {cell.temperature:g} K is not the suite's")
    if plan.protocol not in plugins().protocols:
        yield Problem("protocol", "run.json", f"unknown protocol {plan.protocol!r}")
    elif plan.inputs.protocol_sha256 not in ("", get_protocol(plan.protocol).sha256):
        yield Problem("protocol", "run.json", f"not the board's {plan.protocol}: its sha256 differs")
    if plan.estimator not in plugins().estimators:
        yield Problem("protocol", "run.json", f"unknown estimator {plan.estimator!r}")


def same_identity(files: EntryFiles) -> Iterator[Problem]:
    """Plan and records have the ids that follow from what they hold, and the records are of the plan."""
    plan = files.plan
    for cell in plan.cells:
        shared = (plan.sampler, plan.suite, plan.estimator, plan.protocol, plan.budget)
        if (cell.sampler, cell.suite, cell.estimator, cell.protocol, cell.budget) != shared:
            yield Problem("identity", cell.name, "is not of the plan's sampler, suite, protocol or budget")
    if plan.id not in {plan.expected_id(_versions(record)) for record in files.records}:
        yield Problem("identity", "run.json", "its id is not that of its cells and inputs")
    planned = {cell.name: cell for cell in plan.cells}
    for record in files.records:
        expected = plan.record_id(record.cell, _versions(record))
        if planned.get(record.cell.name) != record.cell or record.id != expected:
            yield Problem("identity", record.cell.name, "its id is not that of its cell and inputs")
        weights = record.card.get("weights_sha256", plan.inputs.weights_sha256)
        if weights != plan.inputs.weights_sha256:
            yield Problem("identity", record.cell.name, "its card names other weights than the plan")


def _versions(record: Record) -> dict[str, str]:
    return {"bgbench": record.provenance.get("bgbench", ""), **record.provenance.get("libraries", {})}


def complete(files: EntryFiles) -> Iterator[Problem]:
    """Every system of the suite with the same seeds, three at least, and a record for every cell."""
    plan = files.plan
    suite = load_suite(plan.suite)
    seeds = {cell.seed for cell in plan.cells}
    if len(seeds) < FEWEST_SEEDS:
        yield Problem("incomplete", "run.json", f"{len(seeds)} seeds a system; {FEWEST_SEEDS} at least")
    if files.run_here and seeds != set(range(len(seeds))):
        text = f"seeds {', '.join(map(str, sorted(seeds)[:5]))}; they are 0, 1, 2 and so on"
        yield Problem("seeds", "run.json", text)
    planned = {(cell.system, cell.seed) for cell in plan.cells}
    absent = sorted({(name, seed) for name in suite.systems for seed in seeds} - planned)
    if absent:
        yield Problem("incomplete", "run.json", f"the plan lacks {absent[0][0]}, seed {absent[0][1]}")
    if planned - {(name, seed) for name in suite.systems for seed in seeds}:
        yield Problem("suite", "run.json", f"cells of systems that are not in {suite.id}")
    recorded = {record.cell.name for record in files.records}
    lacking = [cell.name for cell in plan.cells if cell.name not in recorded]
    if lacking:
        yield Problem("incomplete", f"cells/{lacking[0]}.json", "the cell of the plan has no record")
    if not any(record.status == "ok" for record in files.records):
        yield Problem("incomplete", "cells", "no cell ended well")


def same_reference(files: EntryFiles) -> Iterator[Problem]:
    """Every cell was judged on the reference that the board has, or all on one that it had before.

    What was judged on an earlier one stays published; `board` refuses it where it is new.
    """
    suite = load_suite(files.plan.suite)
    for name in suite.systems:
        cell = next(cell for cell in files.plan.cells if cell.system == name)
        try:
            known = reference_sha256(name, cell, suite)
        except BgbenchError as error:
            yield Problem("reference", name, f"the board lacks it: {error}")
            continue
        judged_on = {files.plan.inputs.references.get(name, "")}
        judged_on |= {
            r.reference.get("sha256", "") for r in files.records if r.cell.system == name and r.status == "ok"
        }
        if judged_on != {known} and not (len(judged_on) == 1 and is_superseded(name, *judged_on)):
            yield Problem("reference", name, "judged on another reference than the board's")


HEAVIER: Mapping[Stamp, tuple[Stamp, ...]] = {
    "unseen": ("similar", "seen"),
    "unknown": ("similar", "seen"),
    "similar": ("seen",),
}
"""Stamps that say more of what a sampler was trained on than each does."""


def honest_leakage(files: EntryFiles) -> Iterator[Problem]:
    """The stamp follows from the training sequences of the card, and all cells carry one card."""
    finished = [record for record in files.records if record.status == "ok"]
    for record in finished:
        try:
            card = Card(**{**record.card, "training_sequences": tuple(record.card["training_sequences"])})
            stamp = leakage(card, record.cell.system)
        except (TypeError, KeyError) as error:
            yield Problem("schema", record.cell.name, f"its card: {error}")
            continue
        # A registered peptide's sequence is not in the record: its stamp may weigh more than its name's does.
        heavier = ":" in record.cell.system and record.leakage in HEAVIER.get(stamp, ())
        if stamp != record.leakage and not heavier:
            yield Problem("leakage", record.cell.name, f"stamped {record.leakage}, its card says {stamp}")
        if record.card != finished[0].card:
            yield Problem("leakage", record.cell.name, "another card than the other cells")


def plausible(files: EntryFiles) -> Iterator[Problem]:
    """Numbers that are possible: fractions, distances, ledgers, times, dates."""
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    try:
        created = datetime.fromisoformat(files.plan.created)
        early = created.tzinfo is not None and created > tomorrow
    except ValueError:
        early = True
    if early:
        yield Problem("implausible", "run.json", f"created {files.plan.created[:40]!r}")
    for record in files.records:
        for text in _odd(record):
            yield Problem("implausible", record.cell.name, text)


def _odd(record: Record) -> Iterator[str]:
    budget = record.budget
    if budget.limit != record.cell.budget or not 0 <= budget.used <= budget.limit:
        yield f"{budget.used:,} evaluations of {budget.limit:,}, the cell has {record.cell.budget:,}"
    if record.status != "ok":
        if not record.error or record.metrics or record.arrays:
            yield "failed, and yet with metrics or arrays, or without a cause"
        return
    calls = sum(map(_evaluations, budget.ledger.values()))
    if calls != budget.used or budget.used == 0:
        yield f"the ledger counts {calls:,.0f} evaluations, the budget {budget.used:,}"
    # An estimator may tune as well; `prepare` cannot have spent more than is booked under `tune`.
    prepared, tuned = record.diagnostics.get("preparing_evaluations", 0), budget.ledger.get("tune", {})
    if not 0 <= prepared <= _evaluations(tuned):
        yield f"{prepared:,} evaluations spent preparing, the ledger counts {_evaluations(tuned):,.0f}"
    if record.arrays is None or record.metrics.get("ess") is None or record.metrics.get("energy_w2") is None:
        yield "finished without arrays, ESS or energy distance"
    yield from _out_of_range(record)
    times = {name: value for name, value in record.seconds.items() if name != "total"}
    if (
        min(record.seconds.values(), default=-1.0) < 0
        or sum(times.values()) > 1.01 * record.seconds["total"] + 1
    ):
        yield "its stages took longer than the whole, or less than nothing"


def _evaluations(kinds: Mapping[str, Mapping[str, float]]) -> float:
    """Evaluations of one phase of a ledger."""
    return sum(kinds.get(kind, {}).get("calls", 0.0) for kind in ("energy", "energy_and_force"))


def _out_of_range(record: Record) -> Iterator[str]:
    for name, value in record.metrics.items():
        if value is not None and name in FRACTIONS and not 0.0 <= value <= 1.0 + 1e-9:
            yield f"{name} is {value:g}, a fraction"
        if value is not None and name in DISTANCES and value < 0.0:
            yield f"{name} is {value:g}, a distance"
    if record.card.get("run_here", True):
        for name in ("energy_w2", "torus_w2"):
            value = record.metrics.get(name)
            if value is not None and 0.0 <= value < SMALLEST:
                yield f"{name} is {value:g}: no finite number of draws is as close"
    floors = [value for value in record.floors.values() if value is not None]
    if any(value < 0.0 for value in floors):
        yield "a floor below zero"
    ess = record.metrics.get("ess") or 0.0
    if weights_of(record.cell.estimator) == "equal" and abs(ess - 1.0) > 1e-9:
        # Points of equal weight are all effective, by definition.
        yield f"{record.cell.estimator} gives no weights, and ess is {ess:g}"


class _AbstractFields(BaseModel):
    """Fields that the board reads; others may stand beside them."""

    model_config = ConfigDict(strict=True, allow_inf_nan=False)


class _Host(_AbstractFields):
    torch_threads: int = Field(default=1, ge=1)


class _Git(_AbstractFields):
    commit: str | None = None


class _Provenance(_AbstractFields):
    bgbench: str = ""
    libraries: dict[str, str] = Field(default_factory=dict)
    git: _Git = _Git()
    host: _Host = _Host()


class _Card(_AbstractFields):
    n_parameters: int = Field(default=0, ge=0, le=10**15)
    training_evaluations: int = Field(default=0, ge=0, le=10**15)
    training_hours: float = Field(default=0.0, ge=0.0, le=1e9)
    run_here: bool = True
    uncharged_evaluations: int = Field(default=0, ge=0)


class _Diagnostics(_AbstractFields):
    density: dict[str, Any] = Field(default_factory=dict)


class _FreeFields(_AbstractFields):
    """The fields of a record that hold anything, as far as the board reads them."""

    provenance: _Provenance
    card: _Card
    diagnostics: _Diagnostics


def _beyond_all_bounds(record: Record) -> Iterator[str]:
    """Numbers that pages cannot add, divide or draw."""
    for name, value in record.seconds.items():
        if 0.0 < value < SHORTEST or value > LONGEST:
            yield f"seconds: {name} is {value:g}, neither 0 nor {SHORTEST:g} to {LONGEST:g}"
    tables = (record.metrics, record.floors, record.skills, record.diagnostics.get("floors_at_n_eff", {}))
    for name, number in ((name, number) for table in tables for name, number in table.items()):
        if number is not None and abs(number) > LARGEST:
            yield f"{name} is {number:g}, beyond {LARGEST:g}"


def well_formed(files: EntryFiles) -> Iterator[Problem]:
    """What the board reads from the free fields of records has the type that it is read as."""
    for record in files.records:
        try:
            _FreeFields.model_validate(record.model_dump(include={"provenance", "card", "diagnostics"}))
        except ValidationError as error:
            yield Problem("schema", record.cell.name, first_fault(error))
        for text in _beyond_all_bounds(record):
            yield Problem("schema", record.cell.name, text)
        if record.status == "ok" and "total" not in record.seconds:
            yield Problem("schema", record.cell.name, "seconds: without a total")


PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+-]{0,99}")
"""Names of samplers, suites, protocols, estimators, and of options."""


def plain_names(files: EntryFiles) -> Iterator[Problem]:
    """What is shown as a name is ASCII, and no word for people mixes alphabets."""
    plan, entry = files.plan, files.entry
    cells = {
        (c.sampler, c.estimator, c.protocol, c.suite, *c.options, *c.estimator_options) for c in plan.cells
    }
    names = {plan.sampler, plan.estimator, plan.protocol, plan.suite}.union(*cells)
    for name in sorted(names):
        if not PLAIN.fullmatch(name):
            yield Problem("name", "run.json", f"{name[:60]!r} is not plain letters, digits and . _ - @ +")
    values = {value for c in plan.cells for value in (*c.options.values(), *c.estimator_options.values())}
    for text in (*entry.authors, entry.title, entry.note, *sorted(values)):
        if word := of_two_alphabets(text):
            yield Problem("name", "entry.json", f"{word[:60]!r} mixes two alphabets")


STAGES: tuple[tuple[Callable[[EntryFiles], Iterator[Problem]], ...], ...] = (
    (well_formed, plain_names),
    (publishable, known_terms, same_check),
    (complete,),
    (same_reference,),
    (same_identity, honest_leakage, plausible),
)
"""In order: a stage is looked at only where those before it have no problem."""
