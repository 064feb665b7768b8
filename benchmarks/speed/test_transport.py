"""Exact transport on six angles against the direct route: the whole cost matrix, POT's dense solver."""

import subprocess
import sys
import time

import numpy as np
import ot
import pytest

from bgbench.metrics.transport import exact_transport

MODES, WIDTH = 12, 0.35


def cloud(seed: int, n: int) -> np.ndarray:
    """Angles of a mixture like a tetrapeptide's; the populations differ between seeds."""
    random = np.random.default_rng(seed)
    centres = np.random.default_rng(5).uniform(-np.pi, np.pi, (MODES, 6))
    mode = random.choice(MODES, n, p=random.dirichlet(np.ones(MODES)))
    return np.mod(centres[mode] + WIDTH * random.normal(size=(n, 6)) + np.pi, 2 * np.pi) - np.pi


def direct(a: np.ndarray, b: np.ndarray) -> float:
    gap = np.abs(a[:, None] - b[None])
    gap = np.minimum(gap, 2 * np.pi - gap)
    return float(ot.emd2([], [], (gap**2).sum(-1), numItermax=10**8))


@pytest.mark.parametrize("n", [4_000, 10_000])
def test_ratio_to_the_direct_route(n):
    a, b = cloud(1, n), cloud(2, n)
    started = time.perf_counter()
    ours = exact_transport(a, b, periodic=True)
    middle = time.perf_counter()
    theirs = direct(a, b)
    ratio = (time.perf_counter() - middle) / (middle - started)
    print(f"n = {n}: {middle - started:.1f} s, direct/ours {ratio:.2f}, {dict(ours.certificate)}")
    assert ours.cost == pytest.approx(theirs, rel=1e-9)


def test_peak_memory():
    """In a process of its own; the published route builds 4.8 GB at 10,000 × 10,000."""
    code = (
        "from bgbench.runs.process import peak_memory\nfrom test_transport import cloud, exact_transport\n"
        "exact_transport(cloud(1, 10_000), cloud(2, 10_000), periodic=True)\nprint(peak_memory())"
    )
    folder = __file__.rpartition("/")[0]
    child = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=True
    )
    print(f"peak {float(child.stdout):.0f} MB at 10,000 × 10,000")
    assert float(child.stdout) < 1500
