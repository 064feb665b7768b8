"""Triton kernel of bonds, angles, torsions and scaled 1–4 pairs: each atom gathers the terms it is part of.

A program takes one atom i, computes all its terms, ROWS at a time, and keeps the force on i alone: no
atomics, and sums in one order, for two to four times the arithmetic of a term. The energy of a term is
counted by its first atom. Terms stand in the order of their atoms, those first whose energy the atom counts:
`spans (atoms, 3)` holds where the terms of an atom begin, where those end that it counts, and where all end.
Each kind of term has its spans, the numbers of its other atoms and its values (see `triton_tables`).
"""

import triton
import triton.language as tl

from bgbench.energies.triton_lanes import (
    ROWS,
    SMALLEST,
    add,
    arc_cosine,
    at_least,
    conformers,
    cross,
    dot,
    position,
)


@triton.jit
def bond(dx, dy, dz, length, strength):  # type: ignore[no-untyped-def]
    """½ k (r − r₀)² and −(∂E/∂r)/r."""
    r2 = at_least(dot(dx, dy, dz, dx, dy, dz), SMALLEST * SMALLEST)
    ri = tl.rsqrt(r2)
    stretch = r2 * ri - length
    return 0.5 * strength * stretch * stretch, -strength * stretch * ri


@triton.jit
def scaled_pair(dx, dy, dz, qq, c12, c6):  # type: ignore[no-untyped-def]
    """Coulomb and Lennard-Jones without cut-off: energy and −(∂E/∂r)/r."""
    ri = tl.rsqrt(at_least(dot(dx, dy, dz, dx, dy, dz), SMALLEST * SMALLEST))
    i2 = ri * ri
    i6 = i2 * i2 * i2
    e12 = c12 * i6 * i6
    e6 = c6 * i6
    return e12 - e6 + qq * ri, (12.0 * e12 - 6.0 * e6 + qq * ri) * i2


@triton.jit
def angle(ux, uy, uz, vx, vy, vz, row):  # type: ignore[no-untyped-def]
    """½ k (θ − θ₀)² between u and v, and the force on the atom of this row of the table."""
    ui = tl.rsqrt(at_least(dot(ux, uy, uz, ux, uy, uz), SMALLEST * SMALLEST))
    vi = tl.rsqrt(at_least(dot(vx, vy, vz, vx, vy, vz), SMALLEST * SMALLEST))
    cosine = dot(ux, uy, uz, vx, vy, vz) * ui * vi
    cosine = tl.where(cosine > 1.0, 1.0, tl.where(cosine < -1.0, -1.0, cosine))
    theta, strength = tl.load(row), tl.load(row + 1)
    t = arc_cosine(cosine) - theta
    s = strength * t * tl.rsqrt(at_least(1.0 - cosine * cosine, 2e-6))
    # The force on the first atom is a v − b u, that on the last one a u − c v.
    a, b, c = s * ui * vi, s * cosine * ui * ui, s * cosine * vi * vi
    first, last = tl.load(row + 2), tl.load(row + 3)
    along_u, along_v = last * a - first * b, first * a - last * c
    force = (along_u * ux + along_v * vx, along_u * uy + along_v * vy, along_u * uz + along_v * vz)
    return 0.5 * strength * t * t, force[0], force[1], force[2]


@triton.jit
def fourier(cosine, sine, row):  # type: ignore[no-untyped-def]
    """Σ aₙ cos nφ + bₙ sin nφ for n = 1…6, and its derivative by φ. `row`: a₁…a₆, b₁…b₆."""
    cn, sn = cosine, sine
    a, b = tl.load(row), tl.load(row + 6)
    energy = a * cn + b * sn
    slope = b * cn - a * sn
    for n in tl.static_range(1, 6):
        cn, sn = cn * cosine - sn * sine, sn * cosine + cn * sine
        a, b = tl.load(row + n), tl.load(row + 6 + n)
        energy += a * cn + b * sn
        slope += (n + 1) * (b * cn - a * sn)
    return energy, slope


@triton.jit
def torsion(ux, uy, uz, vx, vy, vz, wx, wy, wz, row):  # type: ignore[no-untyped-def]
    """Energy of the angle from u × v to v × w around v, and the force on the atom of this row."""
    ax, ay, az = cross(ux, uy, uz, vx, vy, vz)
    bx, by, bz = cross(vx, vy, vz, wx, wy, wz)
    tiny = SMALLEST * SMALLEST
    a2 = at_least(dot(ax, ay, az, ax, ay, az), tiny * tiny)
    b2 = at_least(dot(bx, by, bz, bx, by, bz), tiny * tiny)
    v2 = at_least(dot(vx, vy, vz, vx, vy, vz), tiny)
    norm = tl.rsqrt(a2 * b2)
    v = tl.sqrt(v2)
    cosine = dot(ax, ay, az, bx, by, bz) * norm
    sine = dot(ux, uy, uz, bx, by, bz) * norm * v
    energy, slope = fourier(cosine, sine, row)
    s = dot(ux, uy, uz, vx, vy, vz) / v2
    t = dot(wx, wy, wz, vx, vy, vz) / v2
    a = -slope * v / a2 * (tl.load(row + 12) + tl.load(row + 13) * s)
    b = slope * v / b2 * (tl.load(row + 14) + tl.load(row + 15) * t)
    return energy, a * ax + b * bx, a * ay + b * by, a * az + b * bz


@triton.jit
def window(spans, i, first):  # type: ignore[no-untyped-def]
    """ROWS terms of atom i from `first` on (ROWS, 1); which of them are its own, and which it counts."""
    m = first + tl.arange(0, ROWS)[:, None]
    last = tl.load(spans + 3 * i + 2)
    return tl.where(m < last, m, last - 1), m < last, m < tl.load(spans + 3 * i + 1)


@triton.jit
def between(x, a, b, width, lane):  # type: ignore[no-untyped-def]
    """Vectors from atoms b to atoms a."""
    xa, ya, za = position(x, a, width, lane)
    xb, yb, zb = position(x, b, width, lane)
    return xa - xb, ya - yb, za - zb


@triton.jit
def ends(spans, i, FORCES: tl.constexpr):  # type: ignore[no-untyped-def]
    """Where the terms of atom i begin and end: all of them, or those whose energy it counts."""
    return tl.load(spans + 3 * i), tl.load(spans + 3 * i + (2 if FORCES else 1))


@triton.jit(do_not_specialize=["width"])
def bonded(  # type: ignore[no-untyped-def]
    x,
    energy,
    force,
    bond_spans,
    bond_atoms,
    bond_values,
    pair_spans,
    pair_atoms,
    pair_values,
    angle_spans,
    angle_atoms,
    angle_values,
    torsion_spans,
    torsion_atoms,
    torsion_values,
    width,
    FORCES: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Write row i of `energy`, and of `force`."""
    i = tl.program_id(0)
    lane = conformers(BLOCK)
    total = tl.zeros([ROWS, BLOCK], tl.float32)
    lost = tl.zeros([ROWS, BLOCK], tl.float32)
    fx = tl.zeros([ROWS, BLOCK], tl.float32)
    fy = tl.zeros([ROWS, BLOCK], tl.float32)
    fz = tl.zeros([ROWS, BLOCK], tl.float32)

    first, last = ends(bond_spans, i, FORCES)
    for start in range(first, last, ROWS):
        m, ours, counted = window(bond_spans, i, start)
        dx, dy, dz = between(x, i, tl.load(bond_atoms + m), width, lane)
        e, push = bond(dx, dy, dz, tl.load(bond_values + 2 * m), tl.load(bond_values + 2 * m + 1))
        total, lost = add(total, lost, tl.where(counted, e, 0.0))
        if FORCES:
            push = tl.where(ours, push, 0.0)
            fx += push * dx
            fy += push * dy
            fz += push * dz

    first, last = ends(pair_spans, i, FORCES)
    for start in range(first, last, ROWS):
        m, ours, counted = window(pair_spans, i, start)
        dx, dy, dz = between(x, i, tl.load(pair_atoms + m), width, lane)
        row = pair_values + 3 * m
        e, push = scaled_pair(dx, dy, dz, tl.load(row), tl.load(row + 1), tl.load(row + 2))
        total, lost = add(total, lost, tl.where(counted, e, 0.0))
        if FORCES:
            push = tl.where(ours, push, 0.0)
            fx += push * dx
            fy += push * dy
            fz += push * dz

    first, last = ends(angle_spans, i, FORCES)
    for start in range(first, last, ROWS):
        m, ours, counted = window(angle_spans, i, start)
        a, b, c = (
            tl.load(angle_atoms + 3 * m),
            tl.load(angle_atoms + 3 * m + 1),
            tl.load(angle_atoms + 3 * m + 2),
        )
        ux, uy, uz = between(x, a, b, width, lane)
        vx, vy, vz = between(x, c, b, width, lane)
        e, px, py, pz = angle(ux, uy, uz, vx, vy, vz, angle_values + 4 * m)
        total, lost = add(total, lost, tl.where(counted, e, 0.0))
        if FORCES:
            fx += tl.where(ours, px, 0.0)
            fy += tl.where(ours, py, 0.0)
            fz += tl.where(ours, pz, 0.0)

    first, last = ends(torsion_spans, i, FORCES)
    for start in range(first, last, ROWS):
        m, ours, counted = window(torsion_spans, i, start)
        row = torsion_atoms + 4 * m
        b, c = tl.load(row + 1), tl.load(row + 2)
        ux, uy, uz = between(x, tl.load(row), b, width, lane)
        vx, vy, vz = between(x, c, b, width, lane)
        wx, wy, wz = between(x, c, tl.load(row + 3), width, lane)
        e, px, py, pz = torsion(ux, uy, uz, vx, vy, vz, wx, wy, wz, torsion_values + 16 * m)
        total, lost = add(total, lost, tl.where(counted, e, 0.0))
        if FORCES:
            fx += tl.where(ours, px, 0.0)
            fy += tl.where(ours, py, 0.0)
            fz += tl.where(ours, pz, 0.0)

    sum64 = tl.sum(total.to(tl.float64) - lost.to(tl.float64), axis=0)[None, :]
    tl.store(energy + i * width + lane, sum64)
    if FORCES:
        row = force + 3 * i * width + lane
        tl.store(row, tl.sum(fx, axis=0)[None, :])
        tl.store(row + width, tl.sum(fy, axis=0)[None, :])
        tl.store(row + 2 * width, tl.sum(fz, axis=0)[None, :])
