"""Draws of a sampler in a process that knows nothing but its name and options, as a worker does."""

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from bgbench.core.abstract import Task
from bgbench.core.calls import call_sample
from bgbench.core.plugins import build_sampler
from bgbench.energies.batched import BatchedEnergy
from bgbench.energies.meter import MeteredEnergy
from bgbench.runs.process import limited
from bgbench.runs.subprocesses import Limits, environment
from bgbench.systems.named import find_system

N_SAMPLES, BUDGET, TEMPERATURE = 4, 100, 310.0


def draw(name: str, options: Mapping[str, str], system: str) -> Tensor:
    """A few conformers `(n, atoms, 3)` in nm of a sampler that is built for them."""
    sampler, target = build_sampler(name, options), find_system(system, TEMPERATURE)
    oracle = MeteredEnergy(BatchedEnergy(target), BUDGET)
    task = Task(target, oracle, torch.Generator().manual_seed(0), N_SAMPLES)
    with limited(1):
        return call_sample(sampler, task, N_SAMPLES).x


def draw_in_fresh_process(name: str, options: Mapping[str, str], system: str) -> Tensor:
    """What `draw` returns in a process of its own, with the environment of a worker.

    Raises:
        RuntimeError: with the last line that the process wrote, if it fails.
    """
    with tempfile.TemporaryDirectory() as folder:
        words = [name, json.dumps(dict(options)), system, f"{folder}/x.npy"]
        done = subprocess.run(
            [sys.executable, "-P", "-m", "bgbench.authoring.fresh", *words],
            env=environment(Limits()),
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(
                ([line for line in done.stderr.splitlines() if line.strip()] or ["no word"])[-1]
            )
        return torch.from_numpy(np.load(f"{folder}/x.npy"))


if __name__ == "__main__":
    np.save(Path(sys.argv[4]), draw(sys.argv[1], json.loads(sys.argv[2]), sys.argv[3]).numpy())
