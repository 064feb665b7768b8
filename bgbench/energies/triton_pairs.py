"""Triton kernels of the pairs: Lennard-Jones, Coulomb and generalised Born, with forces.

Three passes over all ordered pairs: `pairs` (Lennard-Jones, Coulomb, Born integrals, then the radii),
`solvation` (the Born energy at these radii, and ∂E/∂B) and `chain` (the force that comes through the radii).
A program takes ROWS atoms i, reads every atom j and writes the rows of its own atoms alone: no atomics, and
sums in one order. Each pair is computed twice, once for either atom, which costs less than adding to another
program's rows. What it costs is counted in `triton_cost`.

Rows are `(atoms, width)`, conformers innermost: positions and forces three rows an atom; `energy` in float64;
`radius` B; `bend` dB/dI, which `solvation` makes ∂E/∂I. Tables are read at addresses that all threads
share. `atoms (atoms, 6)`: offset radius, scaled radius, radius, self energy, surface, charge; `table (atoms,
atoms, 3)`: charges, c12, c6 of a pair, 0 where an exception replaces it.
"""

import triton
import triton.language as tl

from bgbench.energies.triton_lanes import ROWS, SMALLEST, add, at_least, conformers, dot, position

COLUMNS = tl.constexpr(6)
"""Numbers of an atom in `atoms`."""


@triton.jit
def distance(dx, dy, dz):  # type: ignore[no-untyped-def]
    """1/r and r²."""
    r2 = at_least(dot(dx, dy, dz, dx, dy, dz), SMALLEST * SMALLEST)
    return tl.rsqrt(r2), r2


@triton.jit
def contact(ri, r2, qq, c12, c6, reaction_k, reaction_c):  # type: ignore[no-untyped-def]
    """Lennard-Jones and reaction-field Coulomb: energy and −(∂E/∂r)/r."""
    i2 = ri * ri
    i6 = i2 * i2 * i2
    e12 = c12 * i6 * i6
    e6 = c6 * i6
    energy = qq * (ri + reaction_k * r2 - reaction_c) + e12 - e6
    return energy, (12.0 * e12 - 6.0 * e6 + qq * ri) * i2 - 2.0 * reaction_k * qq


@triton.jit
def descreening(r, ri, own, scaled):  # type: ignore[no-untyped-def]
    """Born integral of an atom of radius `own` over a neighbour of radius `scaled`."""
    gap = r - scaled
    reach = tl.where(gap < 0.0, -gap, gap)
    low = at_least(reach, own)
    lo = 1.0 / low
    up = 1.0 / (r + scaled)
    q = scaled * scaled * ri
    value = lo - up + 0.25 * (r - q) * (up * up - lo * lo) + 0.5 * tl.log(low * up) * ri
    return tl.where(r + scaled < own, 0.0, 0.5 * value)


@triton.jit
def descreening_slope(r, ri, own, scaled):  # type: ignore[no-untyped-def]
    """dI/dr of `descreening`."""
    gap = r - scaled
    reach = tl.where(gap < 0.0, -gap, gap)
    low = at_least(reach, own)
    lo = 1.0 / low
    up = 1.0 / (r + scaled)
    side = tl.where(reach > own, tl.where(gap < 0.0, -lo, lo), 0.0)
    q = scaled * scaled * ri
    lo2 = side * lo
    up2 = up * up
    slope = up2 - lo2 + 0.25 * (1.0 + q * ri) * (up2 - lo * lo)
    slope += 0.5 * ((r - q) * (lo2 * lo - up2 * up) + (side - up - tl.log(low * up) * ri) * ri)
    return tl.where(r + scaled < own, 0.0, 0.5 * slope)


@triton.jit
def screening(r2, bb):  # type: ignore[no-untyped-def]
    """1/f of the generalised Born function f² = r² + BB exp(−r²/4BB), the exponent and the exponential."""
    exponent = 0.25 * r2 / bb
    decay = tl.exp(-exponent)
    return tl.rsqrt(r2 + bb * decay), exponent, decay


@triton.jit
def screening_push(fi, exponent, decay):  # type: ignore[no-untyped-def]
    """Of 1/f: −(∂/∂r)/r, and the derivative by either radius, over the other one."""
    half = 0.5 * fi * fi * fi
    return 2.0 * half - 0.5 * half * decay, -half * decay * (1.0 + exponent)


@triton.jit
def born_radius(integral, own, radius, t1, t2, t3):  # type: ignore[no-untyped-def]
    """B and dB/dI of an atom."""
    psi = integral * own
    t = 1.0 - 2.0 / (tl.exp(2.0 * psi * (t1 + psi * (t2 + psi * t3))) + 1.0)
    b = 1.0 / (1.0 / own - t / radius)
    return b, b * b * (1.0 - t * t) * (t1 + psi * (2.0 * t2 + 3.0 * t3 * psi)) * own / radius


@triton.jit
def self_energy(b, charge, surface):  # type: ignore[no-untyped-def]
    """Energy of an atom of Born radius b, and its derivative by b; `charge` and `surface`: its constants."""
    bi = 1.0 / b
    s6 = surface * bi * bi * bi * bi * bi * bi
    return charge * bi + s6, -(charge * bi + 6.0 * s6) * bi


@triton.jit
def own_atoms(n):  # type: ignore[no-untyped-def]
    """The atoms of this program (ROWS, 1), and which of them exist; the last one stands in for others."""
    i = (tl.program_id(0) * ROWS + tl.arange(0, ROWS))[:, None]
    return tl.where(i < n, i, n - 1), i < n


@triton.jit
def add_force(force, i, exists, width, lane, fx, fy, fz):  # type: ignore[no-untyped-def]
    """Add to the force on the atoms of this program, which no other one writes."""
    row = force + 3 * i * width + lane
    tl.store(row, tl.load(row) + fx, mask=exists)
    tl.store(row + width, tl.load(row + width) + fy, mask=exists)
    tl.store(row + 2 * width, tl.load(row + 2 * width) + fz, mask=exists)


@triton.jit
def add_energy(energy, i, exists, width, lane, total, lost):  # type: ignore[no-untyped-def]
    """Add half of a sum over pairs, each of which is met twice."""
    row = energy + i * width + lane
    tl.store(row, tl.load(row) + 0.5 * (total.to(tl.float64) - lost.to(tl.float64)), mask=exists)


@triton.jit(do_not_specialize=["n", "width"])
def pairs(  # type: ignore[no-untyped-def]
    x,
    energy,
    force,
    radius,
    bend,
    atoms,
    table,
    n,
    width,
    cutoff2,
    reaction_k,
    reaction_c,
    born_cutoff2,
    t1,
    t2,
    t3,
    FORCES: tl.constexpr,
    BORN: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Add Lennard-Jones and Coulomb to `energy` and `force`; write `radius` and `bend`."""
    i, exists = own_atoms(n)
    lane = conformers(BLOCK)
    xi, yi, zi = position(x, i, width, lane)
    own = tl.load(atoms + i * COLUMNS)
    total = tl.zeros([ROWS, BLOCK], tl.float32)
    lost = tl.zeros([ROWS, BLOCK], tl.float32)
    integral = tl.zeros([ROWS, BLOCK], tl.float32)
    fx = tl.zeros([ROWS, BLOCK], tl.float32)
    fy = tl.zeros([ROWS, BLOCK], tl.float32)
    fz = tl.zeros([ROWS, BLOCK], tl.float32)
    for j in range(n):
        xj, yj, zj = position(x, j, width, lane)
        dx, dy, dz = xi - xj, yi - yj, zi - zj
        ri, r2 = distance(dx, dy, dz)
        entry = table + (i * n + j) * 3
        qq, c12, c6 = tl.load(entry), tl.load(entry + 1), tl.load(entry + 2)
        e, push = contact(ri, r2, qq, c12, c6, reaction_k, reaction_c)
        total, lost = add(total, lost, tl.where(r2 > cutoff2, 0.0, e))
        if FORCES:
            push = tl.where(r2 > cutoff2, 0.0, push)
            fx += push * dx
            fy += push * dy
            fz += push * dz
        if BORN:
            value = descreening(r2 * ri, ri, own, tl.load(atoms + j * COLUMNS + 1))
            integral += tl.where((r2 > born_cutoff2) | (i == j), 0.0, value)
    add_energy(energy, i, exists, width, lane, total, lost)
    if FORCES:
        add_force(force, i, exists, width, lane, fx, fy, fz)
    if BORN:
        b, slope = born_radius(integral, own, tl.load(atoms + i * COLUMNS + 2), t1, t2, t3)
        tl.store(radius + i * width + lane, b, mask=exists)
        if FORCES:
            tl.store(bend + i * width + lane, slope, mask=exists)


@triton.jit(do_not_specialize=["n", "width"])
def solvation(  # type: ignore[no-untyped-def]
    x,
    energy,
    force,
    radius,
    bend,
    atoms,
    n,
    width,
    born_cutoff2,
    scale,
    shift,
    FORCES: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Add the Born energy to `energy` and, at these radii, its force to `force`; `bend` becomes ∂E/∂I."""
    i, exists = own_atoms(n)
    lane = conformers(BLOCK)
    xi, yi, zi = position(x, i, width, lane)
    bi = tl.load(radius + i * width + lane)
    charge = scale * tl.load(atoms + i * COLUMNS + 5)
    e, slope = self_energy(bi, tl.load(atoms + i * COLUMNS + 3), tl.load(atoms + i * COLUMNS + 4))
    # Twice, for half of the sum is added.
    total = 2.0 * e
    lost = tl.zeros([ROWS, BLOCK], tl.float32)
    fx = tl.zeros([ROWS, BLOCK], tl.float32)
    fy = tl.zeros([ROWS, BLOCK], tl.float32)
    fz = tl.zeros([ROWS, BLOCK], tl.float32)
    for j in range(n):
        xj, yj, zj = position(x, j, width, lane)
        bj = tl.load(radius + j * width + lane)
        dx, dy, dz = xi - xj, yi - yj, zi - zj
        r2 = at_least(dot(dx, dy, dz, dx, dy, dz), SMALLEST * SMALLEST)
        fi, exponent, decay = screening(r2, bi * bj)
        qq = tl.where((r2 > born_cutoff2) | (i == j), 0.0, charge * tl.load(atoms + j * COLUMNS + 5))
        total, lost = add(total, lost, qq * (fi - shift))
        if FORCES:
            push, pull = screening_push(fi, exponent, decay)
            push *= qq
            slope += qq * pull * bj
            fx += push * dx
            fy += push * dy
            fz += push * dz
    add_energy(energy, i, exists, width, lane, total, lost)
    if FORCES:
        add_force(force, i, exists, width, lane, fx, fy, fz)
        row = bend + i * width + lane
        tl.store(row, tl.load(row) * slope, mask=exists)


@triton.jit(do_not_specialize=["n", "width"])
def chain(x, force, bend, atoms, n, width, born_cutoff2, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]
    """Add to `force` what comes through the Born radii: −∂E/∂I · dI/dr of every pair, `bend` being ∂E/∂I."""
    i, exists = own_atoms(n)
    lane = conformers(BLOCK)
    xi, yi, zi = position(x, i, width, lane)
    on_i = tl.load(bend + i * width + lane)
    own, scaled = tl.load(atoms + i * COLUMNS), tl.load(atoms + i * COLUMNS + 1)
    fx = tl.zeros([ROWS, BLOCK], tl.float32)
    fy = tl.zeros([ROWS, BLOCK], tl.float32)
    fz = tl.zeros([ROWS, BLOCK], tl.float32)
    for j in range(n):
        xj, yj, zj = position(x, j, width, lane)
        on_j = tl.load(bend + j * width + lane)
        dx, dy, dz = xi - xj, yi - yj, zi - zj
        ri, r2 = distance(dx, dy, dz)
        r = r2 * ri
        push = on_i * descreening_slope(r, ri, own, tl.load(atoms + j * COLUMNS + 1))
        push += on_j * descreening_slope(r, ri, tl.load(atoms + j * COLUMNS), scaled)
        push = tl.where((r2 > born_cutoff2) | (i == j), 0.0, -push * ri)
        fx += push * dx
        fy += push * dy
        fz += push * dz
    add_force(force, i, exists, width, lane, fx, fy, fz)
