"""What a process takes: threads, memory. Executors call this for workers; library code never does."""

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
    """Environment of a process whose torch, BLAS, numba and OpenMM take `n` threads each.

    Waiting threads sleep: spinning ones take whole cores from the other workers.
    """
    return {**{name: str(n) for name in VARIABLES}, "OMP_WAIT_POLICY": "PASSIVE"}


KEPT = 1 << 30
"""Bytes up to which a worker keeps freed memory for the next array."""


def memory_variables() -> dict[str, str]:
    """Environment of a process that keeps what it frees, as glibc reads it.

    Given back and asked for again, memory is cleared page by page each time: a tenth of a cell's seconds.
    """
    return {"MALLOC_MMAP_THRESHOLD_": str(KEPT), "MALLOC_TRIM_THRESHOLD_": str(KEPT)}


@contextmanager
def limited(n: int) -> Iterator[None]:
    """Inside the block torch, BLAS and OpenMP of this process take `n` threads, OpenMM's new contexts too."""
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

    Linux's own high-water mark is asked for first: `getrusage` also counts what the parent held when it
    started this process.
    """
    status = Path("/proc/self/status")
    if status.exists() and (found := re.search(r"^VmHWM:\s+(\d+) kB", status.read_text(), re.MULTILINE)):
        return int(found[1]) / 1024
    unit = 2**20 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
