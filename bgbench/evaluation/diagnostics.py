"""What is found out about a sampler and its energies after the judgement. No metric is made of it.

A diagnostic that fails says so in the record (`failed_diagnostics`) and never ends the cell: what has been
judged stays judged.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from bgbench.core.abstract import AbstractDensitySampler, AbstractSampler, Estimate, Task
from bgbench.core.calls import log_prob_in_batches
from bgbench.core.errors import LONGEST, kind_of, shortened, text_of, visible
from bgbench.core.guard import contained
from bgbench.core.types import Card, Reference, System
from bgbench.energies.openmm import OpenMMEnergy
from bgbench.energies.spotcheck import spot_check
from bgbench.evaluation.audit import audit_for_record
from bgbench.evaluation.bench import Bench
from bgbench.evaluation.leakage import sequences_in
from bgbench.metrics.sides import evenly

FORWARD_FRAMES = 512
"""Reference frames that −log q is taken over, at most."""

NOT_COMPUTED = "log_q was read from a file, and nothing here can compute it again"
"""Why the density of a sampler that was not run here is not verified."""

MOST = 0.5
"""Fraction of draws above which their wrong chirality is a warning."""


@dataclass(frozen=True)
class Diagnostics:
    """Findings for the record's `diagnostics`, and those for its `energy`."""

    findings: Mapping[str, Any]
    energy: Mapping[str, Any]


def diagnose(sampler: AbstractSampler, task: Task, bench: Bench, estimate: Estimate) -> Diagnostics:
    """Audit the density, look at reference frames with it, compare energies with OpenMM, and warn.

    Whatever a diagnostic raises is kept under `failed_diagnostics`, by the name of its entry.
    """
    failures: dict[str, str] = {}
    shared = {"task.system.positions": bench.system.positions, "the reference's frames": bench.reference.x}

    def attempt(name: str, diagnostic: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        try:
            with contained(tensors=shared):
                return diagnostic()
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            failures[name] = f"{kind_of(error)}: {text_of(error)}"
            return {}

    findings: dict[str, Any] = {}
    if sampler.card.run_here:
        findings |= audit_for_record(sampler, bench.system, task.n_samples, device=task.device)
        findings |= attempt("forward", lambda: look_forward(sampler, task, bench.reference))
    elif isinstance(sampler, AbstractDensitySampler):
        findings |= {"density": {"verified": False, "error": NOT_COMPUTED}}
    findings |= attempt("warnings", lambda: list_warnings(sampler, bench.system, estimate))
    energy = attempt("openmm_difference", lambda: compare_with_openmm(bench, estimate))
    if failures:
        findings["failed_diagnostics"] = failures
    return Diagnostics(findings, energy)


def look_forward(sampler: AbstractSampler, task: Task, reference: Reference) -> dict[str, Any]:
    """What the sampler's density says of reference frames: −log q and the forward ESS.

    With x ~ p and w = e^(−u)/q, ESS/N of the weights under q is 1 / (E_p[w] E_p[1/w]): it sees the modes
    that q never visits. At most as many frames as draws that count, so that looking costs no more than
    drawing. No energy is charged: the reference has its own.

    Returns:
        `forward`: `nll` (nats), `nll_per_dimension`, `ess_forward` and `frames`; {} for a sampler without a
        density.
    """
    if not isinstance(sampler, AbstractDensitySampler):
        return {}
    index = evenly(reference.replica, min(FORWARD_FRAMES, task.n_samples, reference.n_samples))
    log_q = log_prob_in_batches(sampler, task, reference.x[index].double()).double()
    log_w = -reference.u[index].double() - log_q
    log_ess = 2 * math.log(len(index)) - torch.logsumexp(log_w, 0) - torch.logsumexp(-log_w, 0)
    return {
        "forward": {
            "nll": float(-log_q.mean()),
            "nll_per_dimension": float(-log_q.mean()) / (3 * task.system.n_atoms),
            "ess_forward": math.exp(float(log_ess)),
            "frames": len(index),
        }
    }


def compare_with_openmm(bench: Bench, estimate: Estimate) -> dict[str, float]:
    """`openmm_difference`: the largest |Δu| (kT) of some conformers where another backend ran; else {}."""
    if bench.system.forcefield is None or bench.energy.is_truth:
        return {}
    judge = OpenMMEnergy(bench.system, "Reference")
    return {"openmm_difference": spot_check(bench.energy, judge, estimate.ensemble.x)}


def list_warnings(sampler: AbstractSampler, system: System, estimate: Estimate) -> dict[str, list[str]]:
    """`warnings`: a sentence for each thing that a reader of the record should know; else {}."""
    sentences = [
        *(visible(shortened(str(remark), LONGEST)) for remark in sampler.remarks(system)),
        *warn_of_weights(estimate),
        *warn_of_length(sampler.card, system.name),
        *warn_of_chirality(estimate.diagnostics.get("handedness", {})),
    ]
    return {"warnings": sentences} if sentences else {}


def warn_of_weights(estimate: Estimate) -> list[str]:
    """A sentence where draws have no weight since a number of theirs is not finite."""
    n = estimate.proposal.n_samples
    return [
        f"{count:,} of {n:,} draws have {what} that {verb} not finite, and no weight"
        for key, what, verb in NOT_FINITE
        if (count := estimate.diagnostics.get(key, 0))
    ]


NOT_FINITE = (
    ("nonfinite_positions", "positions", "are"),
    ("nonfinite_log_q", "a log_q", "is"),
)
"""Counts of `round_positions` with their words."""


def warn_of_length(card: Card, sequence: str) -> list[str]:
    """A sentence where the peptide is longer than any that the sampler was trained on.

    >>> warn_of_length(Card("mine", training_sequences=("AA",)), "AAA")
    ['AAA has 3 residues, the longest training peptide 2: extrapolated']
    """
    sequences = [
        other for name in card.training_sequences for other in sequences_in(name) if ":" not in other
    ]
    longest = max(map(len, sequences), default=0)
    if not 0 < longest < len(sequence) or ":" in sequence:
        return []
    return [f"{sequence} has {len(sequence)} residues, the longest training peptide {longest}: extrapolated"]


def warn_of_chirality(rates: Mapping[str, Any]) -> list[str]:
    """A sentence where most draws have wrong chirality, from the rates of `apply_chirality_rule`.

    >>> warn_of_chirality({"wrong_hand": 1.0, "mirrored": 1.0})
    ['100% of the draws have wrong chirality (D-residues); 100% are whole mirror images']
    """
    wrong, mirrored = (rates.get(name) or 0.0 for name in ("wrong_hand", "mirrored"))
    if wrong <= MOST:
        return []
    return [
        f"{wrong:.0%} of the draws have wrong chirality (D-residues); {mirrored:.0%} are whole mirror images"
    ]
