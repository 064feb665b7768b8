"""Dask clusters: on this machine, an existing one, or jobs of a queueing system."""

import logging
import os
import shlex
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import dask
from distributed import Client, LocalCluster

from bgbench.core.errors import BgbenchError
from bgbench.core.files import atomic_file
from bgbench.core.options import parse_options, refuse_below, refuse_unknown_words
from bgbench.runs.subprocesses import import_path

Cluster = Callable[[Path], AbstractContextManager[Client]]
LOOPBACK = "127.0.0.1:0"
"""Dask's status pages are served to this machine only, at a free port."""

PATIENCE = 60
"""Seconds to wait for a scheduler and its first worker."""


@contextmanager
def handlers_restored() -> Iterator[None]:
    """Take away the log handlers that Dask's schedulers and workers add in this process and leave behind."""
    loggers = [logging.getLogger(f"distributed.{part}") for part in ("scheduler", "worker")]
    before = [list(logger.handlers) for logger in loggers]
    try:
        yield
    finally:
        for logger, handlers in zip(loggers, before, strict=True):
            for handler in set(logger.handlers) - set(handlers):
                logger.removeHandler(handler)


def local(n_workers: int) -> Cluster:
    """A Dask cluster in this process: `n_workers` workers with one slot each.

    The workers are threads that watch cell processes, so that each costs one Python, not two.
    """

    @contextmanager
    def cluster(_: Path) -> Iterator[Client]:
        quiet = {"distributed.scheduler.worker-saturation": 1.0, "distributed.worker.profile.enabled": False}
        with (
            handlers_restored(),
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
    """A SLURM job of one worker: the options `--set cluster.KEY=VALUE`."""

    queue: str = ""
    """Partition; empty: the cluster's default."""
    account: str = ""
    """Account that the jobs are charged to; empty: the user's default."""
    walltime: str = "24:00:00"
    """Longest time of a job, as SLURM writes it."""
    memory: str = "8GB"
    """Memory of a job, as Dask writes it."""
    cores: int = 1
    """Cores of a job."""
    gpu: Literal[0, 1] = 0
    """GPUs of a job, which runs one worker."""
    directives: str = ""
    """Further lines for #SBATCH, separated by `;`."""
    prologue: str = ""
    """Lines of shell before the worker starts, separated by `;`."""
    interface: str = ""
    """Network interface that the worker listens at; empty: Dask's choice."""

    def __post_init__(self) -> None:
        refuse_below("cores", self.cores, 1)
        refuse_unknown_words(self)

    @classmethod
    def build(cls, options: Mapping[str, str]) -> "Slurm":
        """Build the description of a job from the words of `--set cluster.NAME=VALUE`.

        Raises:
            BgbenchError: for an unknown option or value.
        """
        return parse_options(cls, options, owner="cluster slurm", prefix="cluster")

    @property
    def extra_directives(self) -> list[str]:
        """Lines for #SBATCH."""
        return _lines(self.directives)

    @property
    def preparation(self) -> list[str]:
        """Lines of shell before the worker starts."""
        return ["export PYTHONSAFEPATH=1", *_own_copy(), *_lines(self.prologue)]

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
            "job_extra_directives": [*gpus, *self.extra_directives],
            "job_script_prologue": self.preparation,
        }


def _own_copy() -> list[str]:
    """Shell that lets a job import this copy of bgbench where Python does not find it by itself."""
    path = import_path(os.environ.get("PYTHONPATH", ""))
    return [f"export PYTHONPATH={shlex.quote(path)}"] if path else []


def _lines(text: str) -> list[str]:
    return [line.strip() for line in text.split(";") if line.strip()]


def slurm(options: Mapping[str, str], n_jobs: int) -> Cluster:
    """`n_jobs` SLURM jobs of one worker each; the job script is stored as `slurm.sh` in the run folder.

    Raises:
        BgbenchError: for an unknown option, or where dask-jobqueue or `sbatch` is missing.
    """
    job = Slurm.build(options)
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
