"""Compiled bonds, angles, torsions and scaled 1–4 pairs of LANES conformers; layout as in `kernels`."""

import numpy as np

from bgbench.energies.kernels import ENERGY, FORCE, STEP, TWICE, WIDE, inlined, jit, place
from bgbench.energies.lanes import lane_angle


@inlined
def push(state, row, s, vector):  # type: ignore[no-untyped-def]
    """Add s · vector to the force of one atom."""
    x, y, z = vector
    state[row] += s * x
    state[row + WIDE] += s * y
    state[row + TWICE] += s * z


@inlined
def gap(state, a, b):  # type: ignore[no-untyped-def]
    """Vector from b to a."""
    return (
        state[a] - state[b],
        state[a + WIDE] - state[b + WIDE],
        state[a + TWICE] - state[b + TWICE],
    )


@inlined
def dot(u, v):  # type: ignore[no-untyped-def]
    """Scalar product."""
    return u[0] * v[0] + u[1] * v[1] + u[2] * v[2]


@inlined
def cross(u, v):  # type: ignore[no-untyped-def]
    """Vector product."""
    return (u[1] * v[2] - u[2] * v[1], u[2] * v[0] - u[0] * v[2], u[0] * v[1] - u[1] * v[0])


@jit
def bonds(state, index, values, limits):  # type: ignore[no-untyped-def]
    """½ k (r − r₀)²; `values`: r₀, k."""
    c = state.dtype.type
    tiny, width = limits[0], place(limits[6])
    half, one = c(0.5), c(1)
    for m in range(index.shape[0]):
        a, b = place(index[m, 0]) * STEP, place(index[m, 1]) * STEP
        r0, strength = values[m, 0], values[m, 1]
        for k in range(width):
            d = gap(state, a + k, b + k)
            r2 = dot(d, d)
            r = np.sqrt(r2 if r2 > tiny else tiny)
            s = strength * (r - r0)
            state[a + ENERGY + k] += half * s * (r - r0)
            s *= one / r
            push(state, a + FORCE + k, -s, d)
            push(state, b + FORCE + k, s, d)


@jit
def angles(state, index, values, limits):  # type: ignore[no-untyped-def]
    """½ k (θ − θ₀)²; `values`: θ₀, k."""
    c = state.dtype.type
    tiny, width = limits[0], place(limits[6])
    half, one = c(0.5), c(1)
    edge = one - c(1e-6)
    for m in range(index.shape[0]):
        i, j, q = place(index[m, 0]) * STEP, place(index[m, 1]) * STEP, place(index[m, 2]) * STEP
        t0, strength = values[m, 0], values[m, 1]
        for k in range(width):
            u, v = gap(state, i + k, j + k), gap(state, q + k, j + k)
            u2, v2 = dot(u, u), dot(v, v)
            ui = one / np.sqrt(u2 if u2 > tiny else tiny)
            vi = one / np.sqrt(v2 if v2 > tiny else tiny)
            cosine = dot(u, v) * ui * vi
            cosine = cosine if cosine < one else one
            cosine = cosine if cosine > -one else -one
            t = lane_angle(cosine) - t0
            state[i + ENERGY + k] += half * strength * t * t
            bent = cosine if cosine < edge else edge
            bent = bent if bent > -edge else -edge
            s = strength * t / np.sqrt(one - bent * bent)
            push(state, i + FORCE + k, s * ui * vi, v)
            push(state, i + FORCE + k, -s * ui * ui * cosine, u)
            push(state, q + FORCE + k, s * ui * vi, u)
            push(state, q + FORCE + k, -s * vi * vi * cosine, v)
            push(state, j + FORCE + k, s * (ui * ui * cosine - ui * vi), u)
            push(state, j + FORCE + k, s * (vi * vi * cosine - ui * vi), v)


@inlined
def fourier(cosine, sine, row):  # type: ignore[no-untyped-def]
    """Σ a_n cos nφ + b_n sin nφ for n = 1…6, and its derivative by φ. `row`: a₁…a₆, b₁…b₆."""
    energy = row[0] * cosine + row[6] * sine
    slope = row[6] * cosine - row[0] * sine
    cn, sn = cosine, sine
    order = row[12]
    for n in range(1, 6):
        cn, sn = cn * cosine - sn * sine, sn * cosine + cn * sine
        order += row[12]
        energy += row[n] * cn + row[n + 6] * sn
        slope += order * (row[n + 6] * cn - row[n] * sn)
    return energy, slope


@jit
def torsions(state, index, coefficients, limits):  # type: ignore[no-untyped-def]
    """Σ k cos(nφ − δ) of proper and improper torsions; `coefficients (m, 13)`, the last one 1."""
    c = state.dtype.type
    tiny, width = limits[0], place(limits[6])
    one = c(1)
    for m in range(index.shape[0]):
        i, j = place(index[m, 0]) * STEP, place(index[m, 1]) * STEP
        p, q = place(index[m, 2]) * STEP, place(index[m, 3]) * STEP
        row = coefficients[m]
        for k in range(width):
            u, v, w = gap(state, i + k, j + k), gap(state, p + k, j + k), gap(state, p + k, q + k)
            a, b = cross(u, v), cross(v, w)
            a2, b2, v2 = dot(a, a), dot(b, b), dot(v, v)
            ai = one / (a2 if a2 > tiny * tiny else tiny * tiny)
            bi = one / (b2 if b2 > tiny * tiny else tiny * tiny)
            vi = one / np.sqrt(v2 if v2 > tiny else tiny)
            norm = np.sqrt(ai * bi)
            cosine = dot(a, b) * norm
            sine = dot(u, b) * norm * v2 * vi
            energy, slope = fourier(cosine, sine, row)
            state[i + ENERGY + k] += energy
            fi, fq = -slope * v2 * vi * ai, slope * v2 * vi * bi
            s, t = dot(u, v) * vi * vi, dot(w, v) * vi * vi
            push(state, i + FORCE + k, fi, a)
            push(state, q + FORCE + k, fq, b)
            push(state, j + FORCE + k, fi * (s - one), a)
            push(state, j + FORCE + k, -fq * t, b)
            push(state, p + FORCE + k, fq * (t - one), b)
            push(state, p + FORCE + k, -fi * s, a)


@jit
def scaled_pairs(state, index, values, limits):  # type: ignore[no-untyped-def]
    """Coulomb and Lennard-Jones of exceptions, without cut-off; `values`: charges, c12, c6."""
    c = state.dtype.type
    tiny, width = limits[0], place(limits[6])
    one, six, twelve = c(1), c(6), c(12)
    for m in range(index.shape[0]):
        a, b = place(index[m, 0]) * STEP, place(index[m, 1]) * STEP
        qq, c12, c6 = values[m, 0], values[m, 1], values[m, 2]
        for k in range(width):
            d = gap(state, a + k, b + k)
            r2 = dot(d, d)
            ri = one / np.sqrt(r2 if r2 > tiny else tiny)
            i2 = ri * ri
            i6 = i2 * i2 * i2
            e12, e6, eq = c12 * i6 * i6, c6 * i6, qq * ri
            state[a + ENERGY + k] += e12 - e6 + eq
            s = (twelve * e12 - six * e6 + eq) * i2
            push(state, a + FORCE + k, s, d)
            push(state, b + FORCE + k, -s, d)
