"""Where the cells of a run are computed: in this process, on this machine, or elsewhere."""

from bgbench.runs.executors import AbstractExecutor, InProcess
from bgbench.runs.provenance import cores, visible_devices
from bgbench.runs.request import RunRequest
from bgbench.runs.subprocesses import Limits

MOST_WORKERS = 4
"""Workers that are started unless `--workers` says how many."""


def executor_for(request: RunRequest) -> AbstractExecutor:
    """In process for `workers=0`, else Dask workers: here, behind a scheduler, or in jobs of a cluster.

    The default is one worker for each core or each GPU, at most four, of one thread each: small networks
    gain nothing from threads, and the same number of threads everywhere gives the same records everywhere.

    Raises:
        BgbenchError: for a wrong option of the cluster, or if what it needs is not installed.
    """
    if request.in_process:
        return InProcess(request.threads)
    from bgbench.runs import clusters
    from bgbench.runs.dask import OnDask

    devices = visible_devices()
    workers = min(len(devices) or cores(), MOST_WORKERS) if request.workers is None else request.workers
    limits = Limits(request.threads, request.timeout, request.memory)
    if request.scheduler is not None:
        return OnDask(clusters.existing(request.scheduler), limits)
    if request.cluster is not None:
        options = {"cores": str(request.threads), **request.cluster_options}
        return OnDask(clusters.slurm(options, max(1, workers)), limits)
    return OnDask(clusters.local(workers), limits, devices)
