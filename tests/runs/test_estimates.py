"""The estimate in a record's arrays is the one that was judged."""

import numpy as np
import pytest
import torch

from bgbench import BgbenchError, Ensemble, Estimate, Proposal
from bgbench.runs.estimates import estimate_of, read_estimate
from bgbench.runs.records import Budget, Record, read_arrays, write_arrays
from bgbench.runs.runfolder import RunFolder, new_plan


@pytest.fixture
def record(make_cell):
    diagnostics = {"handedness": {"wrong_hand": 0.25}}
    return Record(
        id="0", cell=make_cell(), status="ok", budget=Budget(limit=100, used=5), diagnostics=diagnostics
    )


@pytest.mark.parametrize("extras", [True, False])
def test_what_is_written_is_read(record, generator, tmp_path, extras):
    x = torch.randn(5, 3, 3, generator=generator)
    u, log_w, log_q = torch.randn(3, 5, generator=generator, dtype=torch.float64)
    group = torch.arange(5) // 2 if extras else None
    proposal = Proposal(x, log_q if extras else None, u)
    folder = RunFolder(tmp_path, new_plan([record.cell], "0"))
    arrays = write_arrays(
        folder.arrays_path(record.cell), Estimate(Ensemble(x, u, log_w), proposal, group=group)
    )
    record = record.model_copy(update={"arrays": arrays})
    estimate = read_estimate(folder, record)
    for name, tensor in (("x", x), ("u", u), ("log_w", log_w)):
        assert torch.equal(getattr(estimate.ensemble, name), tensor)
    assert torch.equal(estimate.proposal.x, x)
    if extras:
        assert torch.equal(estimate.proposal.log_q, log_q)
        assert torch.equal(estimate.group, group.int())
    else:
        assert estimate.proposal.log_q is estimate.group is None
    assert estimate.diagnostics["handedness"] == {"wrong_hand": 0.25}
    again = estimate_of(read_arrays(folder.arrays_path(record.cell), arrays), record)
    assert torch.equal(again.ensemble.log_w, estimate.ensemble.log_w)


def test_records_without_arrays_and_arrays_that_are_not_aligned_are_refused(record, tmp_path):
    folder = RunFolder(tmp_path, new_plan([record.cell], "0"))
    with pytest.raises(BgbenchError, match=r"AA-s0 .* has no arrays \(status ok\)"):
        read_estimate(folder, record)
    arrays = {"x": np.zeros((5, 3, 3), np.float32), "u": np.zeros(4), "log_w": np.zeros(5)}
    with pytest.raises(ValueError, match="u has shape"):
        estimate_of(arrays, record)
