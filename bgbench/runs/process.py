"""Threads and memory of a process. Executors set them for workers; library code never does."""

import os
import re
import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from threadpoolctl import threadpool_limits

OPENMM = "OPENMM_CPU_THREADS"
VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS", OPENMM)


def thread_variables(n: int) -> dict[str, str]:
    """Environment of a process in which torch, BLAS, numba and OpenMM use `n` threads each.

    Waiting threads sleep, since spinning ones would occupy the cores of other workers.
    """
    return {**{name: str(n) for name in VARIABLES}, "OMP_WAIT_POLICY": "PASSIVE"}


LARGEST_KEPT = 1 << 30
"""Bytes up to which a worker keeps freed memory."""


def memory_variables() -> dict[str, str]:
    """Environment, read by glibc, of a process that keeps freed memory for its next arrays.

    Returning memory to the system costs 10 % of a cell's time, since new pages are cleared.
    """
    return {"MALLOC_MMAP_THRESHOLD_": str(LARGEST_KEPT), "MALLOC_TRIM_THRESHOLD_": str(LARGEST_KEPT)}


@contextmanager
def limited(n: int) -> Iterator[None]:
    """Inside the block torch, BLAS, OpenMP and new contexts of OpenMM use `n` threads in this process."""
    before = torch.get_num_threads(), os.environ.get(OPENMM)
    torch.set_num_threads(n)
    os.environ[OPENMM] = str(n)
    try:
        with threadpool_limits(n):
            yield
    finally:
        torch.set_num_threads(before[0])
        del os.environ[OPENMM]
        if before[1] is not None:
            os.environ[OPENMM] = before[1]


def peak_memory() -> float:
    """Peak resident memory of this process in MB.

    On Linux it is the kernel's high-water mark: `getrusage` also counts what the parent held when it started
    this process.
    """
    status = Path("/proc/self/status")
    if status.exists() and (peak := re.search(r"^VmHWM:\s+(\d+) kB", status.read_text(), re.MULTILINE)):
        return int(peak[1]) / 1024
    unit = 2**20 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
