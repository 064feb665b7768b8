"""Peak memory and time of the whole metric set at 10,000 × 10,000 frames of ARIP, ours and the direct route.

The ensembles are the parity fixture's frames drawn 10,000 times with noise of 0.01 nm: time and memory are
those of a tetrapeptide, the values mean nothing. The direct route gives POT's dense solver the whole cost
matrix, for the torus through the array of all differences, as published. Each runs in a process of its own.
"""

import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import ot
import pytest
import torch
from safetensors.torch import load_file

from bgbench import Ensemble, Estimate, MetricCase, Proposal, Reference, TicaModel, peptide
from bgbench.core.plugins import plugins
from bgbench.evaluation.protocols import get_protocol
from bgbench.metrics.distances import tica_points, torus_points
from bgbench.metrics.sides import sides
from bgbench.runs.process import peak_memory

STORED = Path(__file__).parents[2] / "tests" / "data" / "metrics_ARIP.safetensors"
N = 10_000


def case(n: int) -> MetricCase:
    """Two ensembles of n frames."""
    stored = load_file(STORED)
    generator = torch.Generator().manual_seed(0)

    def points(name: str) -> tuple[torch.Tensor, torch.Tensor]:
        pick = torch.randint(len(stored[name]), (n,), generator=generator)
        noise = 0.01 * torch.randn(n, 70, 3, generator=generator)
        return stored[name][pick] + noise, stored[f"{name}_energy_kT"][pick].double()

    (x, u), (truth, truth_u) = points("samples"), points("reference")
    tica = TicaModel(stored["tica_mean"].double(), stored["tica_projection"].double())
    reference = Reference("ARIP", truth, truth_u, torch.arange(n) % 16, {"grade": "bronze"}, tica)
    estimate = Estimate(Ensemble(x, u, torch.zeros(n, dtype=torch.float64)), Proposal(x))
    return MetricCase(peptide("ARIP"), estimate, reference, n, generator, {"weights": "weighted"})


def ours(metric_case: MetricCase) -> dict[str, float]:
    """Every metric of the registry."""
    values: dict[str, float] = {}
    for name in get_protocol("bgbench@1").metrics:
        values |= plugins().metrics[name].compute(metric_case)
    return values


def direct(metric_case: MetricCase) -> dict[str, float]:
    """The same, but transport on whole matrices."""
    values: dict[str, float] = {}
    for name in get_protocol("bgbench@1").metrics:
        if name not in ("torus_w2", "tica_w2"):
            values |= plugins().metrics[name].compute(metric_case)
    s = sides(metric_case)
    a, b = (torus_points(metric_case.system, x).numpy() for x in (s.ours.x, s.x))
    gap = np.abs(a[:, None] - b[None])
    gap = np.minimum(gap, 2 * np.pi - gap)
    values["torus_w2"] = float(ot.emd2([], [], (gap**2).sum(-1), numItermax=10**8)) ** 0.5
    del gap
    a, b = (tica_points(metric_case.system, metric_case.reference.tica, x).numpy() for x in (s.ours.x, s.x))
    cost = ot.dist(a, b, metric="sqeuclidean")
    values["tica_w2"] = float(ot.emd2([], [], cost, numItermax=10**8)) ** 0.5
    return values


def measured(route: str, n: int) -> dict[str, float]:
    """Values, CPU seconds and peak MB of one route in a process of its own."""
    run = subprocess.run(
        [sys.executable, __file__, route, str(n)], capture_output=True, text=True, check=True
    )
    return json.loads(run.stdout.splitlines()[-1])


@pytest.mark.parametrize("n", [2_000, N])
def test_whole_metric_set(n):
    after, before = measured("ours", n), measured("direct", n)
    for name in ("torus_w2", "tica_w2"):
        assert after[name] == pytest.approx(before[name], rel=1e-6)
    ratio = before["cpu"] / after["cpu"]
    print(
        f"\nARIP, {n} × {n}, all metrics: direct {before['cpu']:.0f} s, {before['MB']:.0f} MB; "
        f"ours {after['cpu']:.0f} s, {after['MB']:.0f} MB; {ratio:.2f} × as fast (CPU time)"
    )
    assert after["MB"] < 1500


if __name__ == "__main__":
    metric_case = case(int(sys.argv[2]))
    started = time.process_time()
    values = {"ours": ours, "direct": direct}[sys.argv[1]](metric_case)
    cpu = time.process_time() - started
    peak = peak_memory()
    print(json.dumps({**values, "cpu": cpu, "MB": peak}))
