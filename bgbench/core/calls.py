"""Calls of a sampler by the core: what comes back is checked, and moved to where the core computes.

A sampler computes on any device, with or without gradients. What it returns is on the CPU from here on, and
without gradients; a value of another kind, dtype or length is refused in a sentence that says what to return.
"""

from typing import Any, Protocol

import torch
from torch import Tensor

from bgbench.core.errors import BrokenContract
from bgbench.core.types import Proposal, describe_kind


class Sampling(Protocol):
    """Anything with the method of `AbstractSampler`."""

    def sample(self, task: Any, n_samples: int) -> Proposal:
        """Draw conformers."""


class WithDensity(Protocol):
    """Anything with the methods of `AbstractDensitySampler`."""

    def draw(self, task: Any, n_samples: int) -> Proposal:
        """Draw conformers with their `log_q`."""

    def log_prob(self, task: Any, x: Tensor) -> Tensor:
        """`log_q (n,)` of conformers."""


def call_sample(sampler: Sampling, task: Any, n: int) -> Proposal:
    """`sampler.sample(task, n)`, at most `n` conformers without gradients.

    Raises:
        BrokenContract: for anything but a `Proposal`, or for more than `n` conformers.
    """
    return _checked(sampler.sample(task, n), sampler, "sample", n)


def call_draw(sampler: WithDensity, task: Any, n: int) -> Proposal:
    """`sampler.draw(task, n)`, at most `n` conformers without gradients, with their `log_q`.

    Raises:
        BrokenContract: for anything but a `Proposal` with `log_q`, or for more than `n` conformers.
    """
    proposal = _checked(sampler.draw(task, n), sampler, "draw", n)
    if proposal.log_q is None:
        raise BrokenContract(f"{type(sampler).__name__}.draw returned no log_q; return Proposal(x, log_q)")
    return proposal


def call_log_prob(sampler: WithDensity, task: Any, x: Tensor) -> Tensor:
    """`sampler.log_prob(task, x)` `(n,)` of `x (n, atoms, 3)` nm, on the CPU; differentiable where x is.

    Raises:
        BrokenContract: for anything but a tensor of floats with one number a conformer.
    """
    value: Any = sampler.log_prob(task, x)
    shape = f"a tensor ({len(x)},) of float32 or float64"
    name = f"{type(sampler).__name__}.log_prob"
    if not isinstance(value, Tensor) or value.dtype not in (torch.float32, torch.float64):
        raise BrokenContract(f"{name} returned {describe_kind(value)}; return {shape}")
    if tuple(value.shape) != (len(x),):
        raise BrokenContract(f"{name} returned shape {tuple(value.shape)}; return {shape}")
    return value.cpu()


def _checked(value: Any, sampler: Any, method: str, n: int) -> Proposal:
    name = f"{type(sampler).__name__}.{method}"
    if not isinstance(value, Proposal):
        raise BrokenContract(
            f"{name} returned {describe_kind(value)}; return bgbench.Proposal(x), with x (n, atoms, 3) in nm"
        )
    if value.n_samples > n:
        raise BrokenContract(f"{name} returned {value.n_samples} conformers, {n} were asked for")
    return Proposal(
        x=value.x.detach(),
        log_q=None if value.log_q is None else value.log_q.detach(),
        u=None if value.u is None else value.u.detach(),
    )
