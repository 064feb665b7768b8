"""A cell's arrays checked by trusted code: every metric again, and the energies of a random subset."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from bgbench.core.errors import BgbenchError
from bgbench.core.files import sha256_file
from bgbench.evaluation.bench import Bench, open_bench
from bgbench.evaluation.floors import FloorKey, Scores
from bgbench.evaluation.judging import Judgement, judge
from bgbench.leaderboard.archives import read_archive
from bgbench.leaderboard.checks import weights_of
from bgbench.leaderboard.entries import EntryFiles
from bgbench.leaderboard.problems import Problem, Refused
from bgbench.leaderboard.rules import (
    COPIED_FRACTION,
    ENERGY_RELATIVE,
    ENERGY_SUBSET,
    ENERGY_TOLERANCE,
    METRIC_RELATIVE,
    WEIGHT_TOLERANCE,
)
from bgbench.reports.replay import agree, find_differences, same_platform
from bgbench.runs.estimates import estimate_of
from bgbench.runs.process import limited
from bgbench.runs.records import Record

CLASH = 1e6
"""kT above which float32 positions say nothing of the energy."""


@dataclass(frozen=True)
class CellCheck:
    """The check of one cell.

    Attributes:
        problems: what is wrong.
        energies: how many were evaluated again.
        energy_difference: the largest |Δu| (kT) of these.
        floors: those measured for it, which the entry's other cells need not measure again.
    """

    problems: tuple[Problem, ...]
    energies: int = 0
    energy_difference: float = 0.0
    floors: Mapping[FloorKey, Scores] = field(default_factory=dict)


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
    random: np.random.Generator,
    floors: Mapping[FloorKey, Scores],
) -> CellCheck:
    """Everything that follows from a cell's arrays; stops at the first kind of thing wrong.

    Args:
        files: the entry.
        record: of the cell.
        path: its arrays.
        random: picks the conformers whose energies are evaluated again.
        floors: known already; the others are measured.
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
        for check in (shapes, weights, samples):
            problems = tuple(check(record, stored, bench, files.entry.control))
            if problems:
                return CellCheck(problems)
        evaluation = energies(stored, bench, random)
        if evaluation.fault:
            problem = Problem("energies", where, evaluation.fault)
            return CellCheck((problem,), evaluation.evaluated, evaluation.largest)
        try:
            judged = judge(estimate_of(stored, record), bench)
        except BgbenchError as error:
            problem = Problem("metrics", record.cell.name, f"cannot be judged: {error}")
            return CellCheck((problem,), evaluation.evaluated, evaluation.largest)
        return CellCheck(
            tuple(metrics(record, judged)), evaluation.evaluated, evaluation.largest, judged.measured.scores
        )


def shapes(
    record: Record, stored: Mapping[str, np.ndarray], bench: Bench, control: bool
) -> Iterator[Problem]:
    """No more finite conformers of the system than its budget, everything else aligned with them."""
    del control
    where = f"arrays/{record.cell.name}.npz"
    x = stored["x"]
    n = len(x)
    if x.ndim != 3 or x.shape[1:] != (bench.system.n_atoms, 3) or not 2 <= n <= record.cell.budget:
        yield Problem(
            "shape", where, f"x is {x.shape}: {bench.system.n_atoms} atoms, {record.cell.budget:,} allowed"
        )
        return
    for name, values in stored.items():
        if name != "x" and values.shape != (n,):
            yield Problem("shape", where, f"{name} is {values.shape}, not ({n},)")
    left = record.cell.budget - int(record.diagnostics.get("preparing_evaluations", 0))
    scored = min(bench.protocol.n_samples, left, bench.reference.n_samples)
    if n < scored:
        yield Problem("shape", where, f"{n:,} conformers, the protocol scores {scored:,}")
    if not np.isfinite(x).all():
        yield Problem("nonfinite", where, "positions that are not finite")
    for name in ("u", "log_w", "log_q"):
        if name in stored and np.isnan(stored[name]).any():
            yield Problem("nonfinite", where, f"{name} holds NaN")
    if np.isneginf(stored["u"]).any() or np.isposinf(stored["log_w"]).any():
        yield Problem("nonfinite", where, "an energy of −infinity or a weight of +infinity")
    if not np.isfinite(stored["log_w"]).any():
        yield Problem("weights", where, "no point has a weight")


def weights(
    record: Record, stored: Mapping[str, np.ndarray], bench: Bench, control: bool
) -> Iterator[Problem]:
    """log w as the estimator's definition has it; that of annealed particles follows from nothing stored."""
    del bench, control
    where = f"arrays/{record.cell.name}.npz"
    log_w, u = stored["log_w"], stored["u"]
    some = np.isfinite(log_w)
    kind = weights_of(record.cell.estimator)
    if kind == "equal":
        if np.ptp(log_w[some]) > WEIGHT_TOLERANCE:
            yield Problem("weights", where, f"{record.cell.estimator} gives equal weights, these differ")
        return
    if kind != "importance" or record.cell.estimator_options.get("cut", "none") == "psis":
        return
    if "log_q" not in stored:
        yield Problem("weights", where, "weights without log q")
        return
    truth = -u - stored["log_q"]
    off = log_w[some] - truth[some]
    cut = record.cell.estimator_options.get("cut", "none") != "none"
    largest = off.max() if cut else np.abs(off).max()
    if not largest <= WEIGHT_TOLERANCE * max(1.0, float(np.abs(truth[some]).max())):
        yield Problem("weights", where, f"log w is not −u − log q: off by {largest:.3g}")


def samples(
    record: Record, stored: Mapping[str, np.ndarray], bench: Bench, control: bool
) -> Iterator[Problem]:
    """Conformers that are not the reference's own."""
    if control or not bench.system.atoms:
        return
    known = {row.tobytes() for row in bench.reference.x.numpy().astype(np.float32)}
    fraction = float(np.mean([row.tobytes() in known for row in stored["x"]]))
    if fraction > COPIED_FRACTION:
        yield Problem(
            "copied", f"arrays/{record.cell.name}.npz", f"{fraction:.0%} are frames of the reference"
        )


class EnergyCheck(NamedTuple):
    """How many energies were evaluated, the largest |Δu| in kT, and a sentence about false ones, or ""."""

    evaluated: int
    largest: float
    fault: str


def energies(stored: Mapping[str, np.ndarray], bench: Bench, random: np.random.Generator) -> EnergyCheck:
    """Evaluate the energies of a random subset again, half of it drawn by weight.

    A stored energy of +inf is right if its point has no weight, or if the true energy is a clash.

    Args:
        stored: the cell's arrays.
        bench: the cell's system with its energy.
        random: chooses the subset.
    """
    x, u, log_w = stored["x"], stored["u"], stored["log_w"]
    weight = np.exp(log_w - log_w.max())
    half = min(ENERGY_SUBSET // 2, len(x))
    by_weight = random.choice(len(x), half, p=weight / weight.sum())
    pick = np.unique(np.concatenate([random.choice(len(x), half, replace=False), by_weight]))
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
    false = int((off > allowed).sum() + hidden.sum() + (np.isfinite(claimed) & ~np.isfinite(truth)).sum())
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
