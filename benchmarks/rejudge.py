"""`python benchmarks/rejudge.py RUN…`: metrics, floors and diagnostics by today's code for finished runs.

Nothing is drawn again: the stored arrays are judged again, as after a metric was corrected. The records
then say which version judged them, and in a checkout which commit (`rejudged`). Compare them to rounding,
not to the bit: their provenance is that of the draws.
"""

import sys
from pathlib import Path

from bgbench.evaluation.floors import FloorKey, Scores
from bgbench.reports.replay import judge_again
from bgbench.runs.provenance import provenance, versions
from bgbench.runs.records import Record
from bgbench.runs.runfolder import RunFolder


def rejudge(source: Path) -> None:
    """Rewrite the records of a run whose cells ended well, and delete its curve.

    All are judged before the first is rewritten. A run in one file whose arrays lie in `NAME/arrays` beside
    `NAME.jsonl` is rewritten in one file.
    """
    run = RunFolder.open(source)
    measured: dict[FloorKey, Scores] = {}
    run.replace_records(
        [fresh_record(run, record, measured) for record in run.records() if record.status == "ok"]
    )


def fresh_record(run: RunFolder, record: Record, measured: dict[FloorKey, Scores]) -> Record:
    """The record judged by the code of today; floors that had to be measured are added to `measured`."""
    judgement = judge_again(run, record, measured)
    measured |= judgement.measured.scores
    judge = {"bgbench": versions()["bgbench"], **provenance()["git"]}
    fields = {
        "metrics": judgement.metrics,
        "floors": judgement.floors,
        "skills": judgement.skills,
        "diagnostics": {**record.diagnostics, **judgement.diagnostics, "rejudged": judge},
    }
    return Record(**{**record.model_dump(), **fields})


if __name__ == "__main__":
    for path in sys.argv[1:]:
        rejudge(Path(path))
