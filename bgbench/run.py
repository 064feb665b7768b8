"""One cell, start to end: the page to show people."""

import hashlib
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bgbench.abstract import AbstractDensitySampler, AbstractEnergy, AbstractSampler, Estimate, Task
from bgbench.audit import audited
from bgbench.energies.meter import MeteredEnergy
from bgbench.energies.openmm import OpenMMEnergy
from bgbench.energies.spotcheck import spot_check
from bgbench.errors import NonFinite, Unsupported
from bgbench.leakage import leakage
from bgbench.plugins import energy, plugins
from bgbench.protocols import Judgement, Protocol, get_protocol
from bgbench.records import Cell
from bgbench.references.providers import find_reference
from bgbench.suites import load_suite
from bgbench.systems.analytic import analytic_reference, analytic_system
from bgbench.types import Card, Ensemble, Reference, System

FORWARD_FRAMES = 512
"""Reference frames that −log q is taken over."""


@dataclass(frozen=True)
class Bench:
    """What a cell is judged on, and the meter that guards it."""

    system: System
    reference: Reference
    protocol: Protocol
    energy: AbstractEnergy
    oracle: MeteredEnergy


@dataclass(frozen=True)
class Outcome:
    """What a finished cell gives to its record."""

    estimate: Estimate
    judgement: Judgement
    card: Card
    energy: Mapping[str, Any]
    seconds: Mapping[str, float]
    notes: Mapping[str, Any]


def evaluate(cell: Cell, bench: Bench, progress: Callable[[int], None]) -> Outcome:
    """Sampler → proposal → estimator → ensemble → metrics against the reference.

    Raises:
        Unsupported: if the sampler cannot sample this system.
    """
    plugin = plugins().samplers[cell.sampler]
    sampler = plugin.build(cell.options)
    estimator = plugins().estimators[cell.estimator].build(cell.estimator_options)
    refuse_unsupported(sampler, bench.system)
    n_samples = min(bench.protocol.n_samples, cell.budget, bench.reference.n_samples)
    task = Task(bench.system, bench.oracle, generator(cell), n_samples, bench.protocol.conventions, progress)

    progress(0)
    began = time.perf_counter()
    bench.energy.prepare(cell.budget)
    started = time.perf_counter()
    estimate = as_stored(estimator.estimate(sampler, task), bench.system.positions)
    sampled = time.perf_counter()
    refuse_short(estimate, task)
    judgement = bench.protocol.judge(estimate, bench.reference, bench.system, generator(cell, "judge"))
    judged = time.perf_counter()

    return Outcome(
        estimate=estimate,
        judgement=judgement,
        card=plugin.card(cell.options),
        energy={**bench.oracle.describe(), **checked_against_openmm(bench, estimate)},
        seconds={"preparing": started - began, "sampling": sampled - started, "judging": judged - sampled},
        notes=notes(sampler, task, bench, plugin.card(cell.options)),
    )


def open_bench(cell: Cell, folder: Path | None = None) -> Bench:
    """The system, its reference, the protocol and the metered energy of a cell of the run in `folder`.

    Raises:
        BgbenchError: for anything unknown or not at hand, saying how to get it.
    """
    suite = load_suite(cell.suite, folder)
    if cell.system.startswith("analytic:"):
        system = analytic_system(cell.system)
        reference = analytic_reference(cell.system)
    else:
        system = System.from_sequence(cell.system, cell.temperature, suite.forcefield)
        reference = find_reference(system, suite.id)
    target = energy(system, cell.energy)
    return Bench(system, reference, get_protocol(cell.protocol), target, MeteredEnergy(target, cell.budget))


def generator(cell: Cell, purpose: str = "sample") -> torch.Generator:
    """The cell's generator. It does not depend on the sampler: common random numbers where shared."""
    text = f"{cell.suite}/{cell.system}/{cell.seed}/{purpose}"
    seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1
    return torch.Generator().manual_seed(seed)


def refuse_unsupported(sampler: AbstractSampler, system: System) -> None:
    """Raise Unsupported with the sampler's own reason."""
    reason = sampler.supports(system)
    if reason:
        raise Unsupported(f"{system.name}: {reason}")


def as_stored(estimate: Estimate, start: Tensor) -> Estimate:
    """Positions in the precision in which arrays are kept, so that a replay judges what was judged.

    Conformers without finite positions get no weight, u = +inf and the start structure, and are counted.

    Raises:
        NonFinite: if no conformer has finite positions.
    """
    ensemble = estimate.ensemble
    x = ensemble.x.float()
    bad = ~torch.isfinite(x).flatten(1).all(1)
    if bool(bad.all()):
        raise NonFinite(f"none of {len(x)} conformers has finite positions")
    mended = Ensemble(
        x=torch.where(bad[:, None, None], start.float(), x),
        u=ensemble.u.masked_fill(bad, torch.inf),
        log_w=ensemble.log_w.masked_fill(bad, -torch.inf),
    )
    count = {"nonfinite_positions": int(bad.sum())} if bool(bad.any()) else {}
    proposal = (
        replace(estimate.proposal, x=mended.x) if len(estimate.proposal.x) == len(x) else estimate.proposal
    )
    return replace(
        estimate, ensemble=mended, proposal=proposal, diagnostics={**estimate.diagnostics, **count}
    )


def refuse_short(estimate: Estimate, task: Task) -> None:
    """Raise ValueError if the sampler returned fewer frames than the protocol scores."""
    if estimate.ensemble.n_samples < task.n_samples:
        raise ValueError(
            f"the sampler returned {estimate.ensemble.n_samples} frames, the protocol scores {task.n_samples}"
        )


def checked_against_openmm(bench: Bench, estimate: Estimate) -> dict[str, float]:
    """The largest |Δu| (kT) of 32 conformers against OpenMM, where another backend ran."""
    if bench.system.forcefield is None or isinstance(bench.energy, OpenMMEnergy):
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
    that q never visits. Uncharged: the energies are the reference's own. {} without a density.
    """
    if not isinstance(sampler, AbstractDensitySampler):
        return {}
    pick = torch.arange(0, reference.n_samples, max(1, reference.n_samples // FORWARD_FRAMES))
    with torch.no_grad():
        parts = [sampler.log_prob(task, reference.x[part].double()) for part in pick.split(sampler.batch_size(task.system))]
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
        },
        "card": asdict(outcome.card),
        "leakage": leakage(outcome.card, cell.system),
    }
