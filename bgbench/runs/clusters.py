"""Dask clusters: on this machine, an existing one, or jobs of a queueing system."""

import logging
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import dask
from distributed import Client, LocalCluster

from bgbench.core.errors import BgbenchError
from bgbench.core.files import atomic_file

Cluster = Callable[[Path], AbstractContextManager[Client]]
LOOPBACK = "127.0.0.1:0"
"""Dask's status pages are served to this machine only, at a free port."""

PATIENCE = 60
"""Seconds to wait for a scheduler and its first worker."""


def local(n_workers: int) -> Cluster:
    """A Dask cluster in this process: `n_workers` workers with one slot each.

    The workers are threads that watch cell processes, so that each costs one Python, not two.
    """

    @contextmanager
    def cluster(_: Path) -> Iterator[Client]:
        quiet = {"distributed.scheduler.worker-saturation": 1.0, "distributed.worker.profile.enabled": False}
        with (
            dask.config.set(quiet),
            LocalCluster(
                n_workers=n_workers,
                threads_per_worker=1,
                processes=False,
                dashboard_address=LOOPBACK,
                worker_dashboard_address=LOOPBACK,
                silence_logs=logging.CRITICAL,
            ) as here,
            Client(here) as client,
        ):
            yield client

    return cluster


def existing(address: str) -> Cluster:
    """The Dask cluster whose scheduler listens at `address` (`tcp://host:port`).

    Raises, when entered:
        BgbenchError: if nothing answers there, or no worker joins within a minute.
    """

    @contextmanager
    def cluster(_: Path) -> Iterator[Client]:
        try:
            client = Client(address, timeout=PATIENCE // 4)
        except (OSError, ValueError) as error:
            raise BgbenchError(
                f"no Dask scheduler answers at {address} ({error}); start one with `dask scheduler`"
            ) from error
        with client:
            try:
                client.wait_for_workers(1, timeout=PATIENCE)
            except TimeoutError as error:
                raise BgbenchError(
                    f"{address} has no workers; start some with `dask worker {address} --nthreads 1`"
                ) from error
            yield client

    return cluster


@dataclass(frozen=True)
class Slurm:
    """A SLURM job of one worker; its fields are set with `--set cluster.KEY=VALUE`.

    Arguments:
        queue: partition.
        account: account that is charged.
        walltime: time limit as SLURM writes it.
        memory: memory as Dask writes it (8GB).
        cores: CPU cores; `--threads` unless given.
        gpu: 0, or 1 for one GPU.
        directives: further lines for #SBATCH, separated by `;`.
        prologue: lines of shell to run before the worker starts, separated by `;`.
        interface: network interface through which the workers reach the scheduler.
    """

    queue: str = ""
    account: str = ""
    walltime: str = "24:00:00"
    memory: str = "8GB"
    cores: int = 1
    gpu: int = 0
    directives: str = ""
    prologue: str = ""
    interface: str = ""

    @classmethod
    def from_options(cls, options: Mapping[str, str]) -> "Slurm":
        """The job that these options describe.

        Raises:
            BgbenchError: for an unknown option or a value that is not a number.
        """
        known = {field.name: field.type for field in fields(cls)}
        unknown = sorted(set(options) - set(known))
        if unknown:
            raise BgbenchError(
                f"slurm has no option {', '.join(f'cluster.{key}' for key in unknown)}; "
                f"it has {', '.join(f'cluster.{key}' for key in known)}"
            )
        values: dict[str, Any] = dict(options)
        for key, text in options.items():
            if known[key] is int:
                if not text.isdecimal():
                    raise BgbenchError(f"--set cluster.{key}={text}: '{text}' is not a whole number")
                values[key] = int(text)
        job = cls(**values)
        if job.gpu not in (0, 1):
            raise BgbenchError(f"--set cluster.gpu={job.gpu}: give 0 or 1, since each worker uses one device")
        return job

    def keywords(self) -> dict[str, Any]:
        """The arguments of dask-jobqueue's cluster: one worker process for each job."""
        gpus = ["--gres=gpu:1"] if self.gpu else []
        return {
            "queue": self.queue or None,
            "account": self.account or None,
            "walltime": self.walltime,
            "memory": self.memory,
            "cores": 1,
            "job_cpu": self.cores,
            "processes": 1,
            "interface": self.interface or None,
            "job_extra_directives": [*gpus, *_lines(self.directives)],
            "job_script_prologue": _lines(self.prologue),
        }


def _lines(text: str) -> list[str]:
    return [line.strip() for line in text.split(";") if line.strip()]


def slurm(options: Mapping[str, str], n_jobs: int) -> Cluster:
    """`n_jobs` SLURM jobs of one worker each; the job script is stored as `slurm.sh` in the run folder.

    Raises:
        BgbenchError: for an unknown option, or where dask-jobqueue or `sbatch` is missing.
    """
    job = Slurm.from_options(options)
    try:
        from dask_jobqueue import SLURMCluster
    except ImportError as error:
        raise BgbenchError("--cluster slurm needs dask-jobqueue: pip install 'bgbench[cluster]'") from error
    if shutil.which("sbatch") is None:
        raise BgbenchError(
            "--cluster slurm needs sbatch on PATH; run this where SLURM's commands are installed"
        )

    @contextmanager
    def cluster(path: Path) -> Iterator[Client]:
        logs: dict[str, Any] = {"log_directory": str(path / "slurm")}
        with SLURMCluster(
            **job.keywords(), **logs, scheduler_options={"dashboard_address": LOOPBACK}
        ) as there:
            with atomic_file(path / "slurm.sh") as stream:
                stream.write(there.job_script().encode())
            there.scale(jobs=n_jobs)
            with Client(there) as client:
                yield client

    return cluster
