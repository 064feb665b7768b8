"""Compiled energy and force of LANES conformers at once, by numba: pair terms and generalised Born.

`state` is one flat array of rows of LANES numbers, ROWS rows an atom: position x y z, Born integral,
Born radius, ∂E/∂B, force x y z, energy. One array, because LLVM then sees that the rows of two atoms do
not overlap and vectorises the loop over lanes. Units kJ/mol and nm.
"""

from typing import Any

import numpy as np
from numba import njit

from bgbench.core.kernels import compiled
from bgbench.energies.lanes import FAST, LANES, lane_exp, lane_log

ROWS = 10
place = np.uintp
"""Places in the state are unsigned: numba then leaves out Python's negative indices, and LLVM vectorises.
It also wants loops of few pointers, and a width it does not know: a known one is unrolled instead."""
WIDE, TWICE = place(LANES), place(2 * LANES)
STEP = place(ROWS * LANES)
INTEGRAL, RADIUS, SLOPE, FORCE, ENERGY = (place(row * LANES) for row in (3, 4, 5, 6, 9))

jit = compiled(fastmath=FAST, error_model="numpy", nogil=True)
inlined = njit(fastmath=FAST, error_model="numpy", inline="always")


@inlined
def half_integral(r, ri, own, scaled, constants):  # type: ignore[no-untyped-def]
    """Born integral of an atom of radius `own` over a neighbour of radius `scaled`: I and dI/dr."""
    zero, quarter, half, one = constants
    d = r - scaled
    reach = d if d > zero else -d
    low = reach if reach > own else own
    side = (one if d > zero else -one) if reach > own else zero
    lo = one / low
    up = one / (r + scaled)
    lo2 = lo * lo
    up2 = up * up
    g = lane_log(low * up) * ri
    q = scaled * scaled * ri
    value = half * (lo - up + quarter * (r - q) * (up2 - lo2) + half * g)
    slope = up2 - side * lo2 + quarter * (one + q * ri) * (up2 - lo2)
    slope += half * (r - q) * (side * lo2 * lo - up2 * up) + half * ri * (side * lo - up - g)
    use = r + scaled >= own
    return (value if use else zero), (half * slope if use else zero)


@inlined
def separation(state, a, b, k):  # type: ignore[no-untyped-def]
    """Vector from atom row a to atom row b in lane k."""
    dx = state[b + k] - state[a + k]
    dy = state[b + WIDE + k] - state[a + WIDE + k]
    dz = state[b + TWICE + k] - state[a + TWICE + k]
    return dx, dy, dz


@inlined
def push_pair(state, a, b, scale, width):  # type: ignore[no-untyped-def]
    """Force of a pair, ∓ scale · (vector from a to b), an axis at a time; `scale` is a row of lanes."""
    for axis in (place(0), WIDE, TWICE):
        at, bt = a + axis, b + axis
        for k in range(width):
            push = scale[k] * (state[bt + k] - state[at + k])
            state[at + FORCE + k] -= push
            state[bt + FORCE + k] += push


def _born_integrals(forces: bool) -> Any:
    @jit
    def run(state, slopes, born, limits):  # type: ignore[no-untyped-def]
        c = state.dtype.type
        width = place(limits[6])
        zero, one = c(0), c(1)
        constants = (zero, c(0.25), c(0.5), one)
        r2_min, r2_max = limits[0], limits[1]
        row = np.empty(3 * LANES, state.dtype)
        p = place(0)
        for i in range(born.shape[0]):
            for j in range(i + 1, born.shape[0]):
                a, b = place(i) * STEP, place(j) * STEP
                for k in range(width):
                    dx, dy, dz = separation(state, a, b, k)
                    r2 = dx * dx + dy * dy + dz * dz
                    r = np.sqrt(r2 if r2 > r2_min else r2_min)
                    row[k] = r
                    row[WIDE + k] = one / r
                    row[TWICE + k] = one if r2 <= r2_max else zero
                for k in range(width):
                    r, ri, near = row[k], row[WIDE + k], row[TWICE + k]
                    value, slope = half_integral(r, ri, born[i, 0], born[j, 1], constants)
                    state[a + INTEGRAL + k] += near * value
                    if forces:
                        slopes[p + k] = near * slope * ri
                for k in range(width):
                    r, ri, near = row[k], row[WIDE + k], row[TWICE + k]
                    value, slope = half_integral(r, ri, born[j, 0], born[i, 1], constants)
                    state[b + INTEGRAL + k] += near * value
                    if forces:
                        slopes[p + WIDE + k] = near * slope * ri
                p += TWICE

    return run


born_integrals = {forces: _born_integrals(forces) for forces in (False, True)}
"""I of every atom; with forces, (dI/dr)/r of every pair in `slopes`, two rows a pair.

`born (atoms, ≥2)`: offset and scaled radius; `limits`: smallest r², squared cut-off.
"""


@jit
def born_radii(state, born, tanh, width):  # type: ignore[no-untyped-def]
    """B from I, self and surface energy, and their ∂E/∂B.

    `born (atoms, 5)`: offset radius, scaled radius, radius, self energy, surface constant.
    """
    c = state.dtype.type
    one, two, three, six = c(1), c(2), c(3), c(6)
    t1, t2, t3 = tanh[0], tanh[1], tanh[2]
    for i in range(born.shape[0]):
        a = place(i) * STEP
        own, radius, charge, surface = born[i, 0], born[i, 2], born[i, 3], born[i, 4]
        for k in range(width):
            psi = state[a + INTEGRAL + k] * own
            argument = psi * (t1 + psi * (t2 + psi * t3))
            t = one - two / (lane_exp(two * argument) + one)
            b = one / (one / own - t / radius)
            bi = one / b
            bi2 = bi * bi
            s6 = surface * bi2 * bi2 * bi2
            state[a + ENERGY + k] += charge * bi + s6
            state[a + SLOPE + k] = -(charge * bi + six * s6) * bi
            state[a + RADIUS + k] = b
            bend = t1 + psi * (two * t2 + three * t3 * psi)
            state[a + INTEGRAL + k] = b * b * (one - t * t) * bend * own / radius


def _pairs(forces: bool) -> Any:
    @jit
    def run(state, pair, limits, n):  # type: ignore[no-untyped-def]
        c = state.dtype.type
        width = place(limits[6])
        zero, quarter, half, one, two = c(0), c(0.25), c(0.5), c(1), c(2)
        six, twelve = c(6), c(12)
        r2_min, r2_max, b2_max = limits[0], limits[2], limits[1]
        krf, crf, shift = limits[3], limits[4], limits[5]
        row = np.empty(2 * LANES, state.dtype)
        p = 0
        for i in range(n):
            for j in range(i + 1, n):
                a, b = place(i) * STEP, place(j) * STEP
                qq, c12, c6, qb = pair[p, 0], pair[p, 1], pair[p, 2], pair[p, 3]
                for k in range(width):
                    dx, dy, dz = separation(state, a, b, k)
                    d2 = dx * dx + dy * dy + dz * dz
                    r2 = d2 if d2 > r2_min else r2_min
                    near = one if d2 <= r2_max else zero
                    born = qb if d2 <= b2_max else zero
                    ri = one / np.sqrt(r2)
                    i2 = ri * ri
                    i6 = i2 * i2 * i2
                    e12, e6 = c12 * i6 * i6, c6 * i6
                    bb = state[a + RADIUS + k] * state[b + RADIUS + k]
                    x = quarter * r2 / bb
                    ex = lane_exp(-x)
                    fi = one / np.sqrt(r2 + bb * ex)
                    state[a + ENERGY + k] += near * (qq * (ri + krf * r2 - crf) + e12 - e6) + born * (
                        fi - shift
                    )
                    if forces:
                        g = half * born * fi * fi * fi
                        s = near * ((twelve * e12 - six * e6 + qq * ri) * i2 - two * krf * qq)
                        row[k] = s + two * g * (one - quarter * ex)
                        row[WIDE + k] = g * ex * (one + x)
                if forces:
                    for k in range(width):
                        h = row[WIDE + k]
                        state[a + SLOPE + k] -= h * state[b + RADIUS + k]
                        state[b + SLOPE + k] -= h * state[a + RADIUS + k]
                    push_pair(state, a, b, row, width)
                p += 1

    return run


pairs = {forces: _pairs(forces) for forces in (False, True)}
"""Lennard-Jones, reaction-field Coulomb and generalised Born of all pairs, with force and ∂E/∂B.

`pair (pairs, 4)`: charges, c12, c6, Born charges; `limits`: smallest r², squared Born cut-off, squared
cut-off, reaction-field k and c, Born shift.
"""


@jit
def born_chain(state, slopes, n, width):  # type: ignore[no-untyped-def]
    """The force that comes through the Born radii: ∂E/∂B · ∂B/∂I · dI/dr of every pair."""
    for i in range(n):
        a = place(i) * STEP
        for k in range(width):
            state[a + INTEGRAL + k] *= state[a + SLOPE + k]
    row = np.empty(LANES, state.dtype)
    p = place(0)
    for i in range(n):
        for j in range(i + 1, n):
            a, b = place(i) * STEP, place(j) * STEP
            for k in range(width):
                s = state[a + INTEGRAL + k] * slopes[p + k] + state[b + INTEGRAL + k] * slopes[p + WIDE + k]
                row[k] = -s
            push_pair(state, a, b, row, width)
            p += TWICE
