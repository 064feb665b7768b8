"""Calls of samplers and estimators by the core: what comes back is checked, and moved to where it computes.

This is the one door between the device of a sampler and the core's, which is the CPU. A sampler is handed
tensors of the CPU and computes on any device, with or without gradients. What it returns is on the CPU from
here on, and without gradients; a value of another kind, dtype or length is refused in a sentence that says
what to return.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from bgbench.core.abstract import (
    AbstractDensitySampler,
    AbstractEstimator,
    AbstractSampler,
    Estimate,
    Invertible,
    Task,
)
from bgbench.core.errors import BrokenContract, method_name, pass_name
from bgbench.core.files import plain
from bgbench.core.shapes import ESTIMATE, READ, describe_misfit
from bgbench.core.types import Ensemble, Proposal, check_proposal, describe_kind

FLOATS = (torch.float32, torch.float64)
WHOLE = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)


def call_prepare(sampler: AbstractSampler, task: Task) -> AbstractSampler:
    """`sampler.prepare(task)`, its energies booked under `tune`.

    Raises:
        BrokenContract: for anything but a sampler, and for one without a density in place of one with it.
    """
    with task.oracle.phase("tune"):
        prepared: object = sampler.prepare(task)
    kind = AbstractDensitySampler if isinstance(sampler, AbstractDensitySampler) else AbstractSampler
    if not isinstance(prepared, kind):
        raise BrokenContract(
            f"{method_name(sampler, 'prepare')} returned {describe_kind(prepared)}; "
            f"return an {kind.__name__}, self if there is nothing to prepare"
        )
    pass_name(sampler, prepared)
    return prepared


def call_sample(sampler: AbstractSampler, task: Task, n: int) -> Proposal:
    """`sampler.sample(task, n)`, at most `n` conformers without gradients.

    Raises:
        BrokenContract: for anything but a `Proposal`, or for more than `n` conformers.
    """
    proposal = check_proposal(sampler.sample(task, n), method_name(sampler, "sample"), n)
    return Proposal(
        x=proposal.x.detach(),
        log_q=None if proposal.log_q is None else proposal.log_q.detach(),
        u=None if proposal.u is None else proposal.u.detach(),
    )


def call_estimate(estimator: AbstractEstimator, sampler: AbstractSampler, task: Task) -> Estimate:
    """`estimator.estimate(sampler, task)`.

    Raises:
        BrokenContract: for anything but an `Estimate` whose diagnostics are a mapping, of `EstimateShape` as
            far as they are read, and whose `group` and `log_w_uncut` have an entry for each point.
    """
    name = method_name(estimator, "estimate")
    value: object = estimator.estimate(sampler, task)
    if not isinstance(value, Estimate):
        raise BrokenContract(
            f"{name} returned {describe_kind(value)}; return bgbench.Estimate(ensemble, proposal)"
        )
    for field, kind in (("ensemble", Ensemble), ("proposal", Proposal), ("diagnostics", Mapping)):
        part = getattr(value, field)
        if not isinstance(part, kind):
            word = "a mapping" if kind is Mapping else f"a bgbench.{kind.__name__}"
            raise BrokenContract(f"{name} returned {describe_kind(part)} as {field}; it is {word}")
    read = {key: plain(value.diagnostics[key]) for key in READ if key in value.diagnostics}
    if misfit := describe_misfit(ESTIMATE, read):
        raise BrokenContract(f"{name} returned diagnostics that cannot be read: {misfit}")
    n = value.ensemble.n_samples
    _check_points(f"{name} returned", "group", value.group, n, WHOLE, "whole numbers")
    _check_points(f"{name} returned", "log_w_uncut", value.log_w_uncut, n, FLOATS, "float32 or float64")
    if value.log_w_uncut is not None and bool(value.log_w_uncut.isnan().any()):
        raise BrokenContract(f"{name} returned NaN in log_w_uncut; give impossible points a weight of -inf")
    return value


def _check_points(
    source: str, field: str, value: object, n: int, dtypes: tuple[torch.dtype, ...], word: str
) -> None:
    """Raise BrokenContract unless the value is None or a tensor `(n,)` of one of `dtypes`."""
    if value is None:
        return
    wanted = f"give a tensor ({n},) of {word}, or None"
    if not isinstance(value, Tensor) or value.dtype not in dtypes:
        raise BrokenContract(f"{source} {describe_kind(value)} as {field}; {wanted}")
    if tuple(value.shape) != (n,):
        raise BrokenContract(f"{source} shape {tuple(value.shape)} as {field}; {wanted}")


def call_draw(sampler: AbstractDensitySampler, task: Task, n: int) -> tuple[Tensor, Tensor]:
    """`x (n, atoms, 3)` nm and `log_q (n,)` of `sampler.draw(task, n)`, without gradients.

    Raises:
        BrokenContract: for anything but a `Proposal` with `log_q`, or for more than `n` conformers.
    """
    name = method_name(sampler, "draw")
    proposal = check_proposal(sampler.draw(task, n), name, n)
    if proposal.log_q is None:
        raise BrokenContract(f"{name} returned no log_q; return Proposal(x, log_q)")
    return proposal.x.detach(), proposal.log_q.detach()


def call_log_prob(sampler: AbstractDensitySampler, task: Task, x: Tensor) -> Tensor:
    """`sampler.log_prob(task, x)` `(n,)` of `x (n, atoms, 3)` nm, on the CPU; differentiable where x is.

    Raises:
        BrokenContract: for anything but a tensor of floats with one number a conformer.
    """
    value: Any = sampler.log_prob(task, x)
    shape = f"a tensor ({len(x)},) of float32 or float64"
    name = method_name(sampler, "log_prob")
    if not isinstance(value, Tensor) or value.dtype not in FLOATS:
        raise BrokenContract(f"{name} returned {describe_kind(value)}; return {shape}")
    if tuple(value.shape) != (len(x),):
        raise BrokenContract(f"{name} returned shape {tuple(value.shape)}; return {shape}")
    return value.cpu()


def call_latent(sampler: Invertible, task: Task, x: Tensor) -> tuple[Tensor, Tensor]:
    """Noise `(n, …)` and log-determinant `(n,)` of `sampler.latent(task, x)`, on the CPU.

    Raises:
        BrokenContract: for anything but two tensors with a row for each conformer.
    """
    value: Any = sampler.latent(task, x)
    name = method_name(sampler, "latent")
    if not isinstance(value, tuple) or len(value) != 2 or not all(isinstance(v, Tensor) for v in value):
        raise BrokenContract(f"{name} returned {describe_kind(value)}; return two tensors, noise and log_det")
    z, log_det = value
    if len(z) != len(x) or tuple(log_det.shape) != (len(x),):
        raise BrokenContract(
            f"{name} returned shapes {tuple(z.shape)} and {tuple(log_det.shape)}; return noise "
            f"({len(x)}, …) and log_det ({len(x)},)"
        )
    return z.cpu(), log_det.cpu()


def log_prob_in_batches(sampler: AbstractDensitySampler, task: Task, x: Tensor) -> Tensor:
    """log q `(n,)` of any number of conformers `x (n, atoms, 3)` nm, without gradients, as many at once as
    the sampler takes.

    Raises:
        BrokenContract: as `call_log_prob` does.
    """
    with torch.no_grad():
        return torch.cat(
            [call_log_prob(sampler, task, part) for part in x.split(sampler.batch_size(task.system))]
        )
