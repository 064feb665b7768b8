"""The samples of one system: read, matched, brought to nm, and with what is wrong with them."""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

import bgbench
from bgbench.data import (
    frame_faults,
    match_atoms,
    read_arrays,
    read_trajectory,
    to_nanometres,
)
from bgbench_samples.options import OWN_ORDER, SampleOptions

NAMES = {"log_q": ("log_q",), "weights": ("weights", "log_w")}
"""What log-densities and weights are called in npz files."""


@dataclass(frozen=True, eq=False)
class Frames:
    """Samples of one system.

    Attributes:
        x: frames `(n, atoms, 3)` in nm, atoms in the system's order, float64.
        log_q: log-densities `(n,)`; None where there are none.
        log_w: log-weights `(n,)`; None where there are none.
        remarks: sentences on what is wrong with them and what was done to them.
    """

    x: Tensor
    log_q: Tensor | None
    log_w: Tensor | None
    remarks: tuple[str, ...]


def read_samples(options: SampleOptions, system: bgbench.System) -> Frames:
    """The samples of a system, from the files that options name.

    Raises:
        Unsupported: if a folder has no file of this system.
        BgbenchError: for files that are damaged, of other atoms, in another unit, or of different lengths.
    """
    trajectory = options.trajectory(system)
    files = (trajectory, options.topology(system, trajectory))
    numbers = {kind: options.numbers(kind, system) for kind in NAMES}
    named = [path for path in (*files, *numbers.values()) if path is not None]
    for path in named:
        if not path.exists():
            raise bgbench.BgbenchError(f"{path} does not exist any more")
    stamps = tuple((str(path), path.stat().st_mtime_ns, path.stat().st_size) for path in named)
    return _read(files, numbers["log_q"], numbers["weights"], options.top == OWN_ORDER, system, stamps)


@lru_cache(maxsize=2)
def _read(
    files: tuple[Path, Path | None],
    log_q: Path | None,
    weights: Path | None,
    own_order: bool,
    system: bgbench.System,
    stamps: tuple[tuple[str, int, int], ...],
) -> Frames:
    """The samples; `stamps` tell files that have changed from those that were read before."""
    del stamps
    file, top = files
    trajectory = read_trajectory(file, top)
    x = trajectory.x[:, _order(trajectory.atoms, trajectory.x.shape[1], system, files, own_order)]
    unit = to_nanometres(system, x, str(file))
    unused = [
        f"{file}: holds {name}, which is not used; add --set {kind}={file}"
        for kind, path in (("log_q", log_q), ("weights", weights))
        for name in NAMES[kind]
        if name in trajectory.arrays and log_q is None and weights is None and path is None
    ]
    counted = None if log_q is None else _numbers(log_q, "log_q", file, len(x))
    log_w = None if weights is None else _log_weights(weights, file, len(x))
    remarks = [unit.remark] if unit.remark else []
    remarks += [*frame_faults(system, unit.x, str(file)), *unused]
    if counted is not None and (bad := ~counted.isfinite()).any():
        remarks.append(
            f"{log_q}: {int(bad.sum()):,} of {len(bad):,} numbers are not finite, first of frame "
            f"{int(bad.nonzero()[0])}; these frames get no weight"
        )
    return Frames(unit.x, counted, log_w, tuple(remarks))


def _order(
    atoms: tuple[bgbench.Atom, ...],
    n_atoms: int,
    system: bgbench.System,
    files: tuple[Path, Path | None],
    own_order: bool,
) -> list[int]:
    """The place in the file of each atom of the system."""
    file, top = files
    if own_order or not system.atoms:
        if n_atoms != system.n_atoms:
            raise bgbench.BgbenchError(
                f"{file} has {n_atoms} atoms in a frame, and {system.name} has {system.n_atoms}"
            )
        return list(range(n_atoms))
    if not atoms:
        raise bgbench.BgbenchError(
            f"{file} does not name its atoms: add an array atoms of names such as 0:ALA:CA, or --set "
            f"top=FILE.pdb, or --set top={OWN_ORDER} if they are in bgbench's order"
        )
    return match_atoms(system, atoms, str(top or file))


def _numbers(path: Path, kind: str, file: Path, n: int) -> Tensor:
    """`(n,)` numbers, one for each frame of `file`.

    Raises:
        BgbenchError: if there are none of this kind, another number of them, or anything but numbers.
    """
    arrays = read_arrays(path)
    name = next((name for name in ("", *NAMES[kind]) if name in arrays), None)
    if name is None:
        raise bgbench.BgbenchError(
            f"{path} holds no {' or '.join(NAMES[kind])}; it holds {', '.join(arrays)}"
        )
    values = arrays[name]
    if values.dtype.kind not in "fiu" or values.ndim != 1:
        raise bgbench.BgbenchError(
            f"{path}: {kind} has shape {values.shape} and type {values.dtype}; it must be one number a frame"
        )
    if len(values) != n:
        raise bgbench.BgbenchError(f"{path} holds {len(values):,} numbers, and {file} has {n:,} frames")
    numbers = torch.from_numpy(values.astype(np.float64))
    return numbers if name != "log_w" else numbers.exp()


def _log_weights(path: Path, file: Path, n: int) -> Tensor:
    """Log-weights `(n,)`; -inf for those of no weight."""
    arrays = read_arrays(path)
    if "log_w" in arrays and "weights" not in arrays:
        # In logarithms as they are: weights of one file can differ by more than numbers hold.
        _numbers(path, "weights", file, n)
        log_w = torch.from_numpy(arrays["log_w"].astype(np.float64))
        bad = torch.isnan(log_w) | (log_w == torch.inf)
    else:
        weights = _numbers(path, "weights", file, n)
        bad = ~torch.isfinite(weights) | (weights < 0)
        log_w = weights.log()
    if bool(bad.any()):
        first = int(bad.nonzero()[0])
        raise bgbench.BgbenchError(
            f"{path}: the weight of frame {first} is not a finite number from 0 on "
            f"({int(bad.sum()):,} of {n:,} are not)"
        )
    if not bool((log_w > -torch.inf).any()):
        raise bgbench.BgbenchError(f"{path}: all weights are zero")
    return log_w
