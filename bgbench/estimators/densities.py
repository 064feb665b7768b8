"""What estimators that weight by a density need: log_q and its gradient, where the target is zero, and the
number of degrees of freedom.
"""

import time
from dataclasses import replace

import torch
from torch import Tensor

from bgbench.core.abstract import AbstractDensitySampler, AbstractSampler, Task
from bgbench.core.calls import call_log_prob, call_sample
from bgbench.core.errors import BgbenchError, registered_name
from bgbench.core.types import Proposal
from bgbench.estimators.handedness import HandednessOption
from bgbench.systems.chirality import is_mirrored, is_wrong


def require_density(sampler: AbstractSampler) -> AbstractDensitySampler:
    """The sampler, as one that knows its density.

    Raises:
        BgbenchError: if it does not know its density.
    """
    if not isinstance(sampler, AbstractDensitySampler):
        raise BgbenchError(
            f"{registered_name(sampler)} has no density to weight by; use --estimator none or mcmc"
        )
    return sampler


def draw_with_density(sampler: AbstractDensitySampler, task: Task, n: int) -> tuple[Proposal, Tensor]:
    """`n` samples and their log_q `(n,)`.

    Raises:
        BgbenchError: if the sampler returns no log_q.
    """
    proposal = call_sample(sampler, task, n)
    return proposal, require_log_q(sampler, proposal)


def require_log_q(sampler: AbstractSampler, proposal: Proposal) -> Tensor:
    """The proposal's log_q `(n,)`.

    Raises:
        BgbenchError: if the sampler returned none.
    """
    if proposal.log_q is None:
        raise BgbenchError(f"{registered_name(sampler)} returned no log_q, which importance weights need")
    return proposal.log_q


def override_handedness(task: Task, rule: HandednessOption) -> Task:
    """The task under another rule for mirror images; `protocol` leaves the protocol's."""
    if rule == "protocol":
        return task
    return replace(task, conventions=replace(task.conventions, handedness=rule))


def outside_target(task: Task, x: Tensor) -> Tensor:
    """`(n,)` True where the target has no density: at wrong chirality, under every rule but `flip`."""
    if not task.system.atoms or task.conventions.handedness == "flip":
        return torch.zeros(len(x), dtype=torch.bool)
    return is_wrong(task.system, x)


def explain_no_weight(task: Task, x: Tensor, u: Tensor, log_q: Tensor) -> str:
    """Why none of the conformers `x (n, atoms, 3)` with these `u (n,)` and `log_q (n,)` has a weight."""
    outside = outside_target(task, x)
    counts = {
        "an energy that is not finite": int((~torch.isfinite(u)).sum()),
        "a log_q that is not finite": int((~torch.isfinite(log_q)).sum()),
        "wrong chirality": int(outside.sum()),
    }
    reason = ", ".join(f"{count} have {what}" for what, count in counts.items() if count)
    if bool(outside.any()) and (mirrored := int(is_mirrored(task.system, x).sum())):
        reason += f"; {mirrored} are whole mirror images, which --set estimator.handedness=flip turns over"
    return reason


def has_fixed_centre(sampler: AbstractDensitySampler) -> bool:
    """Whether the centre of mass is divided out of the density, and so is no degree of freedom."""
    return sampler.measure != "cartesian"


def degrees_of_freedom(sampler: AbstractDensitySampler, task: Task) -> int:
    """3 · atoms coordinates, less the centre of mass where it is divided out."""
    return 3 * (task.system.n_atoms - has_fixed_centre(sampler))


def log_q_and_score(sampler: AbstractDensitySampler, task: Task, x: Tensor) -> tuple[Tensor, Tensor]:
    """log_q `(n,)` and ∂ log_q/∂x `(n, atoms, 3)` 1/nm of `x (n, atoms, 3)` nm, in the sampler's chunks."""
    started = time.perf_counter()
    values, gradients = [], []
    for part in x.split(sampler.chunk):
        with torch.enable_grad():
            at = part.detach().clone().requires_grad_()
            log_q = call_log_prob(sampler, task, at)
            (gradient,) = torch.autograd.grad(log_q.sum(), at)
        values.append(log_q.detach())
        gradients.append(gradient.to(x))
    task.oracle.count("gradient", len(x), time.perf_counter() - started)
    return torch.cat(values), torch.cat(gradients)
