"""Where the cells of a run are computed: in this process, on this machine, or elsewhere."""

from dataclasses import dataclass

from bgbench.core.devices import AUTO, find_device, gpu_number
from bgbench.runs.executors import AbstractExecutor, InProcess
from bgbench.runs.provenance import cores, visible_devices
from bgbench.runs.request import RunRequest
from bgbench.runs.subprocesses import Limits

MOST_WORKERS = 4
"""Workers that are started unless `--workers` says how many."""

HIDDEN = ""
"""CUDA_VISIBLE_DEVICES of a worker that is to see no GPU."""


@dataclass(frozen=True)
class Placement:
    """Workers on this machine.

    Attributes:
        workers: how many.
        threads: of each.
        device: where their samplers compute, as `--device` takes it in a worker.
        visible_devices: the CUDA_VISIBLE_DEVICES that workers get in turn; empty: that of this process.
    """

    workers: int
    threads: int
    device: str
    visible_devices: tuple[str, ...] = ()


def place(device: str = AUTO, workers: int | None = None, threads: int | None = None) -> Placement:
    """How a run uses this machine: one worker a GPU, else one for each core, at most four.

    Without GPUs a worker has one thread: small networks gain nothing from more, and the same number of
    threads everywhere gives the same records everywhere. Beside a GPU the cores are shared out: what is left
    for the CPU, such as energies, would hold the GPU up.

    Args:
        device: as `--device` takes it.
        workers: how many; None: as above.
        threads: of each worker; None: as above.

    Raises:
        BgbenchError: for a device that is not there.
    """
    if find_device(device).type == "cpu":
        hidden = (HIDDEN,) if visible_devices() else ()
        n_workers = min(cores(), MOST_WORKERS) if workers is None else workers
        return Placement(n_workers, threads or 1, "cpu", hidden)
    number = gpu_number(device)
    names = visible_devices() if number is None else (visible_devices()[number],)
    n_workers = len(names) if workers is None else workers
    return Placement(n_workers, threads or max(1, cores() // max(1, n_workers)), "cuda", names)


def executor_for(request: RunRequest) -> AbstractExecutor:
    """In process for `workers=0`, else Dask workers: here, behind a scheduler, or in jobs of a cluster.

    Raises:
        BgbenchError: for a device that is not on this machine, for a wrong option of the cluster, or if what
            it needs is not installed.
    """
    if request.in_process:
        placement = place(request.device, 1, request.threads)
        return InProcess(placement.threads, find_device(request.device))
    from bgbench.runs import clusters
    from bgbench.runs.dask import OnDask

    if request.scheduler is None and request.cluster is None:
        here = place(request.device, request.workers, request.threads)
        limits = Limits(here.threads, request.timeout, request.memory, here.device)
        return OnDask(clusters.local(here.workers), limits, here.visible_devices)
    limits = Limits(request.threads or 1, request.timeout, request.memory, request.device)
    if request.scheduler is not None:
        return OnDask(clusters.existing(request.scheduler), limits)
    workers = min(cores(), MOST_WORKERS) if request.workers is None else request.workers
    options = {"cores": str(limits.threads), **request.cluster_options}
    if request.cluster == "slurm-array":
        from bgbench.runs.arrays import job_array

        return job_array(options, limits, max(1, workers))
    return OnDask(clusters.slurm(options, max(1, workers)), limits)
