"""Many cells: planned, run in worker processes or on clusters, kept in a run folder, mirrored to trackers.

A run is one sampler on all systems and seeds of a suite. Open `request` first (`RunRequest`, what a user can
ask for), then `planning` (`resolve` makes it a `Plan`: every cell, and the hashes of all inputs), `cells`
(`execute` runs one cell into its `Record`, failed or not), `records` (what a record and its arrays hold) and
`runfolder` (`RunFolder`, the run on disk). `shapes` describes the open fields of a record, `stores` reads and
writes its files, `estimates` reads the estimate of a finished cell back, and `resuming` compares a resumed
run with its plan. `configs` reads runs from YAML files, and writes one into every run folder.

Where cells run: `placement` chooses an executor, whose interface is in `executors` beside the one for this
process; `dask` uses the workers that `clusters` starts; `arrays` submits the cells as a SLURM job array. Each
Dask worker watches a process: `subprocesses` is the parent's side, `worker` the child's, and `families` finds
the processes that a cell started. `process` limits threads and memory, `interrupts` makes sure that Ctrl-C
ends the run, `observer` receives the progress, which `throttle` passes on a few times a second. `provenance`
says which versions and which machine computed, `distributions` which code the plugins had and where it came
from, and `shared_floors` saves noise floors so that other workers need not measure them.

Mirrors: `mirroring` sends records to a tracker by way of a process of its own, `tracking`; `mlflow` is such a
tracker, and `databases` holds the SQLite stores that it sends to. How a cell is computed is not here but in
`evaluation`; the function `run` that users call is `bgbench.api.run`; whatever is computed from records is in
`reports`.
"""
