"""The conformers of a finished cell as a trajectory file for other programs, with its topology beside it."""

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from bgbench.core.errors import BgbenchError, text_of
from bgbench.core.files import atomic_file
from bgbench.core.options import describe_known
from bgbench.core.types import Ensemble, System
from bgbench.evaluation.suites import load_suite
from bgbench.metrics.sides import equally_weighted
from bgbench.runs.estimates import read_estimate
from bgbench.runs.records import Record
from bgbench.runs.runfolder import RunFolder
from bgbench.systems.named import find_member
from bgbench.systems.trajectories import mdtraj_topology, refuse_h5_without_tables

Format = Literal["xtc", "pdb", "h5"]
"""What conformers can be written as."""


@dataclass(frozen=True)
class Export:
    """What was written.

    Attributes:
        frames: the trajectory.
        topology: a PDB file of one frame that names the atoms; that of the trajectory where it is a PDB file.
        weights: a NumPy file of one weight a frame, summing to one; None where all are equal.
        n_samples: how many frames.
    """

    frames: Path
    topology: Path
    weights: Path | None
    n_samples: int


def export(
    run: RunFolder,
    system: str,
    format: Format = "xtc",
    *,
    seed: int | None = None,
    resample: int | None = None,
    target: Path | None = None,
) -> Export:
    """Write the conformers of a cell for other programs.

    Args:
        run: the run.
        system: of the cell.
        format: `xtc`, `pdb` or `h5`.
        seed: of the cell; default: the first that the run has of this system.
        resample: draw so many frames by their weights, which are equal then; default: all frames, with their
            weights in a file beside them. A frame of large weight comes several times.
        target: the folder that gets the files; default: `exports` in the run folder.

    Returns:
        The files.

    Raises:
        BgbenchError: for a cell that is not in the run or did not end well, arrays that are missing or
            changed, a system without atoms, or a folder that cannot be written.
    """
    record = find_record(run, system, seed)
    ensemble = read_estimate(run, record).ensemble
    suite = load_suite(record.cell.suite, run.path)
    molecule = find_member(suite, record.cell.system, record.cell.temperature)
    if resample is not None:
        ensemble = resample_frames(ensemble, resample)
    folder = run.path / "exports" if target is None else target
    return _write(folder / record.cell.name, format, molecule, ensemble)


def find_record(run: RunFolder, system: str, seed: int | None) -> Record:
    """The record of a finished cell.

    Raises:
        BgbenchError: if there is none, saying what there is.
    """
    records = [record for record in run.records() if record.cell.system == system]
    if not records:
        known = dict.fromkeys(record.cell.system for record in run.records())
        raise BgbenchError(f"{run.path} has no record of '{system}'{describe_known(system, known, 'it has')}")
    chosen = [record for record in records if seed in (None, record.cell.seed)]
    if not chosen:
        seeds = ", ".join(str(record.cell.seed) for record in records)
        raise BgbenchError(f"{run.path} has no record of {system} with seed {seed}; it has {seeds}")
    return chosen[0]


def resample_frames(ensemble: Ensemble, n: int) -> Ensemble:
    """`n` frames at evenly spaced quantiles of the weights, in their order, equally weighted.

    Nothing in it is random: frame k is there n times its weight, rounded up or down.

    Raises:
        BgbenchError: if `n` is not positive.

    >>> weighted = Ensemble(torch.zeros(3, 1, 3), torch.arange(3.0), torch.tensor([0.5, 0.25, 0.25]).log())
    >>> resample_frames(weighted, 4).u.tolist()
    [0.0, 0.0, 1.0, 2.0]
    """
    if n < 1:
        raise BgbenchError(f"--resample must be at least 1, got {n}")
    quantiles = (torch.arange(n, dtype=torch.float64) + 0.5) / n
    place = torch.searchsorted(ensemble.weights.cumsum(0), quantiles).clamp_max(ensemble.n_samples - 1)
    drawn = ensemble.take(place)
    return Ensemble.unweighted(drawn.x, drawn.u)


def _write(stem: Path, format: Format, system: System, ensemble: Ensemble) -> Export:
    import mdtraj

    frames = mdtraj.Trajectory(ensemble.x.double().numpy(), mdtraj_topology(system))
    path, beside = stem.with_name(f"{stem.name}.{format}"), stem.with_name(f"{stem.name}.pdb")
    if format == "h5":
        refuse_h5_without_tables(path)
    try:
        stem.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=stem.parent) as part:
            frames[0].save(str(Path(part) / beside.name))
            frames.save(str(Path(part) / path.name))
            for file in {path, beside}:
                os.replace(Path(part) / file.name, file)
    except OSError as error:
        raise BgbenchError(f"cannot write {path}: {error.strerror or text_of(error)}") from error
    weights = None
    if not equally_weighted(ensemble):
        weights = stem.with_name(f"{stem.name}.weights.npy")
        with atomic_file(weights) as stream:
            np.save(stream, ensemble.weights.numpy())
    return Export(path, beside, weights, ensemble.n_samples)
