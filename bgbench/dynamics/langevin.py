"""Langevin dynamics of many independent walkers at once, in compiled code.

The integrator is OpenMM's LangevinMiddle (Zhang et al., J. Phys. Chem. A 123, 6056 (2019)): kick, half
drift, Ornstein–Uhlenbeck, half drift. Every walker has its own random stream (xoshiro128+, Blackman and
Vigna 2021), so results do not depend on threads, and a saved state goes on as if nothing had happened.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from bgbench.core.errors import BgbenchError
from bgbench.energies import single
from bgbench.energies.compiled import block_force, each, load, spread
from bgbench.energies.kernels import FORCE, ROWS, STEP, TWICE, WIDE, jit, place
from bgbench.energies.lanes import LANES, lane_log, lane_turn
from bgbench.energies.packed import Packed

LIGHTEST = 1.0
"""Da that an atom keeps beside heavier hydrogens: lighter than a hydrogen, it alone would limit the step."""


@dataclass
class Walkers:
    """State of W walkers, changed in place: `x`, `v (W, atoms, 3)` nm and nm/ps, `random (W, 4)` uint32,
    `kt (W,)` kJ/mol."""

    x: np.ndarray
    v: np.ndarray
    random: np.ndarray
    kt: np.ndarray

    @classmethod
    def start(cls, x: np.ndarray, kt: np.ndarray, masses: np.ndarray, seed: int) -> "Walkers":
        """Walkers at positions x with Maxwell velocities at `kt`."""
        generator = np.random.default_rng([seed, 0])
        spread_v = np.sqrt(kt[:, None, None] / masses[None, :, None])
        v = (generator.standard_normal(x.shape) * spread_v).astype(x.dtype)
        streams = generator.integers(1, 2**32, (len(x), 4), dtype=np.uint32)
        return cls(np.ascontiguousarray(x), v, streams, kt.astype(x.dtype))

    def freeze(self) -> dict[str, np.ndarray]:
        """The arrays, under the names that saved states have."""
        return {"x": self.x, "v": self.v, "random": self.random, "kt": self.kt}

    @classmethod
    def thaw(cls, state: Mapping[str, np.ndarray]) -> "Walkers":
        """Walkers with copies of the arrays of a frozen state."""
        return cls(*(state[name].copy() for name in ("x", "v", "random", "kt")))

    def reorder(self, order: np.ndarray) -> None:
        """Give walker k the conformer of walker `order[k]`; velocities are scaled to the new temperatures."""
        scale = np.sqrt(self.kt / self.kt[order]).astype(self.v.dtype)
        self.x = np.ascontiguousarray(self.x[order])
        self.v = np.ascontiguousarray(self.v[order] * scale[:, None, None])


@dataclass(frozen=True)
class Integrator:
    """Time step in ps, friction in 1/ps, masses `(atoms,)` in Da."""

    masses: np.ndarray
    step: float = 0.001
    friction: float = 0.3

    def advance(self, walkers: Walkers, steps: int, packed: Packed, threads: int) -> None:
        """Advance every walker by `steps`: one energy and force each step and walker."""
        c = walkers.x.dtype.type
        decay = np.exp(-self.friction * self.step)
        numbers = np.array([self.step, decay, np.sqrt(1.0 - decay**2)], c)
        inverse = (1.0 / self.masses).astype(c)
        w = walkers

        def sweep(advance: Any, a: int, b: int) -> None:
            advance((w.x[a:b], w.v[a:b], w.random[a:b], w.kt[a:b]), inverse, numbers, steps, packed)

        n = single.count_in_blocks(len(w.x))
        spread(lambda a, b: sweep(_advance, a, b), n, threads, grain=LANES)
        each(lambda k: sweep(_advance_singly, n + k, n + k + 1), len(w.x) - n, threads)


@jit
def _next(random, k):  # type: ignore[no-untyped-def]
    """One xoshiro128+ number of lane k as a uniform in (0, 1) with 24 bits."""
    s0, s1 = random[k], random[WIDE + k]
    s2, s3 = random[TWICE + k], random[TWICE + WIDE + k]
    out = np.uint32(s0 + s3)
    t = np.uint32(s1 << np.uint32(9))
    s2 ^= s0
    s3 ^= s1
    s1 ^= s2
    s0 ^= s3
    s2 ^= t
    s3 = (s3 << np.uint32(11)) | (s3 >> np.uint32(21))
    random[k], random[WIDE + k], random[TWICE + k], random[TWICE + WIDE + k] = s0, s1, s2, s3
    return np.float32(np.int32(np.uint32(out >> np.uint32(8)))) * np.float32(2.0**-24) + np.float32(2.0**-25)


@jit
def _normals(noise, random, pairs, width):  # type: ignore[no-untyped-def]
    """2 · pairs rows of standard normals (Box and Muller)."""
    c = noise.dtype.type
    half, two = c(0.5), c(2)
    uniform = np.empty(2 * LANES, noise.dtype)
    for m in range(pairs):
        row = place(m) * TWICE
        for k in range(width):
            uniform[k] = _next(random, k)
        for k in range(width):
            uniform[WIDE + k] = _next(random, k)
        for k in range(width):
            r = np.sqrt(-two * lane_log(uniform[k]))
            cosine, sine = lane_turn(uniform[WIDE + k] - half)
            noise[row + k] = r * cosine
            noise[row + WIDE + k] = r * sine


@jit
def _steps(state, v, work, steps, packed):  # type: ignore[no-untyped-def]
    """`steps` LangevinMiddle steps of one block; v and noise are rows of lanes, three an atom."""
    slopes, noise, random, sigma, inverse, numbers = work
    n, width = inverse.shape[0], place(packed.limits[6])
    half = state.dtype.type(0.5)
    dt, decay, kick = numbers[0], numbers[1], numbers[2]
    for _ in range(steps):
        block_force(state, slopes, packed)
        _normals(noise, random, (3 * n + 1) // 2, width)
        for i in range(n):
            gain, spread_v = dt * inverse[i], kick * np.sqrt(inverse[i])
            for axis in range(3):
                a = place(i) * STEP + place(axis) * WIDE
                b = place(3 * i + axis) * WIDE
                for k in range(width):
                    before = v[b + k] + gain * state[a + FORCE + k]
                    after = decay * before + spread_v * sigma[k] * noise[b + k]
                    state[a + k] += half * dt * (before + after)
                    v[b + k] = after


@jit
def _single_steps(room, v, work, steps, packed):  # type: ignore[no-untyped-def]
    """The same of one walker of velocities v (atoms, 3)."""
    noise, random, sigma, inverse, numbers = work
    state, n, padded = room[0], inverse.shape[0], place(packed.later.shape[1])
    half = state.dtype.type(0.5)
    dt, decay, kick = numbers[0], numbers[1], numbers[2]
    for _ in range(steps):
        single.single_force(room, packed)
        _normals(noise, random, (3 * n + 1) // 2, place(1))
        for i in range(n):
            gain, spread_v = dt * inverse[i], kick * np.sqrt(inverse[i])
            for axis in range(3):
                a = place(axis) * padded + place(i)
                before = v[i, axis] + gain * state[single.FORCE * padded + a]
                after = decay * before + spread_v * sigma * noise[(3 * i + axis) * LANES]
                state[a] += half * dt * (before + after)
                v[i, axis] = after


@jit
def _advance(walkers, inverse, numbers, steps, packed):  # type: ignore[no-untyped-def]
    x, v, random, kt = walkers
    n, last = x.shape[1], x.shape[0] - 1
    state = np.empty(n * ROWS * LANES, x.dtype)
    slopes = np.empty(max(1, n * (n - 1) * LANES), x.dtype)
    speed = np.empty(3 * n * LANES, x.dtype)
    noise = np.empty((3 * n + 1) * LANES, x.dtype)
    stream = np.empty(4 * LANES, np.uint32)
    sigma = np.empty(LANES, x.dtype)
    for first in range(0, x.shape[0], LANES):
        load(state, x, first)
        for k in range(LANES):
            row = min(first + k, last)
            sigma[k] = np.sqrt(kt[row])
            for m in range(4):
                stream[m * LANES + k] = random[row, m]
            for m in range(3 * n):
                speed[m * LANES + k] = v[row, m // 3, m % 3]
        _steps(state, speed, (slopes, noise, stream, sigma, inverse, numbers), steps, packed)
        for k in range(min(LANES, x.shape[0] - first)):
            row = first + k
            for m in range(4):
                random[row, m] = stream[m * LANES + k]
            for m in range(3 * n):
                i, axis = m // 3, m % 3
                x[row, i, axis] = state[place(i) * STEP + place(axis) * WIDE + place(k)]
                v[row, i, axis] = speed[m * LANES + k]


@jit
def _advance_singly(walkers, inverse, numbers, steps, packed):  # type: ignore[no-untyped-def]
    """As `_advance`, one walker after the other."""
    x, v, random, kt = walkers
    n, padded = x.shape[1], place(packed.later.shape[1])
    room = single.make_room(x, packed)
    noise = np.empty((3 * n + 1) * LANES, x.dtype)
    stream = np.empty(4 * LANES, np.uint32)
    for row in range(x.shape[0]):
        for m in range(4):
            stream[m * LANES] = random[row, m]
        single.load(room[0], x[row], packed)
        _single_steps(room, v[row], (noise, stream, np.sqrt(kt[row]), inverse, numbers), steps, packed)
        for m in range(4):
            random[row, m] = stream[m * LANES]
        for i in range(n):
            for axis in range(3):
                x[row, i, axis] = room[0][place(axis) * padded + place(i)]


def with_hydrogen_mass(masses: np.ndarray, bonds: np.ndarray, mass: float) -> np.ndarray:
    """Masses with every hydrogen at `mass` Da, the difference taken from its bonded atom.

    Configurations' distribution does not depend on masses; a longer step becomes stable.

    Raises:
        BgbenchError: if a bonded atom would be lighter than LIGHTEST.
    """
    out = masses.copy()
    for i, j in bonds:
        light, heavy = (i, j) if masses[i] < masses[j] else (j, i)
        if masses[light] < 2.0 <= masses[heavy]:
            out[light] = mass
            out[heavy] -= mass - masses[light]
    poorest = int(np.argmin(np.where(masses < 2.0, np.inf, out)))
    if out[poorest] < LIGHTEST:
        raise BgbenchError(
            f"hydrogens of {mass:g} Da leave an atom they are bonded to {out[poorest]:.3g} of its "
            f"{masses[poorest]:.3g} Da; ask for a hydrogen mass of 4 or less"
        )
    return out


__all__ = ["Integrator", "Walkers", "with_hydrogen_mass"]
