"""Peak memory is a process's own."""

import subprocess
import sys

import numpy as np

from bgbench.runs.process import peak_memory

CHILD = "from bgbench.runs.process import peak_memory; print(peak_memory())"


def test_peak_counts_what_was_freed():
    before = peak_memory()
    held = np.ones(60_000_000)
    del held
    assert peak_memory() > before or before > 480


def test_a_child_does_not_inherit_its_parents_peak():
    held = np.ones(100_000_000)
    child = subprocess.run([sys.executable, "-c", CHILD], capture_output=True, text=True, check=True)
    assert 5 < float(child.stdout) < held.nbytes / 2**20 / 2
