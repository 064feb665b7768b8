"""The two sides of a comparison: n frames of the ensemble and n of the reference, checked."""

from dataclasses import dataclass

import torch
from torch import Tensor

from bgbench.core.abstract import MetricCase
from bgbench.core.errors import BgbenchError
from bgbench.core.types import Ensemble
from bgbench.estimators.weights import CUT_FRACTION, cut_weights, resample


@dataclass(frozen=True)
class Sides:
    """The weighted ensemble, and `x (n, atoms, 3)` nm and `u (n,)` kT of the reference."""

    ours: Ensemble
    x: Tensor
    u: Tensor


def sides(case: MetricCase, n: int | None = None) -> Sides:
    """The frames of both sides that the protocol compares.

    Under `weights: weighted` they are the ensemble as it is, or `thin`ned if it has more than n points, and
    frames spread `evenly` over the reference. Under `weights: resampled` they are n multinomial draws from
    the ensemble and the reference's first n frames.

    Args:
        case: ensemble and reference.
        n: frames on each side; None: as many as the case says.

    Raises:
        BgbenchError: if either side has fewer than n frames or holds NaN, or if the protocol's cut leaves no
            weight.
    """
    n = case.n_samples if n is None else n
    ensemble, reference = case.estimate.ensemble, case.reference
    if ensemble.n_samples < n or reference.n_samples < n:
        raise BgbenchError(
            f"{case.system.name}: the protocol compares {n} frames a side, but the ensemble has "
            f"{ensemble.n_samples} and the reference {reference.n_samples}; give more, or a smaller budget"
        )
    refuse_nan("the ensemble", ensemble.x)
    refuse_nan("the reference", reference.x)
    if case.options.get("weights") == "resampled":
        return Sides(_resampled(case, n), reference.x[:n], reference.u[:n])
    even = evenly(reference.replica, n)
    ours = ensemble if ensemble.n_samples == n else thin(ensemble, n)
    return Sides(ours, reference.x[even], reference.u[even])


def evenly(replica: Tensor, n: int) -> Tensor:
    """Indices `(n,)` of frames spread evenly over all replicas and over the time of each, ascending.

    Frames are counted replica by replica: files interleave the replicas, and a plain stride would meet only
    some of them.

    Args:
        replica: `(frames,)`, the replica of each frame.
        n: how many frames.

    >>> evenly(torch.tensor([0, 1, 0, 1, 0, 1, 0, 1]), 4).tolist()
    [0, 1, 4, 5]
    """
    order = torch.argsort(replica, stable=True)
    return order[torch.arange(n) * len(replica) // n].sort().values


def equally_weighted(ensemble: Ensemble) -> bool:
    """Whether all weights are the same, so that there is nothing to cut and nothing to resample by."""
    return bool((ensemble.log_w == ensemble.log_w[0]).all())


def _resampled(case: MetricCase, n: int) -> Ensemble:
    """`n` multinomial draws after the cut; the first n points of an equally weighted ensemble."""
    ensemble = case.estimate.ensemble
    if equally_weighted(ensemble):
        return ensemble.take(torch.arange(n))
    rule = str(case.options.get("cut", "none"))
    log_w = cut_weights(ensemble.log_w, rule)
    if not bool(torch.isfinite(log_w).any()):
        some = int(torch.isfinite(ensemble.log_w).sum())
        raise BgbenchError(
            f"{case.system.name}: the protocol's cut ('{rule}', the top {CUT_FRACTION:.1%} of the weights) "
            f"leaves none: only {some} of {ensemble.n_samples:,} points have a weight; bgbench@1 cuts none"
        )
    return resample(Ensemble(ensemble.x, ensemble.u, log_w), n, case.generator, "multinomial")


def thin(ensemble: Ensemble, n: int) -> Ensemble:
    """`n` points of equal weight: those at the quantiles (k + ½)/n of the weights, in the order of energies.

    Nothing is random, and nothing depends on the order of the frames.
    """
    order = torch.argsort(ensemble.u, stable=True)
    edges = torch.cumsum(ensemble.weights[order], 0)
    places = (torch.arange(n, dtype=torch.float64) + 0.5) / n * edges[-1]
    index = order[torch.searchsorted(edges, places).clamp_max(ensemble.n_samples - 1)]
    return Ensemble.unweighted(ensemble.x[index], ensemble.u[index])


def refuse_nan(side: str, values: Tensor) -> None:
    """Raise BgbenchError if `values` holds NaN."""
    if bool(torch.isnan(values).any()):
        raise BgbenchError(f"{side} holds NaN positions; the sampler should drop or repair them")


def refuse_constant(name: str, values: Tensor) -> None:
    """Raise BgbenchError if a whole side never changes."""
    if len(values) > 1 and bool((values == values[:1]).all()):
        raise BgbenchError(f"{name} is the same in every frame; a distance to it would mean nothing")
