"""One cell, start to end: the page to show people."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch

from bgbench.core.abstract import Estimate, Task, refuse_unsupported
from bgbench.core.calls import call_estimate, call_prepare
from bgbench.core.counting import count_evaluations
from bgbench.core.devices import CPU
from bgbench.core.errors import BrokenContract, BudgetExhausted
from bgbench.core.guard import contained
from bgbench.core.plugins import build_estimator, build_sampler, plugins
from bgbench.core.types import Card
from bgbench.estimators.reservoir import thin_estimate
from bgbench.evaluation.bench import Bench, generator
from bgbench.evaluation.cell import Cell
from bgbench.evaluation.checks import (
    refuse_false_energies,
    refuse_other_system,
    refuse_too_few_frames,
    refuse_unmetered,
    refuse_unpaid_frames,
    round_positions,
)
from bgbench.evaluation.diagnostics import Diagnostics, diagnose
from bgbench.evaluation.judging import Judgement, judge
from bgbench.evaluation.leakage import leakage
from bgbench.evaluation.stages import Stages, Watch
from bgbench.systems.topology import letters_of


@dataclass(frozen=True)
class Outcome:
    """What a finished cell hands to its record.

    Attributes:
        estimate: the weighted ensemble that was judged.
        judgement: its scores.
        card: what the sampler declares of itself.
        diagnostics: what else is known of sampler and energies.
        energy: the energy backend that ran.
        seconds: by stage.
        precision: of the sampler's matrix products, as it declares it.
    """

    estimate: Estimate
    judgement: Judgement
    card: Card
    diagnostics: Diagnostics
    energy: Mapping[str, Any]
    seconds: Mapping[str, float]
    precision: str


def evaluate(bench: Bench, watch: Watch, stages: Stages, device: torch.device = CPU) -> Outcome:
    """Evaluate one cell: sampler → proposal → estimator → ensemble → metrics against the reference.

    Args:
        bench: the cell and what it is judged on.
        watch: what is called on the way.
        stages: where seconds are booked; after a failure it says in which stage that was.
        device: where the sampler is to compute.

    Raises:
        Unsupported: if the sampler cannot sample this system.
        BudgetExhausted: if it asks for more energies than the budget has.
        NonFinite: if none of its conformers has finite positions.
        BrokenContract: if it changed something global, printed, evaluated energies past the meter, or gave
            samples or energies that are not this system's.
        BgbenchError: if the ensemble cannot be judged.
    """
    cell = bench.cell
    with stages("building"), contained(may_draw=True):
        sampler = build_sampler(cell.sampler, cell.options)
        estimator = build_estimator(cell.estimator, cell.estimator_options)
        refuse_unsupported(sampler, bench.system)

    n_samples = min(bench.protocol.n_samples, cell.budget, bench.reference.n_samples)
    conventions = bench.protocol.conventions
    task = Task(
        bench.system,
        bench.oracle,
        generator(cell),
        n_samples,
        conventions,
        watch.advanced,
        device,
        bench.protocol.thinning,
    )
    watch.advanced(0)

    with stages("preparing"), contained(f"the energy '{cell.energy}'"):
        bench.energy.prepare(cell.budget)

    # The same tensor is that of all cells of a process.
    shared = {"task.system.positions": bench.system.positions}
    who = blamed(cell)
    with stages("sampling"):
        with refuse_energy(bench), contained(who, shared), count_evaluations() as made:
            sampler = call_prepare(sampler, task)
            spent = bench.oracle.used
            if not bench.oracle.remaining:
                raise BudgetExhausted(f"prepare spent all {spent:,} evaluations; none is left to weight")
            task = replace(task, n_samples=min(n_samples, bench.oracle.remaining))
            raw = call_estimate(estimator, sampler, task)
        refuse_unmetered(made.n, bench.oracle.used, who)
        refuse_other_system(raw, bench, who)
        estimate = round_positions(raw, bench.system.positions, who)
        if sampler.card.run_here:
            refuse_too_few_frames(estimate, task, who)
        refuse_false_energies(estimate, bench, who)
        refuse_unpaid_frames(estimate, task, bench.oracle.used, who)
        estimate = thin_estimate(estimate, task)
        backend = bench.oracle.describe()

    with stages("judging"):
        judgement = judge(estimate, bench)
        watch.judged(judgement)

    with stages("auditing"):
        diagnostics = diagnose(sampler, task, bench, estimate)
        if spent:
            findings = {**diagnostics.findings, "preparing_evaluations": spent}
            diagnostics = replace(diagnostics, findings=findings)

    return Outcome(
        estimate=estimate,
        judgement=judgement,
        card=sampler.card,
        diagnostics=diagnostics,
        energy={**backend, **diagnostics.energy},
        seconds=stages.seconds,
        precision=sampler.precision,
    )


def blamed(cell: Cell) -> str:
    """Whose code runs while a cell samples: the sampler's, and the estimator's where that is a plugin's."""
    sampler = f"the sampler '{cell.sampler}'"
    own = plugins().estimators.origin(cell.estimator).plugin == "core"
    return sampler if own else f"{sampler} or the estimator '{cell.estimator}'"


@contextmanager
def refuse_energy(bench: Bench) -> Iterator[None]:
    """Where the block did what none may, find out whether it was the energy that the sampler asked.

    Raises:
        BrokenContract: as the block did, or naming the energy if that does it alone.
    """
    try:
        yield
    except BrokenContract:
        origin, x = plugins().energies.origin(bench.cell.energy), bench.system.positions[None]
        with contained(f"{origin}: energy '{bench.cell.energy}'"):
            bench.energy.energy(x)
            bench.energy.energy_and_force(x)
        raise


def stamps(cell: Cell, outcome: Outcome, bench: Bench) -> dict[str, Any]:
    """The record's fields that say what was judged against what."""
    reference = bench.reference
    return {
        "reference": {
            "system": reference.system,
            "grade": reference.grade,
            "sha256": reference.sha256,
            "frames": reference.n_samples,
            "temperature": cell.temperature,
            **{name: value for name, value in reference.certificate.items() if name == "reweighted"},
            **({"half": "second"} if bench.judged_by_half else {}),
        },
        "card": asdict(outcome.card),
        "leakage": leakage(outcome.card, cell.system, letters_of(bench.system.atoms)),
    }
