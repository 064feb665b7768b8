"""What the Triton kernels share: tiles of conformers, sums that keep their digits, the arc cosine.

A program computes a tile (ROWS, BLOCK): ROWS atoms or terms of a block of conformers. A thread holds one
conformer and all rows, so that what it reads of another atom serves ROWS times, and no thread waits for
another. Triton gives a thread neighbouring conformers instead where it knows that rows are aligned, and would
then exchange tiles between threads in the innermost loop: the kernels hide the width of a row from it
(`do_not_specialize`).
"""

import triton
import triton.language as tl

ROWS = tl.constexpr(4)
"""Rows of a tile: atoms of which a pair kernel computes all pairs at once, terms of the bonded one."""

SMALLEST = tl.constexpr(1e-3)
"""Distances below this (nm) are treated as this, as in `eager`."""


@triton.jit
def conformers(BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]
    """The conformers of this program, (1, BLOCK)."""
    return (tl.program_id(1) * BLOCK + tl.arange(0, BLOCK))[None, :]


@triton.jit
def position(x, atom, width, lane):  # type: ignore[no-untyped-def]
    """Coordinates of one atom, or of those of a column, out of `x (atoms, 3, width)`."""
    row = x + 3 * atom * width + lane
    return tl.load(row), tl.load(row + width), tl.load(row + 2 * width)


@triton.jit
def at_least(value, least):  # type: ignore[no-untyped-def]
    """The larger of both; NaN stays NaN, so that a missing atom has no energy."""
    return tl.where(value < least, least, value)


@triton.jit
def dot(ux, uy, uz, vx, vy, vz):  # type: ignore[no-untyped-def]
    """Scalar product."""
    return ux * vx + uy * vy + uz * vz


@triton.jit
def cross(ux, uy, uz, vx, vy, vz):  # type: ignore[no-untyped-def]
    """Vector product."""
    return uy * vz - uz * vy, uz * vx - ux * vz, ux * vy - uy * vx


@triton.jit
def add(total, lost, term):  # type: ignore[no-untyped-def]
    """Kahan's sum: `total` in float32, and what its rounding has added too much."""
    wanted = term - lost
    larger = total + wanted
    return larger, (larger - total) - wanted


@triton.jit
def arc_cosine(cosine):  # type: ignore[no-untyped-def]
    """acos in float32 by the polynomial of `lanes` (Cephes); arguments beyond ±1 count as ±1."""
    size = tl.where(cosine < 0.0, -cosine, cosine)
    size = tl.where(size > 1.0, 1.0, size)
    far = size > 0.5
    square = tl.where(far, 0.5 * (1.0 - size), size * size)
    root = tl.where(far, tl.sqrt(square), size)
    y = 4.2163199048e-2 * square + 2.4181311049e-2
    y = y * square + 4.5470025998e-2
    y = y * square + 7.4953002686e-2
    y = y * square + 1.6666752422e-1
    arc = y * square * root + root
    acute = tl.where(far, 2.0 * arc, 1.57079632679 - arc)
    return tl.where(cosine < 0.0, 3.14159265359 - acute, acute)
