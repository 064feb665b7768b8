"""What a process holds."""

import re
import resource
import sys
from pathlib import Path


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
