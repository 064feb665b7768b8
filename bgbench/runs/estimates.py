"""The estimate that a finished cell was judged by, from its arrays: the inverse of `write_arrays`.

Replay, the board and the reports all begin here.
"""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from bgbench.core.abstract import Estimate
from bgbench.core.errors import BgbenchError
from bgbench.core.types import Draws, Ensemble, Proposal, Reference
from bgbench.runs.records import Record, read_arrays
from bgbench.runs.runfolder import RunFolder


def estimate_of(arrays: Mapping[str, np.ndarray], record: Record) -> Estimate:
    """The estimate that arrays and record of a cell hold.

    Args:
        arrays: `x (n, atoms, 3)` nm, `u (n,)` kT and `log_w (n,)`; where there are any, `log_q (n,)` and
            `group (n,)`. With `at (k,)`, x holds k conformers, those of these draws, and there may be
            `faults (n,)`.
        record: the cell's record, whose diagnostics hold the estimator's.

    Raises:
        KeyError: if `x`, `u` or `log_w` is missing.
        ValueError: if the arrays are not aligned.
    """
    tensors = {name: torch.from_numpy(values) for name, values in arrays.items()}
    if "at" in tensors:
        return _thinned(tensors, record)
    ensemble = Ensemble(tensors["x"], tensors["u"], tensors["log_w"])
    proposal = Proposal(tensors["x"], tensors.get("log_q"), tensors["u"])
    return Estimate(ensemble, proposal, record.diagnostics, tensors.get("group"))


def _thinned(tensors: Mapping[str, Tensor], record: Record) -> Estimate:
    """The estimate of arrays that hold conformers of some of the draws."""
    at = tensors["at"].long()
    log_q, faults = tensors.get("log_q"), tensors.get("faults")
    draws = Draws(tensors["u"], tensors["log_w"], at, log_q, faults)
    ensemble = Ensemble.unweighted(tensors["x"], draws.u[at])
    proposal = Proposal(ensemble.x, None if log_q is None else log_q[at], ensemble.u)
    return Estimate(ensemble, proposal, record.diagnostics, tensors.get("group"), draws=draws)


def refuse_other_reference(record: Record, reference: Reference) -> None:
    """Raise BgbenchError unless `reference` is the one that the record was judged on.

    Records that name none, as those of analytic systems, are let pass.
    """
    recorded = str(record.reference.get("sha256", ""))
    if recorded and recorded != reference.sha256:
        raise BgbenchError(
            f"{record.cell.name} was judged on another reference of {record.cell.system} ({recorded[:12]}) "
            f"than the one at hand ({reference.sha256[:12]}); set BGBENCH_REFERENCES to the folder that it "
            "was run with, or unset it"
        )


def read_estimate(folder: RunFolder, record: Record) -> Estimate:
    """The estimate of a finished cell, from its array file.

    Raises:
        BgbenchError: if the arrays are missing or not the recorded ones.
    """
    if record.arrays is None:
        raise BgbenchError(f"{record.cell.name} of {folder.path} has no arrays (status {record.status})")
    return estimate_of(read_arrays(folder.arrays_path(record.cell), record.arrays), record)
