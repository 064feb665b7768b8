"""What every estimator that weights by a density needs: the density, the hand, the degrees of freedom."""

import time
from dataclasses import replace

import torch
from torch import Tensor

from bgbench.core.abstract import AbstractDensitySampler, AbstractSampler, Task
from bgbench.core.errors import BgbenchError
from bgbench.core.types import Proposal
from bgbench.systems.chirality import is_wrong


def with_density(sampler: AbstractSampler) -> AbstractDensitySampler:
    """The sampler, if it knows its density.

    Raises:
        BgbenchError: if it does not.
    """
    if not isinstance(sampler, AbstractDensitySampler):
        raise BgbenchError(
            f"{type(sampler).__name__} has no density to weight by; use --estimator none or mcmc"
        )
    return sampler


def drawn(sampler: AbstractDensitySampler, task: Task, n: int) -> tuple[Proposal, Tensor]:
    """`n` draws and their log q `(n,)`.

    Raises:
        BgbenchError: if they come without.
    """
    proposal = sampler.sample(task, n)
    if proposal.log_q is None:
        raise BgbenchError(f"{type(sampler).__name__} returned no log_q; an estimator by weights needs it")
    return proposal, proposal.log_q


def with_hand(task: Task, rule: str) -> Task:
    """The task under another rule for mirrored samples; `protocol` leaves it as it is."""
    if rule == "protocol":
        return task
    return replace(task, conventions=replace(task.conventions, handedness=rule))


def forbidden(task: Task, x: Tensor) -> Tensor:
    """`(n,)` True where the target has no density: the wrong hand, under every rule but `flip`."""
    if not task.system.atoms or task.conventions.handedness == "flip":
        return torch.zeros(len(x), dtype=torch.bool)
    return is_wrong(task.system, x)


def centred(sampler: AbstractDensitySampler) -> bool:
    """Whether the centre of mass is divided out of the density, and so is no degree of freedom."""
    return sampler.measure != "cartesian"


def degrees_of_freedom(sampler: AbstractDensitySampler, task: Task) -> int:
    """3 · atoms coordinates, less the centre of mass where it is divided out."""
    return 3 * (task.system.n_atoms - centred(sampler))


def scored(sampler: AbstractDensitySampler, task: Task, x: Tensor) -> tuple[Tensor, Tensor]:
    """log q `(n,)` and ∂ log q/∂x `(n, atoms, 3)` 1/nm of `x (n, atoms, 3)` nm, in the sampler's chunks."""
    started = time.perf_counter()
    values, gradients = [], []
    for part in x.split(sampler.chunk):
        with torch.enable_grad():
            at = part.detach().clone().requires_grad_()
            log_q = sampler.log_prob(task, at)
            (gradient,) = torch.autograd.grad(log_q.sum(), at)
        values.append(log_q.detach())
        gradients.append(gradient.to(x))
    task.oracle.count("gradient", len(x), time.perf_counter() - started)
    return torch.cat(values), torch.cat(gradients)
