"""TBG as a sampler: proposals of the continuous flow with their density, centre of mass left out.

The flow's density is over an orthonormal basis of the conformers without mean, in units of `scale`. Over
coordinates in nm at a fixed centre of mass it is

    log q_nm(x) = log q(x / scale) − 3 (N − 1) log scale − 3/2 log N,

for N atoms that move together by c move √N ‖c‖ in 3N coordinates. The field knows distances alone and gives
mirror images one density, so that the `fold` convention adds log 2; where the conventions ask for the centre
of mass, its Gaussian of width 0.1 nm is a factor.
"""

import math
import time
from functools import lru_cache

import torch
from torch import Tensor

import bgbench
import bgbench.data
from bgbench_tbg.flow import (
    TRACES,
    Divergence,
    Solver,
    exact_divergence,
    gradient_bytes,
    hutchinson_divergence,
    integrate_flow,
    log_prior,
)
from bgbench_tbg.network import EncodedPeptides, Field, encode_peptides
from bgbench_training.devices import CPU, move_network, moved
from bgbench_training.memory import density_in_parts, free_bytes, samples_that_fit

TRAINING_TEMPERATURE = 310.0
"""K. At another temperature T the prior is N(0, T/310): an approximation, but weights stay exact."""
CENTRE_WIDTH = 0.1
"""nm. Width of the centre of mass, where conventions ask for a density that includes it."""


class TBGSampler(bgbench.AbstractDensitySampler, bgbench.Invertible):
    """The flow of a vector field.

    Args:
        field: The vector field.
        solver: Of its paths; the default if None.
        trace: `exact`, or `hutchinson` for a stochastic estimate of ∇·v, with which log q is not exact.

    Raises:
        BgbenchError: for another trace.
    """

    chunk = 512
    measure = "internal"

    def __init__(
        self,
        field: Field,
        solver: Solver | None = None,
        trace: str = "exact",
        card: bgbench.Card | None = None,
    ) -> None:
        bgbench.data.refuse_unknown_word("trace", trace, TRACES)
        self.field = field.eval().requires_grad_(False)
        self.solver, self.trace = solver or Solver(), trace
        self.exact = trace == "exact"
        self.card = card or bgbench.Card("tbg", n_parameters=field.n_parameters())
        self._encode = lru_cache(maxsize=8)(
            lambda atoms, device: moved(encode_peptides([atoms], field.config), device)
        )

    def check_supports(self, system: bgbench.System) -> None:
        if not system.atoms:
            raise bgbench.Unsupported("TBG knows atoms by name and residue; this system has none")
        try:
            self._encode(system.atoms, CPU)
        except bgbench.BgbenchError as error:
            raise bgbench.Unsupported(str(error)) from error

    def draw(self, task: bgbench.Task, n_samples: int) -> bgbench.Proposal:
        started = time.perf_counter()
        peptide = self._on_device(task)
        beta = TRAINING_TEMPERATURE / task.system.temperature
        z = centre(task.normal(n_samples, task.system.n_atoms, 3)) / math.sqrt(beta)
        centre_of_mass = CENTRE_WIDTH * task.normal(n_samples, 1, 3)
        divergence = self._divergence(task, peptide, z)
        with torch.no_grad():
            x, integral = integrate_flow(self.field, z, peptide, self.solver, divergence)
        task.oracle.count("drawn", n_samples, time.perf_counter() - started)
        x = self.field.config.scale * centre(x) + centre_of_mass
        return bgbench.Proposal(x, self._log_q(task, x, log_prior(z, beta) - integral))

    def log_prob(self, task: bgbench.Task, x: Tensor) -> Tensor:
        started = time.perf_counter()
        peptide = self._on_device(task)
        x = x.to(next(self.field.parameters()))
        scaled = centre(x) / self.field.config.scale
        divergence = self._divergence(task, peptide, scaled)
        beta = TRAINING_TEMPERATURE / task.system.temperature

        def density(part: Tensor, rows: slice) -> Tensor:
            along = of_part(divergence, rows)
            z, integral = integrate_flow(self.field, part, peptide, self.solver, along, backward=True)
            return log_prior(z, beta) - integral

        if scaled.requires_grad and torch.is_grad_enabled() and scaled.device.type != "cpu":
            each = gradient_bytes(self.field, task.system.n_atoms)
            most = samples_that_fit(free_bytes(scaled.device), each, len(scaled))
            log_q = density_in_parts(density, scaled, most)
        else:
            log_q = density(scaled, slice(0, len(scaled)))
        task.oracle.count("log_density", len(x), time.perf_counter() - started)
        return self._log_q(task, x, log_q)

    def latent(self, task: bgbench.Task, x: Tensor) -> tuple[Tensor, Tensor]:
        peptide = self._on_device(task)
        x = x.to(task.device)
        scaled = centre(x) / self.field.config.scale
        divergence = self._divergence(task, peptide, scaled)
        z, integral = integrate_flow(self.field, scaled, peptide, self.solver, divergence, backward=True)
        n, beta = task.system.n_atoms, TRAINING_TEMPERATURE / task.system.temperature
        # The mean of n standard normal numbers is normal, √n narrower: that of the noise is the centre.
        mean = x.mean(1, keepdim=True) / (CENTRE_WIDTH * math.sqrt(n))
        log_det = 3 * (n - 1) * (0.5 * math.log(beta) - math.log(self.field.config.scale)) - integral
        return math.sqrt(beta) * z + mean, log_det - 3 * math.log(CENTRE_WIDTH) - 1.5 * math.log(n)

    def _on_device(self, task: bgbench.Task) -> EncodedPeptides:
        """The peptide on the task's device, where the weights are from now on."""
        move_network(self.field, task.device)
        peptide: EncodedPeptides = self._encode(task.system.atoms, task.device)
        return peptide

    def _divergence(self, task: bgbench.Task, peptide: EncodedPeptides, like: Tensor) -> Divergence:
        """The divergence along paths of as many samples as `like (n, atoms, 3)` has."""
        if self.trace == "exact":
            return exact_divergence(self.field, peptide)
        negative = task.uniform(*like.shape, dtype=like.dtype) < 0.5
        return hutchinson_divergence(self.field, peptide, 1 - 2 * negative.to(like))

    def _log_q(self, task: bgbench.Task, x: Tensor, log_q: Tensor) -> Tensor:
        """log q over coordinates of `x (n, N, 3)` nm, from that of the flow: see the module."""
        n = task.system.n_atoms
        log_q = log_q - 3 * (n - 1) * math.log(self.field.config.scale) - 1.5 * math.log(n)
        if task.conventions.handedness == "fold":
            log_q = log_q + math.log(2)
        if task.conventions.com != "none":
            return log_q
        c = x.mean(1)
        norm = 3 * math.log(CENTRE_WIDTH * math.sqrt(2 * math.pi))
        return log_q - 0.5 * (c / CENTRE_WIDTH).square().sum(-1) - norm


def of_part(divergence: Divergence, part: slice) -> Divergence:
    """The divergence as a function of rows of a part of the batch, not of the batch."""

    def within(x: Tensor, t: float, rows: Tensor | slice) -> Tensor:
        numbers = torch.arange(part.start, part.stop)[rows]
        return divergence(x, t, numbers)

    return within


def centre(x: Tensor) -> Tensor:
    """`x (n, atoms, 3)` minus its mean over atoms."""
    return x - x.mean(1, keepdim=True)
