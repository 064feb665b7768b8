"""Verse as a sampler: shapes with their density, in random orientations, about a random centre.

The flow's density is of shapes (`density`). A uniform orientation divides it by the volume of the rotations,
8π², and names of prochiral hydrogens chosen at random divide it by 2 for each pair. Where the conventions
ask for the centre of mass, its Gaussian of width 0.1 nm is a factor, too. With the `fold` convention a sample
stands for itself and its mirror image: q(x) + q(−x).
"""

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import bgbench
import bgbench.data
from bgbench_training.devices import CPU, move_network, moved
from bgbench_training.rotations import rotation_matrices
from bgbench_training.weights import make_card
from bgbench_verse.density import log_density, rotation_volume, to_uniform
from bgbench_verse.molecule import MoleculeBatch, batch_molecules, build_molecule
from bgbench_verse.prochiral import count_pairs, exchange_partners, to_canonical_names
from bgbench_verse.sampling import sample_conformers
from bgbench_verse.tuning import fine_tune
from bgbench_verse.weights import TrainedVerse, save

CENTRE_WIDTH = 0.1
"""nm. Width of the centre of mass, where conventions ask for a density that includes it."""


@dataclass(frozen=True)
class _Peptide:
    """A system as the network sees it, and the step at which each of its atoms is placed."""

    molecules: MoleculeBatch
    order: Tensor
    step_of_atom: Tensor

    def to_network(self, x: Tensor) -> Tensor:
        """`x (n, N, 3)` from the system's order into placing order, under canonical names."""
        return to_canonical_names(x[:, self.order], self.molecules.zmatrix)


class VerseSampler(bgbench.AbstractDensitySampler, bgbench.Invertible, bgbench.Tunable):
    """The autoregressive flow of `trained`.

    Args:
        trained: Network, vocabulary and reference geometry, as `weights.load` reads them.
    """

    chunk = 1024
    measure = "internal"
    base = "uniform"

    def __init__(self, trained: TrainedVerse) -> None:
        self.trained = trained
        self.card = make_card(trained.card, "verse", trained.net.n_parameters(), trained.sha256)
        self.net = trained.net.eval().requires_grad_(False)
        self._peptides = lru_cache(maxsize=8)(self._build_peptide)

    def check_supports(self, system: bgbench.System) -> None:
        if not system.atoms:
            raise bgbench.Unsupported("Verse builds molecules along their bonds; this system has none")
        try:
            self._peptide(system)
        except bgbench.BgbenchError as error:
            raise bgbench.Unsupported(str(error)) from error

    def draw(self, task: bgbench.Task, n_samples: int) -> bgbench.Proposal:
        started = time.perf_counter()
        peptide = self._on_device(task)
        molecules, zmatrix = peptide.molecules, peptide.molecules.zmatrix
        with torch.no_grad():
            x, log_q = sample_conformers(self.net, molecules, n_samples, task.generator)
        x = exchange_partners(x, zmatrix, task.uniform(*x.shape[:2]) < 0.5)
        x = x - x.mean(1, keepdim=True)
        centre = CENTRE_WIDTH * task.normal(n_samples, 1, 3)
        x = x @ rotation_matrices(task.normal(n_samples, 4)) + centre
        task.oracle.count("drawn", n_samples, time.perf_counter() - started)
        if task.conventions.handedness == "fold":
            started = time.perf_counter()
            with torch.no_grad():
                mirror_image = to_canonical_names(-x, zmatrix)
                log_q = torch.logaddexp(log_q, log_density(self.net, mirror_image, molecules))
            task.oracle.count("log_density", n_samples, time.perf_counter() - started)
        return bgbench.Proposal(x[:, peptide.step_of_atom], self._log_q(task, x, log_q, molecules))

    def log_prob(self, task: bgbench.Task, x: Tensor) -> Tensor:
        started = time.perf_counter()
        peptide = self._on_device(task)
        x = x.to(next(self.net.parameters()))
        log_q = log_density(self.net, peptide.to_network(x), peptide.molecules)
        if task.conventions.handedness == "fold":
            mirror_image = log_density(self.net, peptide.to_network(-x), peptide.molecules)
            log_q = torch.logaddexp(log_q, mirror_image)
        task.oracle.count("log_density", len(x), time.perf_counter() - started)
        return self._log_q(task, x[:, peptide.order], log_q, peptide.molecules)

    def latent(self, task: bgbench.Task, x: Tensor) -> tuple[Tensor, Tensor]:
        peptide = self._on_device(task)
        x = x.to(task.device)
        numbers, log_det = to_uniform(self.net, peptide.to_network(x), peptide.molecules)
        centre = torch.distributions.Normal(0.0, CENTRE_WIDTH)
        c = x.mean(1)
        return torch.cat([centre.cdf(c), numbers], dim=1), log_det + centre.log_prob(c).sum(-1)

    def finetuned(self, task: bgbench.Task, x: Tensor, tuning: bgbench.Tuning) -> "VerseSampler":
        started = time.perf_counter()
        peptide = self._on_device(task)
        net = fine_tune(
            self.net, peptide.molecules, peptide.to_network(x.to(task.device)), tuning, task.generator
        )
        task.oracle.count("gradient", tuning.steps * tuning.batch, time.perf_counter() - started)
        return VerseSampler(replace(self.trained, net=net, sha256=""))

    def save(self, path: Path, notes: Mapping[str, Any]) -> None:
        save(path, replace(self.trained, card=bgbench.data.tuned_card(self.trained.card, notes)))

    def _log_q(self, task: bgbench.Task, x: Tensor, log_q: Tensor, molecules: MoleculeBatch) -> Tensor:
        """log q over all coordinates of `x (n, N, 3)` nm, from that of shapes: see the module."""
        log_q = log_q - math.log(rotation_volume(x.shape[1])) - math.log(2) * count_pairs(molecules.zmatrix)
        if task.conventions.com != "none":
            return log_q
        c = x.mean(1)
        norm = 3 * math.log(CENTRE_WIDTH * math.sqrt(2 * math.pi))
        return log_q - 0.5 * (c / CENTRE_WIDTH).square().sum(-1) - norm

    def _on_device(self, task: bgbench.Task) -> _Peptide:
        """The peptide on the task's device, where the weights are from now on."""
        move_network(self.net, task.device)
        return self._peptide(task.system, task.device)

    def _peptide(self, system: bgbench.System, device: torch.device = CPU) -> _Peptide:
        return self._peptides(system.atoms, system.bonds, device)

    def _build_peptide(
        self, atoms: tuple[bgbench.Atom, ...], bonds: tuple[tuple[int, int], ...], device: torch.device
    ) -> _Peptide:
        molecule = build_molecule(atoms, bonds, self.trained.vocabulary, self.trained.table)
        zmatrix = molecule.zmatrix
        peptide = _Peptide(batch_molecules([molecule]), zmatrix.order, zmatrix.step_of_atom)
        return moved(peptide, device)
