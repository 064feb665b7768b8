"""What can be chosen about a run, and who hears how it goes."""

from collections.abc import Mapping
from pathlib import Path
from typing import TypedDict

from bgbench.evaluation.cell import Cell
from bgbench.runs.records import Record
from bgbench.runs.runfolder import RunFolder


class Choices(TypedDict, total=False):
    """What can be chosen about a run; everything has a default from the suite or the sampler.

    `options` are the sampler's, `estimator.NAME` keys the estimator's, `cluster.NAME` the cluster's,
    `temperature` the system's (K). `workers` processes (0: this one) of `threads` threads, or jobs of the
    `cluster` (`slurm`), or those of the Dask `scheduler` (`tcp://…`); each cell at most `timeout` s and
    `memory` MB.
    """

    suite: str
    estimator: str
    protocol: str
    budget: int
    seeds: int
    first_seed: int
    only: tuple[str, ...]
    options: Mapping[str, str]
    out: str | Path
    workers: int
    threads: int
    scheduler: str
    cluster: str
    timeout: float
    memory: float
    resume: bool
    retry_failed: bool
    tracking_uri: str
    observer: "Observer"


class Observer:
    """Hears how a run goes; this one keeps silent. Subclass to show progress."""

    def started(self, folder: RunFolder, cells: list[Cell]) -> None:
        """Before the first cell."""

    def advanced(self, cell: Cell, n: int) -> None:
        """`n` more conformers of `cell` are done."""

    def finished(self, record: Record) -> None:
        """A record was written."""

    def ended(self) -> None:
        """No more cells will run, all done or not."""

    def notice(self, message: str) -> None:
        """Something a user should read."""
