"""Conformers of a long stream, drawn by their weights while it passes, so that memory does not grow.

Each of k places holds a conformer of all that has passed, chosen with the probability of its weight: a part
of the stream with total weight W takes over each place with probability W / (W + all before), by independent
choices. So the k conformers are multinomial draws, as resampling afterwards would make them. Source of the
scheme for one place: Chao, Biometrika 69, 653 (1982).
"""

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bgbench.core.abstract import Estimate, Task, Thinning
from bgbench.core.errors import BgbenchError
from bgbench.core.types import Draws, Ensemble, Proposal
from bgbench.estimators.weights import CUT_FRACTION, cut_weights, points_at
from bgbench.systems.faults import CHUNK, find_faults, fingerprints, mark_copies

STREAMED = ("none", "drop")
"""Cuts of the weights that can be made while draws pass; others need all weights first."""


class Reservoir:
    """k multinomial draws from weighted conformers that pass once, in parts.

    Args:
        most: k, how many conformers to hold.
        generator: of the choices.
        dropped: how many of the largest weights are dropped; they are held until the end.

    >>> reservoir = Reservoir(4, torch.Generator().manual_seed(0))
    >>> for start in (0, 10):
    ...     x = torch.arange(start, start + 10.0)[:, None, None].expand(10, 1, 3)
    ...     log_w = torch.full((10,), -torch.inf if start else 0.0)
    ...     reservoir.add(x, log_w)
    >>> bool((reservoir.at < 10).all()), torch.equal(reservoir.x[:, 0, 0].long(), reservoir.at)
    (True, True)
    """

    def __init__(self, most: int, generator: torch.Generator, dropped: int = 0) -> None:
        self.most, self.generator, self.dropped = most, generator, dropped
        self.passed = 0
        self.total = -math.inf
        self.x = torch.empty(0)
        self.at = torch.empty(0, dtype=torch.int64)
        self._largest: tuple[Tensor, Tensor, Tensor] | None = None

    def add(self, x: Tensor, log_w: Tensor) -> None:
        """Let conformers `x (n, atoms, 3)` with their `log_w (n,)` pass."""
        at = torch.arange(self.passed, self.passed + len(x))
        self.passed += len(x)
        if self.dropped:
            x, log_w, at = self._without_largest(x, log_w, at)
        self._choose(x, log_w, at)

    def _without_largest(self, x: Tensor, log_w: Tensor, at: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """All that is held back and new, less the largest weights, which are held back now."""
        if self._largest is not None:
            held_x, held_w, held_at = self._largest
            x, log_w, at = torch.cat([held_x, x]), torch.cat([held_w, log_w]), torch.cat([held_at, at])
        # Stable, and in the order of the draws, as `cut_weights` has it: of equal weights the later go.
        order = torch.argsort(log_w, stable=True)
        largest, others = (part.sort().values for part in (order[-self.dropped :], order[: -self.dropped]))
        self._largest = x[largest].clone(), log_w[largest], at[largest]
        return x[others], log_w[others], at[others]

    def _choose(self, x: Tensor, log_w: Tensor, at: Tensor) -> None:
        log_w = log_w.double()
        weight = float(torch.logsumexp(log_w, 0)) if len(log_w) else -math.inf
        if weight == -math.inf:
            return
        total = float(np.logaddexp(self.total, weight))
        if self.total == -math.inf:
            places = torch.arange(self.most)
            self.x = x.new_empty((self.most, *x.shape[1:]))
            self.at = torch.empty(self.most, dtype=torch.int64)
        else:
            taken = torch.rand(self.most, generator=self.generator, dtype=torch.float64)
            places = torch.nonzero(taken < math.exp(weight - total)).flatten()
        self.total = total
        chances = torch.rand(len(places), generator=self.generator, dtype=torch.float64)
        index = points_at(torch.softmax(log_w, 0), chances)
        self.x[places], self.at[places] = x[index].to(self.x.dtype), at[index]


class Passing:
    """What is noted of draws that pass: numbers of each, and a reservoir of conformers.

    Args:
        task: whose system is drawn, with the thinning.
        n: how many draws will pass.
    """

    def __init__(self, task: Task, thinning: Thinning, n: int) -> None:
        self.system = task.system
        self.thinning = thinning
        dropped = math.ceil(CUT_FRACTION * n) if thinning.cut == "drop" else 0
        self.reservoir = Reservoir(thinning.most, own_generator(task), dropped)
        self._numbers: dict[str, list[Tensor]] = {"u": [], "log_w": [], "log_q": [], "faults": []}
        self._prints: list[np.ndarray] = []

    def add(self, x: Tensor, u: Tensor, log_w: Tensor, log_q: Tensor | None) -> None:
        """Note draws: `x (n, atoms, 3)` nm, energies `u (n,)` kT, `log_w (n,)` and `log_q (n,)`."""
        x = x.float()
        self.reservoir.add(x, log_w)
        self._numbers["u"].append(u)
        self._numbers["log_w"].append(log_w)
        self._numbers["faults"].append(find_faults(self.system, x, u))
        self._prints.append(fingerprints(x))
        if log_q is not None:
            self._numbers["log_q"].append(log_q)

    def draws(self) -> Draws:
        """The numbers of every draw."""
        numbers = {name: torch.cat(parts) for name, parts in self._numbers.items() if parts}
        faults = mark_copies(numbers.pop("faults"), np.concatenate(self._prints))
        return Draws(**numbers, at=self.reservoir.at, faults=faults)

    def estimate(self, diagnostics: Mapping[str, Any]) -> Estimate:
        """The estimate: the reservoir's conformers with equal weights, and every draw.

        Raises:
            BgbenchError: if the cut has left no weight.
        """
        draws = self.draws()
        refuse_empty(self.reservoir, self.thinning, draws.log_w)
        u = draws.u[draws.at]
        x = self.reservoir.x
        proposal = Proposal(x, None if draws.log_q is None else draws.log_q[draws.at], u)
        # Conformers of one draw are one, however often it stands there.
        return Estimate(Ensemble.unweighted(x, u), proposal, diagnostics, group=draws.at, draws=draws)


def can_stream(thinning: Thinning, n: int) -> bool:
    """Whether `n` draws are thinned, and can be while they pass."""
    return n > thinning.most and thinning.cut in STREAMED


def thin_estimate(estimate: Estimate, task: Task) -> Estimate:
    """The estimate with no more conformers than the task's thinning says, and every draw's numbers beside.

    Points of equal weight are thinned evenly in their order; others are drawn by their weights.
    """
    thinning, ensemble = task.thinning, estimate.ensemble
    n = ensemble.n_samples
    if thinning is None or estimate.draws is not None or n <= thinning.most:
        return estimate
    at = _chosen(ensemble, thinning, task)
    faults = mark_copies(
        find_faults(task.system, ensemble.x, ensemble.u),
        np.concatenate([fingerprints(part) for part in ensemble.x.split(CHUNK)]),
    )
    log_q = estimate.proposal.log_q if estimate.proposal.n_samples == n else None
    x, u = ensemble.x[at], ensemble.u[at]
    return replace(
        estimate,
        ensemble=Ensemble.unweighted(x, u),
        proposal=Proposal(x, None if log_q is None else log_q[at], u),
        group=at if estimate.group is None else estimate.group[at],
        log_w_uncut=None,
        draws=Draws(ensemble.u, ensemble.log_w, at, log_q, faults),
    )


def _chosen(ensemble: Ensemble, thinning: Thinning, task: Task) -> Tensor:
    """Places `(most,)` of the points that stay."""
    n = ensemble.n_samples
    if bool((ensemble.log_w == ensemble.log_w[0]).all()):
        return torch.arange(thinning.most) * n // thinning.most
    reservoir = Reservoir(thinning.most, own_generator(task))
    reservoir.add(ensemble.x, cut_weights(ensemble.log_w, thinning.cut))
    refuse_empty(reservoir, thinning, ensemble.log_w)
    return reservoir.at


def refuse_empty(reservoir: Reservoir, thinning: Thinning, log_w: Tensor) -> None:
    """Raise BgbenchError where the cut has left no weight, and so no conformer."""
    if not len(reservoir.at):
        some = int(torch.isfinite(log_w).sum())
        raise BgbenchError(
            f"the protocol's cut ('{thinning.cut}', the top {CUT_FRACTION:.1%} of the weights) leaves none: "
            f"only {some} of {len(log_w):,} points have a weight; bgbench@2 cuts none"
        )


def own_generator(task: Task) -> torch.Generator:
    """A generator beside the task's, so that draws are those of a run with any other thinning."""
    return torch.Generator().manual_seed((task.generator.initial_seed() + 1) % 2**63)
