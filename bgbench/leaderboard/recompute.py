"""A cell's arrays checked by trusted code: every metric again, and the energies of a random subset."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from bgbench.core.errors import BgbenchError
from bgbench.core.files import sha256_file
from bgbench.estimators.weights import cut_weights
from bgbench.evaluation.bench import Bench, open_bench
from bgbench.evaluation.floors import FloorKey, Scores
from bgbench.evaluation.judging import Judgement, judge
from bgbench.leaderboard.archives import read_archive
from bgbench.leaderboard.checks import weights_of
from bgbench.leaderboard.copies import Copies, copies_of, shapes_of, too_many
from bgbench.leaderboard.entries import EntryFiles
from bgbench.leaderboard.normalisation import LogZ, trusted_log_z
from bgbench.leaderboard.problems import Problem, Refused
from bgbench.leaderboard.rules import (
    CLASH,
    ENERGY_RELATIVE,
    ENERGY_TOLERANCE,
    FALSE_FRACTION,
    FOUND,
    HEAVIEST,
    METRIC_RELATIVE,
    WEIGHT_TOLERANCE,
)
from bgbench.leaderboard.suspicion import Reach, reach_of
from bgbench.reports.replay import agree, find_differences, same_platform
from bgbench.runs.estimates import estimate_of
from bgbench.runs.process import limited
from bgbench.runs.records import Record
from bgbench.systems.chirality import is_wrong
from bgbench.systems.faults import BITS, find_faults, has_fault

ANNEALED = ("smc-ula", "smc-mala", "self-improve")
"""Estimators that may give particles no weight on their way."""


@dataclass(frozen=True)
class CellCheck:
    """The check of one cell.

    Attributes:
        problems: what is wrong.
        energies: how many were evaluated again.
        energy_difference: the largest |Δu| (kT) of these.
        floors: those measured for it, which the entry's other cells need not measure again.
        reach: what exact draws score on its system; None for controls, which may draw from the reference.
        copies: how many of its conformers are copies of the reference's; None where none are.
        log_z: log Z of its weights, where its error can be trusted.
    """

    problems: tuple[Problem, ...]
    energies: int = 0
    energy_difference: float = 0.0
    floors: Mapping[FloorKey, Scores] = field(default_factory=dict)
    reach: Reach | None = None
    copies: Copies | None = None
    log_z: LogZ | None = None


def array_file(files: EntryFiles, record: Record, elsewhere: Path | None) -> Path | None:
    """The cell's array file: in the folder, or among downloads in `elsewhere` (by name or sha256)."""
    own = files.run.arrays_path(record.cell)
    if own.is_file() or elsewhere is None or record.arrays is None:
        return own if own.is_file() else None
    places = [
        elsewhere / files.name / own.name,
        elsewhere / f"{record.arrays.sha256}.npz",
        elsewhere / own.name,
    ]
    return next((path for path in places if path.is_file() and not path.is_symlink()), None)


def recompute(
    files: EntryFiles,
    record: Record,
    path: Path,
    floors: Mapping[FloorKey, Scores],
    reach: Reach | None = None,
) -> CellCheck:
    """Everything that follows from a cell's arrays; stops at the first kind of thing wrong.

    Args:
        files: the entry.
        record: of the cell.
        path: its arrays.
        floors: known already; the others are measured.
        reach: what exact draws score on its system, if that is known already.
    """
    where = f"arrays/{record.cell.name}.npz"
    if record.arrays is None or sha256_file(path) != record.arrays.sha256:
        return CellCheck((Problem("hash", where, "not the file that the record names"),))
    try:
        stored = read_archive(path, where)
    except Refused as refused:
        return CellCheck(refused.problems)
    with limited(int(record.provenance.get("host", {}).get("torch_threads", 1))):
        bench = open_bench(record.cell, measured=floors, judged_by=record.reference)
        for check in (shapes, thinning, draws, weights):
            if problems := tuple(check(record, stored, bench)):
                return CellCheck(problems)
        copied = [] if files.entry.control else reference_copies(stored, bench)
        if problems := tuple(too_many(copied, record.cell.name)):
            return CellCheck(problems)
        evaluation = energies(stored, bench, record.arrays.sha256)
        if evaluation.fault:
            problem = Problem("energies", where, evaluation.fault)
            return CellCheck((problem,), evaluation.evaluated, evaluation.largest)
        try:
            judged = judge(estimate_of(stored, record), bench)
        except BgbenchError as error:
            problem = Problem("metrics", record.cell.name, f"cannot be judged: {error}")
            return CellCheck((problem,), evaluation.evaluated, evaluation.largest)
        problems = tuple(metrics(record, judged))
        if reach is None and not problems and bench.system.atoms and not files.entry.control:
            reach = reach_of(bench, int(judged.diagnostics["frames_compared"]))
        return CellCheck(
            problems,
            evaluation.evaluated,
            evaluation.largest,
            judged.measured.scores,
            reach,
            next(iter(copied), None),
            log_z_of(record, stored, bench),
        )


def shapes(record: Record, stored: Mapping[str, np.ndarray], bench: Bench) -> Iterator[Problem]:
    """No more finite conformers of the system than its budget, everything else aligned with them."""
    where = f"arrays/{record.cell.name}.npz"
    x = stored["x"]
    k = len(x)
    n = len(stored["u"]) if "at" in stored else k
    if x.ndim != 3 or x.shape[1:] != (bench.system.n_atoms, 3) or not 2 <= k <= n <= record.cell.budget:
        yield Problem(
            "shape", where, f"x is {x.shape}: {bench.system.n_atoms} atoms, {record.cell.budget:,} allowed"
        )
        return
    for name, values in stored.items():
        length = k if name in ("x", "at") or ("at" in stored and name == "group") else n
        if name != "x" and values.shape != (length,):
            yield Problem("shape", where, f"{name} is {values.shape}, not ({length},)")
            return
    left = record.cell.budget - int(record.diagnostics.get("preparing_evaluations", 0))
    scored = min(bench.protocol.n_samples, left, bench.reference.n_samples)
    if k < scored:
        yield Problem("shape", where, f"{k:,} conformers, the protocol scores {scored:,}")
    if not np.isfinite(x).all():
        yield Problem("nonfinite", where, "positions that are not finite")
    for name in ("u", "log_w", "log_q"):
        if name in stored and np.isnan(stored[name]).any():
            yield Problem("nonfinite", where, f"{name} holds NaN")
    if np.isneginf(stored["u"]).any() or np.isposinf(stored["log_w"]).any():
        yield Problem("nonfinite", where, "an energy of −infinity or a weight of +infinity")
    if not np.isfinite(stored["log_w"]).any():
        yield Problem("weights", where, "no point has a weight")


def thinning(record: Record, stored: Mapping[str, np.ndarray], bench: Bench) -> Iterator[Problem]:
    """Conformers of a thinned estimate are as many as the protocol says, drawn by the weights of all draws,
    and what is said of their faults is so.

    Of draws whose conformers are not stored, nothing but their numbers can be checked.
    """
    where = f"arrays/{record.cell.name}.npz"
    rule = bench.protocol.thinning
    if "at" not in stored:
        if "faults" in stored:
            yield Problem("shape", where, "faults of draws without `at`, the places of the conformers")
        elif rule is not None and len(stored["x"]) > rule.most:
            yield Problem("shape", where, f"{len(stored['x']):,} conformers, {rule.most:,} are judged")
        return
    at, n = stored["at"], len(stored["u"])
    if rule is None or len(at) != rule.most or n <= rule.most:
        yield Problem("shape", where, f"{len(at):,} conformers of {n:,} draws; no rule of the protocol")
        return
    if at.min() < 0 or at.max() >= n or "faults" not in stored:
        yield Problem("shape", where, "`at` names no draw, or the faults of the draws are missing")
        return
    x, u = torch.from_numpy(stored["x"]), torch.from_numpy(stored["u"][at])
    said = torch.from_numpy(stored["faults"][at]) & ~BITS["copy"]
    if wrong := int((find_faults(bench.system, x, u) != said).sum()):
        yield Problem("implausible", where, f"{wrong} conformers have other faults than are stored")
    log_w = torch.from_numpy(stored["log_w"])
    if bool((log_w == log_w[0]).all()):
        return
    log_w = cut_weights(log_w, rule.cut)
    chances = torch.softmax(log_w, 0).numpy()
    some = chances > 0
    if not some[at].all():
        yield Problem("weights", where, "conformers of draws that have no weight")
        return
    values = np.where(some, log_w.numpy(), 0.0)
    mean = float(chances @ values)
    error = math.sqrt(float(chances @ (values - mean) ** 2) / len(at))
    if abs(float(values[at].mean()) - mean) > SELECTION_ERRORS * error + 1e-9:
        yield Problem("weights", where, "the stored conformers are not drawn by the weights of the draws")


SELECTION_ERRORS = 6.0
"""Standard errors by which the mean log-weight of drawn conformers may be off; one in 10⁹ honest ones is."""


def weights(record: Record, stored: Mapping[str, np.ndarray], bench: Bench) -> Iterator[Problem]:
    """log w as the estimator's definition has it; that of annealed particles follows from nothing stored.

    A weight of zero has a cause that follows from the conformer: an energy or density that is not finite,
    wrong chirality, the estimator's cut.
    """
    where = f"arrays/{record.cell.name}.npz"
    log_w, u = stored["log_w"], stored["u"]
    kind = weights_of(record.cell.estimator)
    outside = _without_density(record, stored, bench)
    if kind != "importance":
        unexplained = int((np.isneginf(log_w) & np.isfinite(u) & (np.abs(u) < CLASH) & ~outside).sum())
        if unexplained and record.cell.estimator not in ANNEALED:
            yield Problem("weights", where, f"{unexplained} sound conformers have no weight, without a cause")
        if kind == "equal" and np.ptp(log_w[np.isfinite(log_w)]) > WEIGHT_TOLERANCE:
            yield Problem("weights", where, f"{record.cell.estimator} gives equal weights, these differ")
        return
    if "log_q" not in stored:
        yield Problem("weights", where, "weights without log q")
        return
    whole = _importance(stored, outside)
    if not np.isfinite(whole).any():
        yield Problem("weights", where, "no conformer can have a weight")
        return
    truth = cut_weights(torch.from_numpy(whole), record.cell.estimator_options.get("cut", "none")).numpy()
    lost = np.isneginf(log_w) != np.isneginf(truth)
    if lost.any():
        text = f"{int(lost.sum())} weights are zero, or not, without a cause"
        yield Problem("weights", where, f"{text}: −u − log q, chirality and cut give others")
        return
    some = np.isfinite(log_w)
    largest = float(np.abs(log_w[some] - truth[some]).max())
    if not largest <= WEIGHT_TOLERANCE * max(1.0, float(np.abs(truth[some]).max())):
        yield Problem("weights", where, f"log w is not what −u − log q gives: off by {largest:.3g}")


def _importance(stored: Mapping[str, np.ndarray], outside: np.ndarray) -> np.ndarray:
    """−u − log q `(n,)`, and −inf where that is not finite or the conformer is `outside (n,)`."""
    with np.errstate(invalid="ignore"):
        whole = -stored["u"] - stored["log_q"]
    return np.where(np.isfinite(whole) & ~outside, whole, -np.inf)


def log_z_of(record: Record, stored: Mapping[str, np.ndarray], bench: Bench) -> LogZ | None:
    """log Z of importance weights before their cut; None of others, or where its error cannot be trusted."""
    if weights_of(record.cell.estimator) != "importance":
        return None
    return trusted_log_z(_importance(stored, _without_density(record, stored, bench)))


def _without_density(record: Record, stored: Mapping[str, np.ndarray], bench: Bench) -> np.ndarray:
    """`(n,)` True for points to which the target gives no density under the rule that the cell names."""
    rule = record.cell.estimator_options.get("handedness", "protocol")
    rule = bench.protocol.conventions.handedness if rule == "protocol" else rule
    if not bench.system.atoms or rule == "flip":
        return np.zeros(len(stored["u"]), bool)
    if "at" in stored:
        return has_fault(torch.from_numpy(stored["faults"]), "wrong_hand").numpy()
    return is_wrong(bench.system, torch.from_numpy(stored["x"])).numpy()


def draws(record: Record, stored: Mapping[str, np.ndarray], bench: Bench) -> Iterator[Problem]:
    """Every distinct conformer with an energy was paid for."""
    del bench
    if "at" in stored:
        if (n := len(stored["u"])) > record.budget.used:
            text = f"{n:,} draws, and {record.budget.used:,} evaluations"
            yield Problem("implausible", f"arrays/{record.cell.name}.npz", text)
        return
    priced = stored["x"][np.isfinite(stored["u"])]
    distinct = len(np.unique(priced.reshape(len(priced), -1), axis=0))
    # A walk may hold its start, whose energy it need not evaluate.
    if distinct > record.budget.used + 1:
        text = f"{distinct:,} conformers with energies, and {record.budget.used:,} evaluations"
        yield Problem("implausible", f"arrays/{record.cell.name}.npz", text)


def reference_copies(stored: Mapping[str, np.ndarray], bench: Bench) -> list[Copies]:
    """How many conformers are copies of the whole reference's; empty where none are, and without atoms."""
    if not bench.system.atoms:
        return []
    known = shapes_of(bench.system, bench.floors.reference.x.numpy())
    return copies_of(shapes_of(bench.system, stored["x"]), {"the reference": known})


class EnergyCheck(NamedTuple):
    """How many energies were evaluated, the largest |Δu| in kT, and a sentence about false ones, or ""."""

    evaluated: int
    largest: float
    fault: str


def subset_size(n: int) -> int:
    """How many of `n` energies to evaluate so that FALSE_FRACTION of false ones are found with FOUND.

    Without replacement at least one of f false energies is missed by m of n with a probability of less than
    (1 − m/n)^f.

    >>> [subset_size(n) for n in (100, 1_000, 10_000, 1_000_000)]
    [99, 990, 3691, 4595]
    """
    false = max(1, math.floor(FALSE_FRACTION * n))
    return min(n, math.ceil(n * (1.0 - (1.0 - FOUND) ** (1.0 / false))))


def energies(stored: Mapping[str, np.ndarray], bench: Bench, seed: str) -> EnergyCheck:
    """Evaluate the energies of a subset again: those of largest weight, and others at random.

    A stored energy of +inf is right if its point has no weight, or if the true energy is a clash; that of a
    clash need only be large.

    Args:
        stored: the cell's arrays.
        bench: the cell's system with its energy.
        seed: chooses the subset; the sha256 of the arrays, so that a second try looks at the same ones.
    """
    x, u, log_w = stored["x"], stored["u"], stored["log_w"]
    if "at" in stored:
        u, log_w = u[stored["at"]], log_w[stored["at"]]
    random = np.random.default_rng(int(seed, 16))
    heaviest = np.argsort(-log_w, kind="stable")[:HEAVIEST]
    pick = np.union1d(heaviest, random.choice(len(x), subset_size(len(x)), replace=False))
    truth = bench.energy.energy(torch.from_numpy(x[pick])).double().cpu().numpy()
    claimed = u[pick]
    sane = np.isfinite(truth) & (np.abs(truth) < CLASH)
    hidden = sane & np.isinf(claimed) & np.isfinite(log_w[pick])
    start = bench.system.positions.float().numpy()
    hidden &= ~np.array([np.array_equal(frame, start) for frame in x[pick]])
    both = sane & np.isfinite(claimed)
    off = np.abs(truth[both] - claimed[both])
    allowed = ENERGY_TOLERANCE + ENERGY_RELATIVE * np.abs(truth[both])
    largest = float(off.max(initial=0.0))
    flattered = ~sane & (claimed < CLASH / 2)
    false = int((off > allowed).sum() + hidden.sum() + flattered.sum())
    fault = (
        f"{false} of {len(pick)} looked at are not those of their conformers, off by up to {largest:.3g} kT"
    )
    return EnergyCheck(len(pick), largest, fault if false else "")


def metrics(record: Record, judged: Judgement) -> Iterator[Problem]:
    """Metrics, floors, skills and what ranks rest on, against what was `judged` again."""
    for item in find_differences(record, judged):
        text = f"{item.metric} is recorded as {item.recorded}, the arrays give {item.recomputed}"
        yield Problem("metrics", record.cell.name, text)
    yield from _left_out(record, judged)
    tolerance = 0.0 if same_platform(record) else METRIC_RELATIVE
    for name, value in judged.diagnostics.items():
        if not alike(record.diagnostics.get(name), value, tolerance):
            yield Problem("metrics", record.cell.name, f"the diagnostic {name} is not what the arrays give")


def _left_out(record: Record, judged: Judgement) -> Iterator[Problem]:
    pairs = ((record.metrics, judged.metrics), (record.floors, judged.floors), (record.skills, judged.skills))
    for recorded, recomputed in pairs:
        for name in sorted(set(recomputed) - set(recorded)):
            text = f"{name} was left out; the arrays give {recomputed[name]}"
            yield Problem("metrics", record.cell.name, text)


def alike(stored: Any, recomputed: Any, tolerance: float) -> bool:
    """Whether nested values agree, numbers to a relative `tolerance`; None stands for what is not finite."""
    if isinstance(recomputed, Mapping):
        return (
            isinstance(stored, Mapping)
            and set(stored) == set(map(str, recomputed))
            and all(alike(stored[str(key)], value, tolerance) for key, value in recomputed.items())
        )
    if isinstance(recomputed, bool | str):
        return bool(stored == recomputed)
    if recomputed is None or isinstance(recomputed, int | float):
        return (stored is None or isinstance(stored, int | float)) and agree(stored, recomputed, tolerance)
    if isinstance(recomputed, list | tuple):
        return (
            isinstance(stored, list)
            and len(stored) == len(recomputed)
            and all(alike(one, two, tolerance) for one, two in zip(stored, recomputed, strict=True))
        )
    return alike(stored, recomputed.tolist(), tolerance)
