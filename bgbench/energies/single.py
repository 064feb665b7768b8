"""Energy and force of one conformer at a time, compiled: its pairs side by side in SIMD lanes.

`kernels` sets LANES conformers side by side, where one alone costs as much as sixteen. Here an atom and all
later atoms are side by side, which suits a few walkers. `state` is one flat array of ROWS rows of `padded`
numbers, one for each atom: x y z, Born integral, Born radius, ∂E/∂B, force x y z, energy. `room` holds it and
what the kernels need besides: `work`, four rows; `slopes`, two rows for each first atom of a pair; and
`block`, the layout of `kernels`, of which the bonded terms use one lane. Units kJ/mol and nm.
"""

import numpy as np

from bgbench.energies import bonded
from bgbench.energies.compiled import energy_sweep, force_sweep
from bgbench.energies.kernels import ROWS, STEP, WIDE, half_integral, jit, place
from bgbench.energies.lanes import LANES, lane_exp
from bgbench.energies.packed import BLOCK, Packed

FEW = 9
"""Conformers up to which one after the other is faster than a block with idle lanes."""

SIDE = place(BLOCK)
INTEGRAL, RADIUS, SLOPE, FORCE, ENERGY = (place(row) for row in (3, 4, 5, 6, 9))
"""Rows of `state`."""


@jit
def make_room(x, packed):  # type: ignore[no-untyped-def]
    """State, work, slopes and block for conformers such as those of `x (n, atoms, 3)`."""
    n, padded = packed.later.shape
    state = np.zeros(ROWS * padded, x.dtype)
    work = np.empty(4 * padded, x.dtype)
    slopes = np.empty(2 * n * padded, x.dtype)
    return state, work, slopes, np.zeros(n * ROWS * LANES, x.dtype)


@jit
def load(state, x, packed):  # type: ignore[no-untyped-def]
    """Positions `(atoms, 3)` into the state."""
    padded = place(packed.later.shape[1])
    for i in range(x.shape[0]):
        for axis in range(3):
            state[place(axis) * padded + place(i)] = x[i, axis]


@jit
def total_energy(state, packed):  # type: ignore[no-untyped-def]
    """The sum of the energies of all atoms, in float64."""
    padded = place(packed.later.shape[1])
    total = 0.0
    for k in range(padded):
        total += state[ENERGY * padded + place(k)]
    return total


@jit
def copy_force(state, force, packed):  # type: ignore[no-untyped-def]
    """The force into `(atoms, 3)`."""
    padded = place(packed.later.shape[1])
    for i in range(force.shape[0]):
        for axis in range(3):
            force[i, axis] = state[(FORCE + place(axis)) * padded + place(i)]


@jit
def row_sum(row, start, stop):  # type: ignore[no-untyped-def]
    """Σ row[start:stop], a whole number of BLOCKs, in eight parts: their order is no compiler's choice."""
    a, b, c, d = row[start], row[start + place(1)], row[start + place(2)], row[start + place(3)]
    e, f, g, h = row[start + place(4)], row[start + place(5)], row[start + place(6)], row[start + place(7)]
    k = start + SIDE
    while k < stop:
        a += row[k]
        b += row[k + place(1)]
        c += row[k + place(2)]
        d += row[k + place(3)]
        e += row[k + place(4)]
        f += row[k + place(5)]
        g += row[k + place(6)]
        h += row[k + place(7)]
        k += SIDE
    return ((a + e) + (c + g)) + ((b + f) + (d + h))


@jit
def born_integrals(state, work, slopes, packed):  # type: ignore[no-untyped-def]
    """I of every atom, and (dI/dr)/r of every pair in `slopes`, for its first and for its second atom."""
    c = state.dtype.type
    zero, one = c(0), c(1)
    constants = (zero, c(0.25), c(0.5), one)
    later, born = packed.later, packed.born_rows
    r2_min, r2_max = packed.limits[0], packed.limits[1]
    n, padded = place(later.shape[0]), place(later.shape[1])
    y, z, integral = padded, place(2) * padded, INTEGRAL * padded
    inverse, near, part = padded, place(2) * padded, place(3) * padded
    for first in range(n):
        i = place(first)
        start = i // SIDE * SIDE
        xi, yi, zi = state[i], state[y + i], state[z + i]
        own, scaled = born[place(0), i], born[place(1), i]
        for j in range(start, padded):
            dx, dy, dz = state[j] - xi, state[y + j] - yi, state[z + j] - zi
            r2 = dx * dx + dy * dy + dz * dz
            r = np.sqrt(r2 if r2 > r2_min else r2_min)
            work[j] = r
            work[inverse + j] = one / r
            work[near + j] = later[i, j] if r2 <= r2_max else zero
        p = place(2) * i * padded
        for j in range(start, padded):
            r, ri = work[j], work[inverse + j]
            value, slope = half_integral(r, ri, own, born[place(1), j], constants)
            work[part + j] = work[near + j] * value
            slopes[p + j] = work[near + j] * slope * ri
        state[integral + i] += row_sum(work, part + start, part + padded)
        p += padded
        for j in range(start, padded):
            r, ri = work[j], work[inverse + j]
            value, slope = half_integral(r, ri, born[place(0), j], scaled, constants)
            state[integral + j] += work[near + j] * value
            slopes[p + j] = work[near + j] * slope * ri


@jit
def born_radii(state, packed):  # type: ignore[no-untyped-def]
    """B from I, self and surface energy, and their ∂E/∂B; I becomes ∂B/∂I."""
    c = state.dtype.type
    one, two, three, six = c(1), c(2), c(3), c(6)
    born, t1, t2, t3 = packed.born_rows, packed.tanh[0], packed.tanh[1], packed.tanh[2]
    padded = place(born.shape[1])
    integral, radius = INTEGRAL * padded, RADIUS * padded
    slope, energy = SLOPE * padded, ENERGY * padded
    for k in range(padded):
        own, size = born[place(0), k], born[place(2), k]
        charge, surface = born[place(3), k], born[place(4), k]
        psi = state[integral + k] * own
        argument = psi * (t1 + psi * (t2 + psi * t3))
        t = one - two / (lane_exp(two * argument) + one)
        b = one / (one / own - t / size)
        bi = one / b
        bi2 = bi * bi
        s6 = surface * bi2 * bi2 * bi2
        state[energy + k] += charge * bi + s6
        state[slope + k] = -(charge * bi + six * s6) * bi
        state[radius + k] = b
        bend = t1 + psi * (two * t2 + three * t3 * psi)
        state[integral + k] = b * b * (one - t * t) * bend * own / size


@jit
def pairs(state, work, packed):  # type: ignore[no-untyped-def]
    """Lennard-Jones, reaction-field Coulomb and generalised Born of all pairs, with force and ∂E/∂B."""
    c = state.dtype.type
    zero, quarter, half, one, two = c(0), c(0.25), c(0.5), c(1), c(2)
    six, twelve = c(6), c(12)
    pair, limits = packed.pair_rows, packed.limits
    r2_min, r2_max, b2_max = limits[0], limits[2], limits[1]
    krf, crf, shift = limits[3], limits[4], limits[5]
    n, padded = place(pair.shape[1]), place(pair.shape[2])
    y, z, radius, energy = padded, place(2) * padded, RADIUS * padded, ENERGY * padded
    for first in range(n):
        i = place(first)
        start = i // SIDE * SIDE
        xi, yi, zi, bi = state[i], state[y + i], state[z + i], state[radius + i]
        for j in range(start, padded):
            dx, dy, dz = state[j] - xi, state[y + j] - yi, state[z + j] - zi
            d2 = dx * dx + dy * dy + dz * dz
            r2 = d2 if d2 > r2_min else r2_min
            near = one if d2 <= r2_max else zero
            qq, qb = pair[place(0), i, j], pair[place(3), i, j]
            born = qb if d2 <= b2_max else zero
            ri = one / np.sqrt(r2)
            i2 = ri * ri
            i6 = i2 * i2 * i2
            e12, e6 = pair[place(1), i, j] * i6 * i6, pair[place(2), i, j] * i6
            bb = bi * state[radius + j]
            x = quarter * r2 / bb
            ex = lane_exp(-x)
            fi = one / np.sqrt(r2 + bb * ex)
            state[energy + j] += near * (qq * (ri + krf * r2 - crf) + e12 - e6) + born * (fi - shift)
            g = half * born * fi * fi * fi
            s = near * ((twelve * e12 - six * e6 + qq * ri) * i2 - two * krf * qq)
            work[j] = s + two * g * (one - quarter * ex)
            work[padded + j] = g * ex * (one + x)
        add_slopes(state, work, i, start, padded)
        push_row(state, work, i, start, padded)


@jit
def add_slopes(state, work, i, start, padded):  # type: ignore[no-untyped-def]
    """∂E/∂B of atom i and of the atoms beside it, from the second row of `work`."""
    radius, slope, part = RADIUS * padded, SLOPE * padded, place(2) * padded
    bi = state[radius + i]
    for j in range(start, padded):
        h = work[padded + j]
        work[part + j] = h * state[radius + j]
        state[slope + j] -= h * bi
    state[slope + i] -= row_sum(work, part + start, part + padded)


@jit
def push_row(state, work, i, start, padded):  # type: ignore[no-untyped-def]
    """Forces of atom i with the atoms beside it, ∓ (first row of `work`) · (vector from i), axis by axis."""
    part = place(2) * padded
    for axis in range(3):
        at = place(axis) * padded
        force = at + FORCE * padded
        own = state[at + i]
        for j in range(start, padded):
            push = work[j] * (state[at + j] - own)
            work[part + j] = push
            state[force + j] += push
        state[force + i] -= row_sum(work, part + start, part + padded)


@jit
def born_chain(state, work, slopes, packed):  # type: ignore[no-untyped-def]
    """The force that comes through the Born radii: ∂E/∂B · ∂B/∂I · dI/dr of every pair."""
    n, padded = place(packed.later.shape[0]), place(packed.later.shape[1])
    integral, slope = INTEGRAL * padded, SLOPE * padded
    for k in range(padded):
        state[integral + place(k)] *= state[slope + place(k)]
    for first in range(n):
        i = place(first)
        start = i // SIDE * SIDE
        p = place(2) * i * padded
        q = p + padded
        own = state[integral + i]
        for j in range(start, padded):
            work[j] = -(own * slopes[p + j] + state[integral + j] * slopes[q + j])
        push_row(state, work, i, start, padded)


@jit
def bonded_terms(state, block, packed):  # type: ignore[no-untyped-def]
    """Bonds, angles, torsions and scaled pairs, in the first lane of `block`."""
    n, padded = place(packed.later.shape[0]), place(packed.later.shape[1])
    for i in range(n):
        for row in range(ROWS):
            block[place(i) * STEP + place(row) * WIDE] = state[place(row) * padded + place(i)]
    limits = packed.limits_of_one
    bonded.bonds(block, packed.bonds, packed.bond_values, limits)
    bonded.angles(block, packed.angles, packed.angle_values, limits)
    bonded.torsions(block, packed.torsions, packed.torsion_values, limits)
    bonded.scaled_pairs(block, packed.exceptions, packed.exception_values, limits)
    for i in range(n):
        for row in range(6, ROWS):
            state[place(row) * padded + place(i)] = block[place(i) * STEP + place(row) * WIDE]


@jit
def single_force(room, packed):  # type: ignore[no-untyped-def]
    """Energies and forces of the atoms of the positions in `room`."""
    state, work, slopes, block = room
    padded = place(packed.later.shape[1])
    zero = state.dtype.type(0)
    for k in range(INTEGRAL * padded, place(ROWS) * padded):
        state[place(k)] = zero
    born_integrals(state, work, slopes, packed)
    born_radii(state, packed)
    pairs(state, work, packed)
    born_chain(state, work, slopes, packed)
    bonded_terms(state, block, packed)


@jit
def single_sweep(x, u, force, packed):  # type: ignore[no-untyped-def]
    """As `compiled.force_sweep`, one conformer after the other."""
    room = make_room(x, packed)
    for row in range(x.shape[0]):
        load(room[0], x[row], packed)
        single_force(room, packed)
        u[row] = total_energy(room[0], packed)
        copy_force(room[0], force[row], packed)


def count_in_blocks(n: int) -> int:
    """How many of n conformers, the first ones, go through the kernels in blocks.

    It depends on n alone, so that results do not depend on threads.
    """
    left = n % LANES
    return n - left if left <= FEW else n


def sweep_energies(x: np.ndarray, u: np.ndarray, packed: Packed) -> None:
    """Energies (kJ/mol) of `x (n, atoms, 3)` nm into `u (n,)` float64, each conformer the faster way."""
    n = count_in_blocks(len(x))
    if n:
        energy_sweep(x[:n], u[:n], packed)
    if n < len(x):
        single_sweep(x[n:], u[n:], np.empty_like(x[n:]), packed)


def sweep_forces(x: np.ndarray, u: np.ndarray, force: np.ndarray, packed: Packed) -> None:
    """As `sweep_energies`, with forces (kJ/mol/nm) into `force (n, atoms, 3)`."""
    n = count_in_blocks(len(x))
    if n:
        force_sweep(x[:n], u[:n], force[:n], packed)
    if n < len(x):
        single_sweep(x[n:], u[n:], force[n:], packed)
