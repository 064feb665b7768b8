"""Parallel tempering over the batched Langevin walkers (Sugita and Okamoto 1999)."""

from dataclasses import dataclass, field

import numpy as np

from bgbench.core.units import kt
from bgbench.dynamics.langevin import Integrator, Walkers
from bgbench.energies.compiled import Packed, energy_sweep, spread


def ladder(low: float, high: float, rungs: int) -> np.ndarray:
    """Geometric temperatures `(rungs,)` in K."""
    return np.geomspace(low, high, rungs) if rungs > 1 else np.array([low])


@dataclass
class Tempering:
    """`replicas` independent ladders of walkers; walker r·rungs + k is replica r at rung k.

    Swaps of round m draw from a stream of (seed, m), so a run goes on from `walkers` and `rounds` alone.
    """

    walkers: Walkers
    rungs: int
    seed: int
    rounds: int = 0
    tried: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    taken: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))

    def __post_init__(self) -> None:
        if not len(self.tried):
            self.tried = np.zeros(self.rungs - 1, np.int64)
            self.taken = np.zeros(self.rungs - 1, np.int64)

    @classmethod
    def start(cls, x: np.ndarray, temperatures: np.ndarray, masses: np.ndarray, seed: int) -> "Tempering":
        """One ladder for each start structure of `x (replicas, atoms, 3)`."""
        rungs = len(temperatures)
        kts = np.tile([kt(t) for t in temperatures], len(x))
        walkers = Walkers.start(np.repeat(x, rungs, axis=0).astype(np.float32), kts, masses, seed)
        return cls(walkers, rungs, seed)

    @property
    def cold(self) -> np.ndarray:
        """Positions of the lowest rung `(replicas, atoms, 3)`."""
        return self.walkers.x[:: self.rungs]

    def round(self, integrator: Integrator, steps: int, packed: Packed, threads: int) -> np.ndarray:
        """`steps` of dynamics, then one exchange between neighbours; returns energies (W,) in kJ/mol."""
        integrator.advance(self.walkers, steps, packed, threads)
        x, u = self.walkers.x, np.empty(len(self.walkers.x))
        spread(lambda a, b: energy_sweep(x[a:b], u[a:b], packed), len(x), threads)
        return self.exchange(u)

    def exchange(self, u: np.ndarray) -> np.ndarray:
        """Metropolis exchange of neighbouring rungs, even pairs and odd pairs in turn; energies follow."""
        ladders = u.reshape(-1, self.rungs)
        beta = 1.0 / self.walkers.kt.astype(np.float64).reshape(-1, self.rungs)
        order, low, accept = metropolis(ladders, beta, self.seed, self.rounds)
        self.rounds += 1
        self.tried[low] += len(ladders)
        self.taken[low] += accept.sum(0)
        flat = (np.arange(len(ladders))[:, None] * self.rungs + order).reshape(-1)
        self.walkers.take(flat)
        return u[flat]


def metropolis(
    u: np.ndarray, beta: np.ndarray, seed: int, rounds: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Which rung each rung takes over from, `(ladders, rungs)`, for energies u at inverse temperatures beta.

    Even pairs in even rounds, odd pairs in odd ones; also the lower rungs of the pairs tried, and
    `(ladders, pairs)`: where they swapped. Random numbers come from (seed, rounds) alone.
    """
    low = np.arange(rounds % 2, u.shape[1] - 1, 2)
    gain = (beta[:, low] - beta[:, low + 1]) * (u[:, low] - u[:, low + 1])
    accept = np.log(np.random.default_rng([seed, 1, rounds]).random(gain.shape)) < gain
    order = np.tile(np.arange(u.shape[1]), (len(u), 1))
    for column, k in enumerate(low):
        rows = accept[:, column]
        order[rows, k], order[rows, k + 1] = k + 1, k
    return order, low, accept
