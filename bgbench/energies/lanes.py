"""Elementary functions that LLVM turns into SIMD code inside a loop over lanes (conformers).

In float32 polynomials (coefficients of the Cephes library, S. Moshier), good to 3e-7 relative; in float64
the C library. Numba picks by the argument's type.
"""

from typing import Any

import numpy as np
from numba import types
from numba.extending import overload

LANES = 16
"""Conformers side by side in the innermost loop: one cache line of float32."""

FAST = {"nsz"}
"""Only the sign of zero is free. Reordering, reciprocals and fused multiply-adds are chosen by how a function
was inlined, which differs between a fresh compilation and one read from the cache: bits would differ."""

_f = np.float32
_i = np.int32


def lane_exp(x: Any) -> Any:
    """exp(x)."""
    return np.exp(x)


def lane_log(x: Any) -> Any:
    """log(x) for x > 0."""
    return np.log(x)


def lane_angle(cosine: Any) -> Any:
    """acos for an argument already inside [−1, 1]."""
    return np.arccos(cosine)


def lane_turn(t: Any) -> tuple[Any, Any]:
    """cos and sin of 2πt for t in [−1/2, 1/2]."""
    return np.cos(2 * np.pi * t), np.sin(2 * np.pi * t)


@overload(lane_exp, inline="always")
def _exp(x):  # type: ignore[no-untyped-def]
    if x != types.float32:
        return lambda x: np.exp(x)

    def single(x):  # type: ignore[no-untyped-def]
        x = x if x > _f(-87.0) else _f(-87.0)
        x = x if x < _f(88.0) else _f(88.0)
        n = np.floor(x * _f(1.44269504088896341) + _f(0.5))
        r = x - n * _f(0.693359375)
        r = r - n * _f(-2.12194440e-4)
        y = _f(1.9875691500e-4)
        y = y * r + _f(1.3981999507e-3)
        y = y * r + _f(8.3334519073e-3)
        y = y * r + _f(4.1665795894e-2)
        y = y * r + _f(1.6666665459e-1)
        y = y * r + _f(5.0000001201e-1)
        y = y * r * r + r + _f(1.0)
        return y * _i((_i(n) + _i(127)) * _i(8388608)).view(np.float32)

    return single


@overload(lane_log, inline="always")
def _log(x):  # type: ignore[no-untyped-def]
    if x != types.float32:
        return lambda x: np.log(x)

    def single(x):  # type: ignore[no-untyped-def]
        bits = _f(x).view(np.int32)
        e = (bits - _i(0x3F3504F3)) >> _i(23)
        r = _i(bits - e * _i(8388608)).view(np.float32) - _f(1.0)
        z = r * r
        y = _f(7.0376836292e-2)
        y = y * r + _f(-1.1514610310e-1)
        y = y * r + _f(1.1676998740e-1)
        y = y * r + _f(-1.2420140846e-1)
        y = y * r + _f(1.4249322787e-1)
        y = y * r + _f(-1.6668057665e-1)
        y = y * r + _f(2.0000714765e-1)
        y = y * r + _f(-2.4999993993e-1)
        y = y * r + _f(3.3333331174e-1)
        n = _f(e)
        y = y * r * z + n * _f(-2.12194440e-4) - _f(0.5) * z
        return r + y + n * _f(0.693359375)

    return single


@overload(lane_angle, inline="always")
def _angle(cosine):  # type: ignore[no-untyped-def]
    if cosine != types.float32:
        return lambda cosine: np.arccos(cosine)

    def single(cosine):  # type: ignore[no-untyped-def]
        a = cosine if cosine > _f(0.0) else -cosine
        z = _f(0.5) * (_f(1.0) - a) if a > _f(0.5) else a * a
        s = np.sqrt(z) if a > _f(0.5) else a
        y = _f(4.2163199048e-2)
        y = y * z + _f(2.4181311049e-2)
        y = y * z + _f(4.5470025998e-2)
        y = y * z + _f(7.4953002686e-2)
        y = y * z + _f(1.6666752422e-1)
        arc = y * z * s + s
        acute = _f(2.0) * arc if a > _f(0.5) else _f(1.57079632679) - arc
        return acute if cosine > _f(0.0) else _f(3.14159265359) - acute

    return single


@overload(lane_turn, inline="always")
def _turn(t):  # type: ignore[no-untyped-def]
    if t != types.float32:
        return lambda t: (np.cos(2 * np.pi * t), np.sin(2 * np.pi * t))

    def single(t):  # type: ignore[no-untyped-def]
        h = t * _f(3.14159265359)
        z = h * h
        s = _f(-2.5052108e-8)
        s = s * z + _f(2.7557319e-6)
        s = s * z + _f(-1.9841270e-4)
        s = s * z + _f(8.3333333e-3)
        s = s * z + _f(-1.6666667e-1)
        s = h + h * z * s
        c = _f(2.0876757e-9)
        c = c * z + _f(-2.7557319e-7)
        c = c * z + _f(2.4801587e-5)
        c = c * z + _f(-1.3888889e-3)
        c = c * z + _f(4.1666667e-2)
        c = _f(1.0) - _f(0.5) * z + c * z * z
        return c * c - s * s, _f(2.0) * s * c

    return single
