"""One cell, start to end: the page to show people."""

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch

from bgbench.core.abstract import AbstractDensitySampler, AbstractSampler, Estimate, Task, refuse_unsupported
from bgbench.core.plugins import build_sampler, plugins
from bgbench.core.types import Card, Reference
from bgbench.energies.openmm import OpenMMEnergy
from bgbench.energies.spotcheck import spot_check
from bgbench.evaluation.audit import audited
from bgbench.evaluation.bench import Bench, generator
from bgbench.evaluation.cell import Cell
from bgbench.evaluation.checks import (
    as_stored,
    refuse_false,
    refuse_foreign,
    refuse_short,
)
from bgbench.evaluation.guard import contained
from bgbench.evaluation.leakage import leakage
from bgbench.evaluation.protocols import Judgement
from bgbench.evaluation.stages import Stages
from bgbench.metrics.sides import evenly

FORWARD_FRAMES = 512
"""Reference frames that −log q is taken over."""


@dataclass(frozen=True)
class Outcome:
    """What a finished cell gives to its record."""

    estimate: Estimate
    judgement: Judgement
    card: Card
    energy: Mapping[str, Any]
    seconds: Mapping[str, float]
    notes: Mapping[str, Any]


def evaluate(cell: Cell, bench: Bench, progress: Callable[[int], None], stages: Stages) -> Outcome:
    """Sampler → proposal → estimator → ensemble → metrics against the reference.

    Raises:
        Unsupported: if the sampler cannot sample this system.
        BrokenContract: if it changed something global, printed, or gave samples of another system.
    """
    with stages("building"):
        sampler = build_sampler(cell.sampler, cell.options)
        estimator = plugins().estimators[cell.estimator].build(cell.estimator_options)
        refuse_unsupported(sampler, bench.system)
    n_samples = min(bench.protocol.n_samples, cell.budget, bench.reference.n_samples)
    task = Task(bench.system, bench.oracle, generator(cell), n_samples, bench.protocol.conventions, progress)

    progress(0)
    with stages("preparing"):
        bench.energy.prepare(cell.budget)
    with stages("sampling"):
        with contained():
            drawn = estimator.estimate(sampler, task)
        refuse_foreign(drawn, bench)
        estimate = as_stored(drawn, bench.system.positions)
        refuse_short(estimate, task)
        refuse_false(estimate, bench)
    with stages("judging"):
        judgement = bench.protocol.judge(estimate, bench.reference, bench.system, generator(cell, "judge"))
    card = sampler.card
    with stages("auditing"), contained():
        told = notes(sampler, task, bench, card)

    return Outcome(
        estimate=estimate,
        judgement=judgement,
        card=card,
        energy={**bench.oracle.describe(), **checked_against_openmm(bench, estimate)},
        seconds=stages.seconds,
        notes=told,
    )


def checked_against_openmm(bench: Bench, estimate: Estimate) -> dict[str, float]:
    """The largest |Δu| (kT) of 32 conformers against OpenMM, where another backend ran."""
    if bench.system.forcefield is None or bench.energy.is_truth:
        return {}
    judge = OpenMMEnergy(bench.system, "Reference")
    return {"openmm_difference": spot_check(bench.energy, judge, estimate.ensemble.x)}


def notes(sampler: AbstractSampler, task: Task, bench: Bench, card: Card) -> dict[str, Any]:
    """Diagnostics that no metric is made of: density audit, forward view, warnings."""
    return {
        **audited(sampler, bench.system),
        **forward(sampler, task, bench.reference),
        **warned(card, bench.system.name),
    }


def forward(sampler: AbstractSampler, task: Task, reference: Reference) -> dict[str, Any]:
    """What the sampler's density says of reference frames: −log q and the forward ESS.

    With x ~ p and w = e^(−u)/q, ESS/N of the weights under q is 1 / (E_p[w] E_p[1/w]): it sees the modes
    that q never visits. At most as many frames as draws that count: looking costs no more than drawing.
    Uncharged: the energies are the reference's own. {} without a density.
    """
    if not isinstance(sampler, AbstractDensitySampler):
        return {}
    pick = evenly(reference.replica, min(FORWARD_FRAMES, task.n_samples, reference.n_samples))
    with torch.no_grad():
        batches = reference.x[pick].double().split(sampler.batch_size(task.system))
        parts = [sampler.log_prob(task, x).cpu() for x in batches]
    log_q = torch.cat(parts).double()
    log_w = -reference.u[pick].double() - log_q
    log_ess = 2 * math.log(len(pick)) - torch.logsumexp(log_w, 0) - torch.logsumexp(-log_w, 0)
    return {
        "forward": {
            "nll": float(-log_q.mean()),
            "nll_per_dimension": float(-log_q.mean()) / (3 * task.system.n_atoms),
            "ess_forward": math.exp(float(log_ess)),
            "frames": len(pick),
        }
    }


def warned(card: Card, sequence: str) -> dict[str, Any]:
    """A sentence where a sampler is asked for a longer peptide than any it was trained on."""
    longest = max((len(name) for name in card.training_sequences), default=0)
    if not 0 < longest < len(sequence) or ":" in sequence:
        return {}
    text = f"{sequence} has {len(sequence)} residues, the longest training peptide {longest}: extrapolated"
    return {"warnings": [text]}


def stamps(cell: Cell, outcome: Outcome, reference: Reference) -> dict[str, Any]:
    """The record's fields that say what was judged against what."""
    return {
        "reference": {
            "system": reference.system,
            "grade": reference.grade,
            "sha256": reference.sha256,
            "frames": reference.n_samples,
            "temperature": cell.temperature,
            **{name: value for name, value in reference.certificate.items() if name == "reweighted"},
        },
        "card": asdict(outcome.card),
        "leakage": leakage(outcome.card, cell.system),
    }
