"""Verse as a sampler: shapes with their density, put at random orientations and places."""

import math
import time
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import bgbench
import bgbench.data
from bgbench_training.rotations import turns
from bgbench_training.weights import make_card
from bgbench_verse.chemistry import Molecules, molecule, together
from bgbench_verse.density import draw, log_density, uniform
from bgbench_verse.hydrogens import exchanged_rivals, n_pairs, renamed
from bgbench_verse.tuning import tuned
from bgbench_verse.weights import Trained, save

PLACE = 0.1
"""nm. Width of the centre of mass, where conventions ask for a density that includes it."""


class VerseSampler(bgbench.AbstractDensitySampler, bgbench.Invertible, bgbench.Tunable):
    """Draws shapes atom by atom; orientation is uniform, the centre of mass Gaussian and divided out.

    Hydrogens that only their names tell apart are named by chance: each naming has its share of q.
    """

    chunk = 1024
    measure = "internal"

    def __init__(self, trained: Trained) -> None:
        self.trained = trained
        self.card = make_card(trained.card, "verse", trained.net.n_parameters(), trained.sha256)
        self.net = trained.net.eval().requires_grad_(False)
        self._molecules = lru_cache(maxsize=8)(self._read)

    def check_supports(self, system: bgbench.System) -> None:
        if not system.atoms:
            raise bgbench.Unsupported("Verse builds molecules along their bonds; this system has none")
        try:
            self._molecules(system.atoms, system.bonds)
        except bgbench.BgbenchError as error:
            raise bgbench.Unsupported(str(error)) from error

    def draw(self, task: bgbench.Task, n_samples: int) -> bgbench.Proposal:
        started = time.perf_counter()
        m, place = self._molecules(task.system.atoms, task.system.bonds)
        with torch.no_grad():
            x, log_q = draw(self.net, m, n_samples, task.generator)
        x = exchanged_rivals(x, m.tree, torch.rand(x.shape[:2], generator=task.generator) < 0.5)
        x = x - x.mean(1, keepdim=True)
        noise = torch.randn(n_samples, 1, 3, generator=task.generator)
        x = x @ rotations(n_samples, task.generator) + PLACE * noise
        task.oracle.count("drawn", n_samples, time.perf_counter() - started)
        if task.conventions.handedness == "fold":
            started = time.perf_counter()
            with torch.no_grad():
                log_q = torch.logaddexp(log_q, log_density(self.net, renamed(-x, m.tree), m))
            task.oracle.count("log_density", n_samples, time.perf_counter() - started)
        return bgbench.Proposal(x[:, place], self._around(task, x, log_q, m))

    def log_prob(self, task: bgbench.Task, x: Tensor) -> Tensor:
        started = time.perf_counter()
        m, place = self._molecules(task.system.atoms, task.system.bonds)
        ordered = x.to(next(self.net.parameters()))[:, torch.argsort(place)]
        log_q = log_density(self.net, renamed(ordered, m.tree), m)
        if task.conventions.handedness == "fold":
            log_q = torch.logaddexp(log_q, log_density(self.net, renamed(-ordered, m.tree), m))
        task.oracle.count("log_density", len(x), time.perf_counter() - started)
        return self._around(task, ordered, log_q, m)

    def latent(self, task: bgbench.Task, x: Tensor) -> tuple[Tensor, Tensor]:
        m, place = self._molecules(task.system.atoms, task.system.bonds)
        return uniform(self.net, renamed(x[:, torch.argsort(place)], m.tree), m)

    def finetuned(self, task: bgbench.Task, x: Tensor, tuning: bgbench.Tuning) -> "VerseSampler":
        started = time.perf_counter()
        m, place = self._molecules(task.system.atoms, task.system.bonds)
        net = tuned(self.net, m, renamed(x[:, torch.argsort(place)], m.tree), tuning, task.generator)
        task.oracle.count("gradient", tuning.steps * tuning.batch, time.perf_counter() - started)
        return VerseSampler(replace(self.trained, net=net, sha256=""))

    def save(self, path: Path, notes: Mapping[str, Any]) -> None:
        save(path, replace(self.trained, card=bgbench.data.tuned_card(self.trained.card, notes)))

    def _around(self, task: bgbench.Task, x: Tensor, log_q: Tensor, m: Molecules) -> Tensor:
        """Add the density of orientation, hydrogens' names and, where asked for, the centre of mass."""
        log_q = log_q - math.log(orientations(x.shape[1])) - math.log(2) * n_pairs(m.tree)
        if task.conventions.com != "none":
            return log_q
        c = x.mean(1)
        return log_q - 0.5 * (c / PLACE).square().sum(-1) - 3 * math.log(PLACE * math.sqrt(2 * math.pi))

    def _read(
        self, atoms: tuple[bgbench.Atom, ...], bonds: tuple[tuple[int, int], ...]
    ) -> tuple[Molecules, Tensor]:
        """The molecule, and for each atom its step in the order."""
        one = molecule(atoms, bonds, self.trained.vocabulary, self.trained.table)
        return together([one]), one.tree.place


def orientations(n_atoms: int) -> float:
    """Volume of the rotations of n atoms: 4π of two, 8π² of more (none of them in line)."""
    return 1.0 if n_atoms < 2 else 4 * math.pi if n_atoms == 2 else 8 * math.pi**2


def rotations(n: int, generator: torch.Generator) -> Tensor:
    """Uniform rotations `(n, 3, 3)`, from quaternions of normal numbers."""
    return turns(torch.randn(n, 4, generator=generator))
