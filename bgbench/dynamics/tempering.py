"""Parallel tempering of batched Langevin walkers (Sugita and Okamoto, Chem. Phys. Lett. 314, 141 (1999))."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from bgbench.core.errors import BgbenchError
from bgbench.core.units import kt
from bgbench.dynamics.langevin import Integrator, Walkers
from bgbench.energies.compiled import spread
from bgbench.energies.packed import Packed
from bgbench.energies.single import sweep_energies


def ladder(low: float, high: float, rungs: int) -> np.ndarray:
    """Temperatures of a ladder for replica exchange, each the same factor above the one before.

    Where the heat capacity is constant, equal factors give all neighbours the same rate of accepted exchanges
    (Kofke, J. Chem. Phys. 117, 6911 (2002)).

    Args:
        low: temperature of the first rung in K, the target's.
        high: temperature of the last rung in K; without effect if there is one rung.
        rungs: number of temperatures, 1 or more.

    Returns:
        `(rungs,)` in K, from `low` to `high`, float64.

    Raises:
        BgbenchError: if `rungs` is below 1, or a temperature is not positive and finite.

    >>> ladder(300.0, 1200.0, 3).round(6).tolist()
    [300.0, 600.0, 1200.0]
    >>> ladder(300.0, 1200.0, 0)
    Traceback (most recent call last):
    bgbench.core.errors.BgbenchError: a ladder has 1 rung or more, got 0
    """
    if rungs < 1:
        raise BgbenchError(f"a ladder has 1 rung or more, got {rungs}")
    for temperature in (low, high)[: min(rungs, 2)]:
        if not 0.0 < temperature < math.inf:
            raise BgbenchError(f"temperatures of a ladder must be positive and finite, got {temperature:g} K")
    return np.geomspace(low, high, rungs) if rungs > 1 else np.array([low])


@dataclass
class Tempering:
    """`replicas` independent ladders of walkers; walker r·rungs + k is replica r at rung k.

    Swaps of round m draw from a stream of (seed, m), so a run goes on from `walkers` and `rounds` alone.
    `swaps_tried` and `swaps_accepted (rungs − 1,)` count those of neighbouring rungs.
    """

    walkers: Walkers
    rungs: int
    seed: int
    rounds: int = 0
    swaps_tried: np.ndarray = field(init=False)
    swaps_accepted: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        self.swaps_tried = np.zeros(self.rungs - 1, np.int64)
        self.swaps_accepted = np.zeros(self.rungs - 1, np.int64)

    @classmethod
    def start(cls, x: np.ndarray, temperatures: np.ndarray, masses: np.ndarray, seed: int) -> "Tempering":
        """One ladder for each start structure of `x (replicas, atoms, 3)`."""
        rungs = len(temperatures)
        kts = np.tile([kt(t) for t in temperatures], len(x))
        walkers = Walkers.start(np.repeat(x, rungs, axis=0).astype(np.float32), kts, masses, seed)
        return cls(walkers, rungs, seed)

    @property
    def target_positions(self) -> np.ndarray:
        """Positions of the walkers at the lowest temperature, `(replicas, atoms, 3)` nm."""
        return self.walkers.x[:: self.rungs]

    def round(self, integrator: Integrator, steps: int, packed: Packed, threads: int) -> np.ndarray:
        """`steps` of dynamics, then one exchange between neighbours; returns energies (W,) in kJ/mol."""
        integrator.advance(self.walkers, steps, packed, threads)
        x, u = self.walkers.x, np.empty(len(self.walkers.x))
        spread(lambda a, b: sweep_energies(x[a:b], u[a:b], packed), len(x), threads)
        return self.exchange(u)

    def exchange(self, u: np.ndarray) -> np.ndarray:
        """Metropolis exchange of neighbouring rungs, even pairs and odd pairs in turn; energies follow."""
        ladders = u.reshape(-1, self.rungs)
        beta = 1.0 / self.walkers.kt.astype(np.float64).reshape(-1, self.rungs)
        swaps = draw_swaps(ladders, beta, self.seed, self.rounds)
        self.rounds += 1
        self.swaps_tried[swaps.lower] += len(ladders)
        self.swaps_accepted[swaps.lower] += swaps.accepted.sum(0)
        flat = (np.arange(len(ladders))[:, None] * self.rungs + swaps.order).reshape(-1)
        self.walkers.reorder(flat)
        return u[flat]

    def freeze(self) -> dict[str, np.ndarray]:
        """Walkers and counts, under the names that saved states have."""
        counts = {"tried": self.swaps_tried, "taken": self.swaps_accepted}
        return {**self.walkers.freeze(), "rounds": np.array(self.rounds), **counts}

    def thaw(self, state: Mapping[str, np.ndarray]) -> None:
        """Set walkers and counts to those of a frozen state."""
        self.walkers = Walkers.thaw(state)
        self.rounds = int(state["rounds"])
        self.swaps_tried, self.swaps_accepted = state["tried"].copy(), state["taken"].copy()


class Swaps(NamedTuple):
    """One exchange of neighbouring rungs.

    `order (ladders, rungs)`: the rung whose conformer each rung takes over; `lower (pairs,)`: the lower rungs
    of the pairs that were tried; `accepted (ladders, pairs)`: where those swapped.
    """

    order: np.ndarray
    lower: np.ndarray
    accepted: np.ndarray


def draw_swaps(u: np.ndarray, beta: np.ndarray, seed: int, rounds: int) -> Swaps:
    """Metropolis exchange for energies `u (ladders, rungs)` at inverse temperatures `beta`, of one unit.

    Even pairs are tried in even rounds, odd pairs in odd ones. Random numbers come from (seed, rounds) alone.
    """
    lower = np.arange(rounds % 2, u.shape[1] - 1, 2)
    gain = (beta[:, lower] - beta[:, lower + 1]) * (u[:, lower] - u[:, lower + 1])
    accepted = np.log(np.random.default_rng([seed, 1, rounds]).random(gain.shape)) < gain
    order = np.tile(np.arange(u.shape[1]), (len(u), 1))
    for column, k in enumerate(lower):
        rows = accepted[:, column]
        order[rows, k], order[rows, k + 1] = k + 1, k
    return Swaps(order, lower, accepted)
