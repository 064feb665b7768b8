"""Prose as a sampler: proposals with their density, centre of mass divided out."""

import math
import time
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import bgbench
import bgbench.data
from bgbench_prose.cuda import MOST
from bgbench_prose.fast import PRECISION_OF, FastPath
from bgbench_prose.network import Config, Prose, Tokens, log_prior, tokens
from bgbench_prose.tuning import TuningConfig, tuned
from bgbench_prose.weights import save
from bgbench_training.devices import CPU, move_network, moved
from bgbench_training.memory import density_in_parts, free_bytes, samples_that_fit
from bgbench_training.weights import make_card

CACHE_BYTES = 1 << 30
"""Most that keys and values of one batch may take. Fixed, not read off the machine: samples follow from the
seed alone, whatever machine draws them."""

TRAINED_AT = 310.0
"""K. At another temperature T the prior is scaled to N(0, T/310): approximate, but the weights stay exact."""


class ProseSampler(bgbench.AbstractDensitySampler, bgbench.Invertible, bgbench.Tunable):
    """Draws with the key/value-cached inverse; `log_prob` is the forward pass, differentiable in x.

    Args:
        flow: the network.
        path: the way through it, one of `fast.PATHS`.
        stored_card: what the weights file says of its training.
        sha256: of the weights file, hex; empty if the weights come from none.
    """

    chunk = 512
    measure = "shape"

    def __init__(
        self,
        flow: Prose,
        path: str = "plain",
        stored_card: Mapping[str, Any] | None = None,
        sha256: str = "",
    ) -> None:
        self.flow = flow.eval().requires_grad_(False)
        self._stored_card = dict(stored_card or {})
        self.card = make_card(self._stored_card, "prose", flow.n_parameters(), sha256)
        self._tokens = lru_cache(maxsize=8)(lambda atoms, device: moved(tokens([atoms], flow.config), device))
        self._fast = FastPath(self.flow, path)
        self.precision = PRECISION_OF[self._fast.path]

    def check_supports(self, system: bgbench.System) -> None:
        if not system.atoms:
            raise bgbench.Unsupported("Prose conditions on atoms and residues; this system has none")
        try:
            self._tokens(system.atoms, CPU)
        except bgbench.BgbenchError as error:
            raise bgbench.Unsupported(str(error)) from error

    def batch_size(self, system: bgbench.System) -> int:
        each = cache_bytes(self.flow.config, system.n_atoms)
        return max(1, min(self.chunk, CACHE_BYTES // each))

    def stream(self, task: bgbench.Task, n_samples: int) -> Iterator[bgbench.Proposal]:
        """On a GPU several batches at once, of the noise that they would have one after the other."""
        if task.device.type == "cpu":
            yield from super().stream(task, n_samples)
            return
        batch = self.batch_size(task.system)
        sizes = [min(batch, n_samples - start) for start in range(0, n_samples, batch)]
        together = max(1, MOST // batch)
        for first in range(0, len(sizes), together):
            run = sizes[first : first + together]
            noise = [task.normal(n, task.system.n_atoms, 3) for n in run]
            yield self._draw(task, torch.cat(noise))
            task.progress(sum(run))

    def draw(self, task: bgbench.Task, n_samples: int) -> bgbench.Proposal:
        return self._draw(task, task.normal(n_samples, task.system.n_atoms, 3))

    def _draw(self, task: bgbench.Task, noise: Tensor) -> bgbench.Proposal:
        """Conformers of standard normal `noise (n, atoms, 3)`, with their density."""
        started, n_samples = time.perf_counter(), len(noise)
        beta = TRAINED_AT / task.system.temperature
        peptide = self._on_device(task)
        z = noise / math.sqrt(beta)
        x, log_det = self._fast.invert(z, peptide)
        log_q = log_prior(z, beta) - log_det
        task.oracle.count("drawn", n_samples, time.perf_counter() - started)
        if task.conventions.handedness == "fold":
            started = time.perf_counter()
            log_q = torch.logaddexp(log_q, self._density(task, -x, peptide))
            task.oracle.count("log_density", n_samples, time.perf_counter() - started)
        return bgbench.Proposal(x * self.flow.config.scale, self._without_centre(task, x, log_q))

    def log_prob(self, task: bgbench.Task, x: Tensor) -> Tensor:
        started = time.perf_counter()
        peptide = self._on_device(task)
        scaled = x.to(next(self.flow.parameters())) / self.flow.config.scale
        log_q = self._density(task, scaled, peptide)
        if task.conventions.handedness == "fold":
            log_q = torch.logaddexp(log_q, self._density(task, -scaled, peptide))
        task.oracle.count("log_density", len(x), time.perf_counter() - started)
        return self._without_centre(task, scaled, log_q)

    def latent(self, task: bgbench.Task, x: Tensor) -> tuple[Tensor, Tensor]:
        scale, peptide = self.flow.config.scale, self._on_device(task)
        z, log_det = self.flow(x.to(task.device) / scale, peptide)
        beta = TRAINED_AT / task.system.temperature
        return z * math.sqrt(beta), log_det + 3 * task.system.n_atoms * (
            0.5 * math.log(beta) - math.log(scale)
        )

    def finetuned(self, task: bgbench.Task, x: Tensor, tuning: bgbench.Tuning) -> "ProseSampler":
        started = time.perf_counter()
        beta = TRAINED_AT / task.system.temperature
        flow = tuned(self.flow, self._on_device(task), x, TuningConfig(tuning, beta, task.generator))
        task.oracle.count("gradient", tuning.steps * tuning.batch, time.perf_counter() - started)
        return ProseSampler(flow, self._fast.path, self._stored_card)

    def save(self, path: Path, notes: Mapping[str, Any]) -> None:
        save(path, self.flow, bgbench.data.tuned_card(self._stored_card, notes))

    def _on_device(self, task: bgbench.Task) -> Tokens:
        """The peptide's tokens on the task's device, where the weights are from now on."""
        move_network(self.flow, task.device)
        peptide: Tokens = self._tokens(task.system.atoms, task.device)
        return peptide

    def _density(self, task: bgbench.Task, scaled: Tensor, peptide: Tokens) -> Tensor:
        """log q of scaled coordinates, centre of mass included; on a GPU as many at a time as it holds."""

        def density(part: Tensor, _: slice) -> Tensor:
            z, log_det = self._fast.forward(part, peptide)
            return log_prior(z, TRAINED_AT / task.system.temperature) + log_det

        if scaled.device.type == "cpu":
            return density(scaled, slice(None))
        with_gradient = torch.is_grad_enabled() and scaled.requires_grad
        each = pass_bytes(self.flow.config, task.system.n_atoms, with_gradient=with_gradient)
        most = samples_that_fit(free_bytes(scaled.device), each, len(scaled))
        with self._fast.factors(scaled):
            return density_in_parts(density, scaled, most)

    def _without_centre(self, task: bgbench.Task, scaled: Tensor, log_q: Tensor) -> Tensor:
        """Divide out the centre of mass, and count what is left, 3 (atoms − 1) numbers, in nm."""
        n = task.system.n_atoms
        if task.conventions.com == "none":
            return log_q - 3 * n * math.log(self.flow.config.scale)
        log_c = log_centre(scaled.mean(1), 1 / math.sqrt(n), task.conventions.com)
        return log_q - log_c - 3 * (n - 1) * math.log(self.flow.config.scale)


def cache_bytes(config: Config, n_atoms: int) -> int:
    """Bytes of the keys and values of one sample in float32."""
    return config.n_layers * 2 * n_atoms * config.channels * 4


def pass_bytes(config: Config, n_atoms: int, *, with_gradient: bool) -> int:
    """Bytes of what a pass from data to noise holds of one sample: of one layer, or of all for a gradient.

    A layer's intermediate results are about 40 numbers a token and channel: four layer norms with what they
    normalise, queries, keys and values, what attention makes, 4 + 4 in the MLP, 8 + 4 + 4 in the transition,
    and the residual stream after each part.
    """
    layers = config.n_blocks * config.n_layers if with_gradient else 1
    return 4 * 40 * layers * n_atoms * config.channels


def log_centre(c: Tensor, sigma: float, convention: str) -> Tensor:
    """log density `(batch,)` of centres `c (batch, 3)`: `gaussian`, N(c; 0, σ² I), or `chi`, χ₃(‖c‖; σ).

    Source: arXiv 2502.18462, Prop. 1. `chi` is the published convention; it leaves ‖c‖² in the weights.
    """
    square = c.square().sum(-1)
    if convention == "gaussian":
        return -0.5 * square / sigma**2 - 1.5 * math.log(2 * math.pi * sigma**2)
    if convention == "chi":
        return torch.log(square / (math.sqrt(2) * sigma**3 * math.gamma(1.5))) - 0.5 * square / sigma**2
    raise bgbench.BgbenchError(f"centre-of-mass conventions are gaussian and chi, not '{convention}'")
