"""A run as a plain SLURM job array: each task runs its part of the cells, `--resume` collects the records.

Nothing stays behind that has to be alive: `bgbench run … --cluster slurm-array` writes the plan, submits the
array and ends. Tasks write records into the run folder, which every node must see.
"""

import math
import shlex
import shutil
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from dask.utils import parse_bytes
from pydantic import ValidationError

from bgbench.core.errors import BgbenchError
from bgbench.core.files import Strict, atomic_file, write_json
from bgbench.evaluation.cell import Cell
from bgbench.runs.cells import record_failure
from bgbench.runs.clusters import Slurm
from bgbench.runs.executors import AbstractExecutor, Records
from bgbench.runs.runfolder import RunFolder
from bgbench.runs.subprocesses import Advanced, CellProcess, Limits

ARRAY, SCRIPT = "array.json", "slurm-array.sh"


class Array(Strict):
    """What the tasks of an array read: which cells each runs, with which limits; and the job's number.

    Limits that are not set are None, for JSON has no infinity.
    """

    schema_version: Literal[1] = 1
    tasks: list[list[str]]
    threads: int
    timeout: float | None
    memory: float | None
    device: str
    job: str = ""

    @property
    def limits(self) -> Limits:
        """The limits of a worker."""
        return Limits(self.threads, self.timeout or math.inf, self.memory or math.inf, self.device)


class JobArray(AbstractExecutor):
    """Submits the cells as one job array and yields no record: they are there once its tasks have run."""

    def __init__(self, job: Slurm, limits: Limits, n_tasks: int) -> None:
        self._job, self._limits, self._n_tasks = job, limits, n_tasks

    def map(self, folder: RunFolder, cells: Sequence[Cell], advanced: Advanced) -> Records:
        del advanced
        if cells:
            self.notice = self._submit(folder.path.resolve(), cells)
        yield from ()

    def _submit(self, path: Path, cells: Sequence[Cell]) -> str:
        """Write and submit the array; what to tell the user.

        Raises:
            BgbenchError: if sbatch refuses the script.
        """
        n, limits = min(self._n_tasks, len(cells)), self._limits
        # Large systems come first in the order of cells: each task gets its share of them.
        tasks = [[cell.name for cell in cells[k::n]] for k in range(n)]
        array = Array(
            tasks=tasks,
            threads=limits.threads,
            timeout=None if limits.timeout == math.inf else limits.timeout,
            memory=None if limits.memory == math.inf else limits.memory,
            device=limits.device,
        )
        write_json(path / ARRAY, array)
        (path / "slurm").mkdir(exist_ok=True)
        with atomic_file(path / SCRIPT) as stream:
            stream.write(script(self._job, path, n).encode())
        done = subprocess.run(
            ["sbatch", "--parsable", str(path / SCRIPT)], capture_output=True, text=True, check=False
        )
        if done.returncode:
            reason = " ".join(done.stderr.split()) or f"exit code {done.returncode}"
            raise BgbenchError(f"sbatch refused {path / SCRIPT}: {reason}; correct --set cluster.KEY=VALUE")
        job = done.stdout.strip().partition(";")[0]
        write_json(path / ARRAY, array.model_copy(update={"job": job}))
        return (
            f"job {job} is submitted: {n} tasks run {len(cells)} cells; when it has ended, collect them with "
            f"`bgbench run {cells[0].sampler} --out {path} --resume`"
        )


def job_array(options: Mapping[str, str], limits: Limits, n_tasks: int) -> JobArray:
    """The executor of `--cluster slurm-array`.

    Args:
        options: the words of `--set cluster.NAME=VALUE`.
        limits: of the process in which a task runs its cells.
        n_tasks: tasks of the array, at most; no task is without a cell.

    Raises:
        BgbenchError: for an unknown option, one that arrays do not have, or where `sbatch` is missing.
    """
    job = Slurm.build(options)
    if job.interface:
        raise BgbenchError(
            f"--set cluster.interface={job.interface} has no effect with --cluster slurm-array, whose tasks "
            "do not speak to each other; leave it out"
        )
    memory_in_mib(job.memory)
    if shutil.which("sbatch") is None:
        raise BgbenchError(
            "--cluster slurm-array needs sbatch on PATH; run this where SLURM's commands are installed"
        )
    return JobArray(job, limits, n_tasks)


def memory_in_mib(text: str) -> int:
    """Memory in MiB, as `sbatch --mem` takes it.

    Raises:
        BgbenchError: for what is no amount of memory.

    >>> memory_in_mib("8GB")
    7630
    """
    try:
        return max(1, math.ceil(parse_bytes(text) / 2**20))
    except ValueError as error:
        raise BgbenchError(f"--set cluster.memory={text}: write an amount of memory, as 8GB") from error


def script(job: Slurm, path: Path, n_tasks: int) -> str:
    """The script of the array of a run in `path`."""
    words = {
        "job-name": f"bgbench-{path.name}",
        "array": f"0-{n_tasks - 1}",
        "output": f"{path}/slurm/%A_%a.out",
        "partition": job.queue,
        "account": job.account,
        "time": job.walltime,
        "mem": f"{memory_in_mib(job.memory)}M",
        "cpus-per-task": str(job.cores),
        "gres": "gpu:1" if job.gpu else "",
    }
    head = [f"#SBATCH --{key}={shlex.quote(value)}" for key, value in words.items() if value]
    head += [f"#SBATCH {line}" for line in job.extra_directives]
    words_of_task = [sys.executable, "-P", "-m", "bgbench.runs.arrays", str(path)]
    task = f'exec {shlex.join(words_of_task)} "$SLURM_ARRAY_TASK_ID"'
    return "\n".join(["#!/bin/sh", *head, *job.preparation, task]) + "\n"


def read_array(path: Path) -> Array | None:
    """The array that was last submitted for the run in `path`; None where there was none.

    Raises:
        BgbenchError: if its file is damaged.
    """
    file = path / ARRAY
    if not file.is_file():
        return None
    try:
        return Array.model_validate_json(file.read_bytes())
    except ValidationError as error:
        raise BgbenchError(f"{file} is damaged; delete it if its job has ended") from error


def refuse_queued(path: Path) -> None:
    """Raise BgbenchError while tasks of the run in `path` wait or run: cells would be computed twice."""
    array = read_array(path)
    if array is None or not array.job or shutil.which("squeue") is None:
        return
    done = subprocess.run(
        ["squeue", "--noheader", "--jobs", array.job], capture_output=True, text=True, check=False
    )
    # SLURM forgets jobs that have ended, and then fails for their numbers.
    if done.returncode == 0 and done.stdout.strip():
        raise BgbenchError(
            f"job {array.job} of {path} is still in the queue; wait for it to end, or cancel it with "
            f"`scancel {array.job}`"
        )


def run_task(path: Path, index: int) -> None:
    """Run those cells of a task that have no record yet, each into its record, failed or not.

    Raises:
        BgbenchError: if there is no such task, or for a fault that the user can correct, such as a full disk.
    """
    array, folder = read_array(path), RunFolder.open(path)
    if array is None or not 0 <= index < len(array.tasks):
        raise BgbenchError(f"{path} has no task {index}; submit the run again with --resume")
    names = set(array.tasks[index])
    process = CellProcess(path, array.limits)
    try:
        for cell in [cell for cell in folder.missing(retry_failed=True) if cell.name in names]:
            ending = process.run(cell, lambda _, n: None, threading.Event())
            if ending is not None and ending.status != "ok":
                record_failure(cell, ending, folder)
    finally:
        process.close()


if __name__ == "__main__":
    try:
        run_task(Path(sys.argv[1]), int(sys.argv[2]))
    except BgbenchError as error:
        sys.exit(f"bgbench: {error}")
