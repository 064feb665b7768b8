"""`python benchmarks/rejudge.py RUN…`: metrics, floors and diagnostics of today's code for finished runs.

From their stored arrays, after a metric was mended; nothing is drawn anew. Records then say which version
judged them, and of a checkout which commit (`rejudged`); they are compared to rounding, not to the bit: their
provenance is that of the draws.
"""

import sys
from collections.abc import Mapping
from pathlib import Path

from bgbench.core.files import write_json
from bgbench.evaluation.floors import FloorKey, Scores
from bgbench.reports.replay import judge_again
from bgbench.runs.provenance import provenance, versions
from bgbench.runs.records import Record
from bgbench.runs.runfolder import RunFolder


def rejudge(source: Path) -> None:
    """Rewrite the records of a run folder that ended well, and drop its curve."""
    run = RunFolder.open(source)
    judge = {"bgbench": versions()["bgbench"], **provenance()["git"]}
    measured: Mapping[FloorKey, Scores] = {}
    for record in run.records():
        if record.status != "ok":
            continue
        found = judge_again(run, record, measured)
        measured = {**measured, **found.measured.scores}
        fresh = {
            "metrics": found.metrics,
            "floors": found.floors,
            "skills": found.skills,
            "diagnostics": {**record.diagnostics, **found.diagnostics, "rejudged": judge},
        }
        write_json(run.record_path(record.cell), Record(**{**record.model_dump(), **fresh}))
    (source / "curve.json").unlink(missing_ok=True)


if __name__ == "__main__":
    for path in sys.argv[1:]:
        rejudge(Path(path))
