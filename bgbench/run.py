"""One cell, start to end: the page to show people."""

import hashlib
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bgbench.audit import audited
from bgbench.core.abstract import AbstractDensitySampler, AbstractEnergy, AbstractSampler, Estimate, Task
from bgbench.core.errors import BrokenContract, NonFinite, Unsupported
from bgbench.core.plugins import energy, plugins
from bgbench.core.types import Card, Ensemble, Reference, Suite, System
from bgbench.energies.meter import MeteredEnergy
from bgbench.energies.openmm import OpenMMEnergy
from bgbench.energies.spotcheck import false_energies, spot_check
from bgbench.guard import contained
from bgbench.leakage import leakage
from bgbench.metrics.sides import evenly
from bgbench.protocols import Judgement, Protocol, get_protocol
from bgbench.records import Cell
from bgbench.references.providers import find_reference
from bgbench.stages import Stages
from bgbench.suites import load_suite
from bgbench.systems.analytic import analytic_reference, analytic_system
from bgbench.systems.bonds import torn
from bgbench.systems.peptides import peptide

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
    suite: Suite


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
    plugin = plugins().samplers[cell.sampler]
    with stages("building"):
        sampler = plugin.build(cell.options)
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
    card = plugin.card(cell.options)
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
        system = peptide(cell.system, cell.temperature, suite.forcefield)
        reference = find_reference(system, suite.id)
    target = energy(system, cell.energy)
    oracle = MeteredEnergy(target, cell.budget)
    return Bench(system, reference, get_protocol(cell.protocol), target, oracle, suite)


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
    uncut = estimate.log_w_uncut
    count = {"nonfinite_positions": int(bad.sum())} if bool(bad.any()) else {}
    proposal = (
        replace(estimate.proposal, x=mended.x) if len(estimate.proposal.x) == len(x) else estimate.proposal
    )
    return replace(
        estimate,
        ensemble=mended,
        proposal=proposal,
        diagnostics={**estimate.diagnostics, **count},
        log_w_uncut=None if uncut is None else uncut.masked_fill(bad, -torch.inf),
    )


def refuse_foreign(estimate: Estimate, bench: Bench) -> None:
    """Raise BrokenContract for samples of another system.

    Those are samples of other atoms, or with every conformer torn that are whole ones of a system of the
    suite with as many atoms.
    """
    system, x = bench.system, estimate.ensemble.x
    if x.shape[1] != system.n_atoms:
        raise BrokenContract(f"the sampler gave {x.shape[1]} atoms, {system.name} has {system.n_atoms}")
    if not system.bonds or not bool(torn(system.bonds, system.positions, x).all()):
        return
    for name in bench.suite.systems:
        other = peptide(name, system.temperature, system.forcefield)
        alike = name != system.name and other.n_atoms == system.n_atoms
        if alike and not bool(torn(other.bonds, other.positions, x).all()):
            raise BrokenContract(f"the sampler gave conformers of {name}, {system.name} was asked for")


def refuse_false(estimate: Estimate, bench: Bench) -> None:
    """Raise BrokenContract if the energies that came with the samples are not theirs."""
    share = false_energies(bench.energy, estimate.ensemble.x, estimate.ensemble.u)
    if share > 0.5:
        raise BrokenContract(f"{share:.0%} of the energies looked at are not those of their conformers")


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
    that q never visits. At most as many frames as draws that count: looking costs no more than drawing.
    Uncharged: the energies are the reference's own. {} without a density.
    """
    if not isinstance(sampler, AbstractDensitySampler):
        return {}
    pick = evenly(reference.replica, min(FORWARD_FRAMES, task.n_samples, reference.n_samples))
    with torch.no_grad():
        batches = reference.x[pick].double().split(sampler.batch_size(task.system))
        parts = [sampler.log_prob(task, x) for x in batches]
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
