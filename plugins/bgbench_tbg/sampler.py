"""TBG as a sampler: proposals of the continuous flow with their density, centre of mass left out."""

import math
import time
from functools import lru_cache

import torch
from torch import Tensor

import bgbench
from bgbench_tbg.flow import (
    TRACES,
    Divergence,
    Solver,
    exact,
    flown,
    hutchinson,
    log_prior,
)
from bgbench_tbg.network import Field, Molecules, molecules

TRAINED_AT = 310.0
"""K. At another temperature T the prior is scaled to N(0, T/310): approximate, but the weights stay exact."""
PLACE = 0.1
"""nm. Width of the centre of mass, where conventions ask for a density that includes it."""


class TBGSampler(bgbench.AbstractDensitySampler, bgbench.Invertible):
    """The flow lives on conformers without mean; its density is the same for every orientation."""

    chunk = 512
    measure = "internal"

    def __init__(
        self,
        field: Field,
        solver: Solver | None = None,
        trace: str = "exact",
        card: bgbench.Card | None = None,
    ) -> None:
        if trace not in TRACES:
            raise bgbench.BgbenchError(f"trace must be one of {', '.join(TRACES)}, got '{trace}'")
        self.field = field.eval().requires_grad_(False)
        self.solver, self.trace = solver or Solver(), trace
        self.exact = trace == "exact"
        self.card = card or bgbench.Card("tbg", n_parameters=field.n_parameters())
        self._molecules = lru_cache(maxsize=8)(lambda atoms: molecules([atoms], field.config))

    def check_supports(self, system: bgbench.System) -> None:
        if not system.atoms:
            raise bgbench.Unsupported("TBG knows atoms by name and residue; this system has none")
        try:
            self._molecules(system.atoms)
        except bgbench.BgbenchError as error:
            raise bgbench.Unsupported(str(error)) from error

    def draw(self, task: bgbench.Task, n_samples: int) -> bgbench.Proposal:
        started = time.perf_counter()
        m = self._molecules(task.system.atoms)
        beta = TRAINED_AT / task.system.temperature
        shape = (n_samples, task.system.n_atoms, 3)
        z = centred(torch.randn(shape, generator=task.generator)) / math.sqrt(beta)
        place = PLACE * torch.randn(n_samples, 1, 3, generator=task.generator)
        with torch.no_grad():
            x, grown = flown(self.field, z, m, self.solver, self._divergence(task, m, z))
        task.oracle.count("drawn", n_samples, time.perf_counter() - started)
        x = self.field.config.scale * centred(x) + place
        return bgbench.Proposal(x, self._around(task, x, log_prior(z, beta) - grown))

    def log_prob(self, task: bgbench.Task, x: Tensor) -> Tensor:
        started = time.perf_counter()
        m = self._molecules(task.system.atoms)
        x = x.to(next(self.field.parameters()))
        scaled = centred(x) / self.field.config.scale
        z, grown = flown(self.field, scaled, m, self.solver, self._divergence(task, m, scaled), back=True)
        task.oracle.count("log_density", len(x), time.perf_counter() - started)
        return self._around(task, x, log_prior(z, TRAINED_AT / task.system.temperature) - grown)

    def latent(self, task: bgbench.Task, x: Tensor) -> tuple[Tensor, Tensor]:
        m = self._molecules(task.system.atoms)
        scaled = x / self.field.config.scale
        place = scaled.mean(1, keepdim=True)
        z, grown = flown(
            self.field, scaled - place, m, self.solver, self._divergence(task, m, scaled), back=True
        )
        return z + place, -grown - 3 * task.system.n_atoms * math.log(self.field.config.scale)

    def _divergence(self, task: bgbench.Task, m: Molecules, like: Tensor) -> Divergence:
        if self.trace == "exact":
            return exact(self.field, m)
        sign = torch.rand(like.shape, generator=task.generator, dtype=like.dtype) < 0.5
        return hutchinson(self.field, m, 1 - 2 * sign.to(like))

    def _around(self, task: bgbench.Task, x: Tensor, log_q: Tensor) -> Tensor:
        """log q over coordinates in nm at a given centre of mass, or with the centre's own density.

        The flow's density is over an orthonormal basis of the conformers without mean; N atoms moved
        together by a vector c move √N ‖c‖ in 3 N coordinates, hence N^(3/2). A field that knows distances
        alone gives mirror images one density: folding adds log 2.
        """
        n = task.system.n_atoms
        log_q = log_q - 3 * (n - 1) * math.log(self.field.config.scale) - 1.5 * math.log(n)
        if task.conventions.handedness == "fold":
            log_q = log_q + math.log(2)
        if task.conventions.com != "none":
            return log_q
        c = x.mean(1)
        return log_q - 0.5 * (c / PLACE).square().sum(-1) - 3 * math.log(PLACE * math.sqrt(2 * math.pi))


def centred(x: Tensor) -> Tensor:
    """`x (n, atoms, 3)` less its mean."""
    return x - x.mean(1, keepdim=True)
