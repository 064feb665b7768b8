"""Samplers that misbehave, one a name, and one that is slow: they are put on the path by tests."""

import contextlib
import ctypes
import json
import math
import os
import random
import stat
import sys
import time

import numpy as np
import torch

import bgbench

WIDTH = 0.2
SLICES = 10


def draw(task, n):
    """Normal around the start structure, with its density."""
    start = task.system.positions
    noise = torch.randn(n, *start.shape, generator=task.generator, dtype=start.dtype)
    constant = 3 * task.system.n_atoms * (math.log(WIDTH) + 0.5 * math.log(2 * math.pi))
    return bgbench.Proposal(start + WIDTH * noise, -0.5 * noise.square().sum((1, 2)) - constant)


def good(task, n):
    return draw(task, n)


def slow(task, n):
    """Takes BGBENCH_TEST_SECONDS, in slices."""
    for _ in range(SLICES):
        time.sleep(float(os.environ.get("BGBENCH_TEST_SECONDS", "0")) / SLICES)
        task.progress(n // SLICES)
    return draw(task, n)


def budget(task, n):
    task.oracle.energy(draw(task, n).x)
    task.oracle.energy(draw(task, 1).x)
    return draw(task, n)


def nan(task, n):
    return bgbench.Proposal(draw(task, n).x * math.nan)


def shape(task, n):
    return bgbench.Proposal(draw(task, n).x[..., :2])


def few(task, n):
    return bgbench.Proposal(draw(task, n).x[: n // 2])


def foreign(task, n):
    return bgbench.Proposal(bgbench.peptide("AA").positions.expand(n, -1, -1))


def backwards(task, n):
    """Conformers of the peptide that is spelt the other way round: as many atoms, other bonds."""
    start = bgbench.peptide(task.system.name[::-1]).positions
    return bgbench.Proposal(start.expand(n, -1, -1))


def energies(task, n):
    x = draw(task, n).x
    return bgbench.Proposal(x, u=torch.full((n,), -1e3, dtype=torch.float64))


def seed(task, n):
    torch.manual_seed(0)
    return draw(task, n)


def numpy_seed(task, n):
    np.random.seed(0)  # noqa: NPY002
    random.random()
    return draw(task, n)


def threads(task, n):
    torch.set_num_threads(torch.get_num_threads() + 1)
    return draw(task, n)


def folder(task, n):
    os.chdir("/")
    return draw(task, n)


def prints(task, n):
    print("look at me")
    return draw(task, n)


def hangs(task, n):
    time.sleep(3600)
    return draw(task, n)


def segfault(task, n):
    ctypes.string_at(0)
    return draw(task, n)


def raises(task, n):
    raise RuntimeError("no luck today")


def exits(task, n):
    sys.exit(3)


def memory(task, n):
    held = []
    while len(held) < 60:
        held.append(torch.ones(100 * 2**20 // 8, dtype=torch.float64))
        time.sleep(0.02)
    return draw(task, n)


def garbles(task, n):
    """Writes into every pipe it finds, the one on which its worker reports among them."""
    for fd in range(3, 50):
        with contextlib.suppress(OSError):
            if stat.S_ISFIFO(os.fstat(fd).st_mode):
                os.write(fd, b"garbage\n")
    return draw(task, n)


KINDS = (
    good, slow, budget, nan, shape, few, foreign, backwards, energies, seed, numpy_seed, threads, folder,
    prints, hangs, segfault, raises, exits, memory, garbles,
)  # fmt: skip


class Trouble(bgbench.AbstractSampler):
    def __init__(self, kind):
        self.kind, self.card = kind, bgbench.Card(kind.__name__)

    def sample(self, task, n_samples):
        return self.kind(task, n_samples)


@bgbench.hookimpl
def bgbench_samplers():
    return [
        bgbench.SamplerPlugin(
            name=kind.__name__,
            summary="for tests",
            build=lambda options, kind=kind: Trouble(kind),
        )
        for kind in KINDS
    ]


def notebook(folder, uri, sent):
    """Writes the names of new records into a file, `notebook://PATH`."""
    if uri == "notebook://die":
        print("no paper left", file=sys.stderr)
        os._exit(3)
    if uri == "notebook://ask":
        raise ValueError(f"the answer was {sys.stdin.read()!r}")
    if uri == "notebook://wordless":
        raise ValueError("")
    if uri == "notebook://asleep":
        time.sleep(3600)
    cells = json.loads((folder / "run.json").read_text())["cells"]
    names = [f"{cell['system'].replace(':', '_')}-s{cell['seed']}" for cell in cells]
    with open(uri.removeprefix("notebook://"), "a") as stream:
        print("a tracker may print")
        stream.write("".join(f"{name}\n" for name in names if name not in sent))
    sent |= dict.fromkeys(names, 0)


@bgbench.hookimpl
def bgbench_trackers():
    return [bgbench.TrackerPlugin("notebook", "for tests", notebook)]
