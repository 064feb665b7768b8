"""Kernels are compiled where nothing can be cached, as in a read-only container without a home."""

import os
import subprocess
import sys

import numba.core.caching

from bgbench.data import compiled


def test_without_a_place_for_a_cache_a_kernel_works_all_the_same(monkeypatch):
    monkeypatch.setattr(numba.core.caching.CacheImpl, "_locator_classes", [])

    @compiled(nogil=True)
    def twice(x):
        return 2 * x

    assert twice(21) == 42


def test_every_kernel_is_imported_without_a_place_for_a_cache():
    code = """
import numba.core.caching
numba.core.caching.CacheImpl._locator_classes = []
import bgbench.metrics.pricing, bgbench.energies.kernels, bgbench_prose.kernels, bgbench_prose.products
"""
    done = subprocess.run(
        [sys.executable, "-c", code], env=dict(os.environ), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-500:]
