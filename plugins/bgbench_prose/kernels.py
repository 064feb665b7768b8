"""What lies between the matrix products of one token, compiled by numba: samples are the lanes.

Every array is float32 and has the samples last: `(channels, samples)`. All loops over samples are then SIMD
loops, sums over channels stay in order, and the products take and give the arrays as they lie.
"""

import numpy as np
from numba import njit

from bgbench.data import compiled
from bgbench_prose.prefetch import prefetch

jit = compiled(fastmath={"nsz", "contract"}, error_model="numpy", nogil=True)
inlined = njit(fastmath={"nsz", "contract"}, error_model="numpy", inline="always")

_f, _i = np.float32, np.int32
_ZERO, _HALF, _ONE = _f(0.0), _f(0.5), _f(1.0)
EPSILON = _f(1e-5)
"""Of torch's layer norm."""
AHEAD, LINE = 1024, 16
"""How far ahead keys and values are fetched, and what one fetch brings, in float32."""


@inlined
def _exp(x):  # type: ignore[no-untyped-def]
    """exp(x), 3e-7 relative: the Cephes polynomial (S. Moshier), which LLVM turns into SIMD code."""
    x = x if x > _f(-87.0) else _f(-87.0)
    x = x if x < _f(88.0) else _f(88.0)
    n = np.floor(x * _f(1.44269504088896341) + _HALF)
    r = x - n * _f(0.693359375)
    r = r - n * _f(-2.12194440e-4)
    y = _f(1.9875691500e-4)
    y = y * r + _f(1.3981999507e-3)
    y = y * r + _f(8.3334519073e-3)
    y = y * r + _f(4.1665795894e-2)
    y = y * r + _f(1.6666665459e-1)
    y = y * r + _f(5.0000001201e-1)
    y = y * r * r + r + _ONE
    return y * _i((_i(n) + _i(127)) * _i(8388608)).view(np.float32)


@inlined
def _erf_tail(x):  # type: ignore[no-untyped-def]
    """1 − erf(x) for x ≥ 0, 1.5e-7 absolute: Abramowitz and Stegun 7.1.26."""
    t = _ONE / (_ONE + _f(0.3275911) * x)
    y = _f(1.061405429) * t + _f(-1.453152027)
    y = y * t + _f(1.421413741)
    y = y * t + _f(-0.284496736)
    y = y * t + _f(0.254829592)
    return y * t * _exp(-x * x)


@jit
def _moments(x, statistics):  # type: ignore[no-untyped-def]
    """Mean and 1/√(variance + ε) of every column of x into `statistics (2, samples)`."""
    n, width = x.shape
    mean, spread = statistics[0], statistics[1]
    for b in range(width):
        mean[b] = _ZERO
        spread[b] = _ZERO
    for c in range(n):
        row = x[c]
        for b in range(width):
            mean[b] += row[b]
    for b in range(width):
        mean[b] /= _f(n)
    for c in range(n):
        row = x[c]
        for b in range(width):
            d = row[b] - mean[b]
            spread[b] += d * d
    for b in range(width):
        spread[b] = _ONE / np.sqrt(spread[b] / _f(n) + EPSILON)


@jit
def norm(x, scale, shift, out):  # type: ignore[no-untyped-def]
    """Layer norm of the columns of x into `out`, which may be x; `scale` and `shift (channels,)`."""
    n, width = x.shape
    statistics = np.empty((2, width), np.float32)
    _moments(x, statistics)
    mean, spread = statistics[0], statistics[1]
    for c in range(n):
        row, into, g, s = x[c], out[c], scale[c], shift[c]
        for b in range(width):
            into[b] = (row[b] - mean[b]) * spread[b] * g + s


@jit
def add(x, y, bias, gate):  # type: ignore[no-untyped-def]
    """x ← x + gate · (y + bias)."""
    n, width = x.shape
    for c in range(n):
        into, row, e, g = x[c], y[c], bias[c], gate[c]
        for b in range(width):
            into[b] += g * (row[b] + e)


@jit
def gelu(x, bias):  # type: ignore[no-untyped-def]
    """x ← GELU(x + bias), the exact one."""
    n, width = x.shape
    for c in range(n):
        row, e = x[c], bias[c]
        for b in range(width):
            v = row[b] + e
            tail = _erf_tail(abs(v) * _f(0.70710678118654752))
            row[b] = v * (_ONE - _HALF * tail if v > _ZERO else _HALF * tail)


@jit
def swish(x):  # type: ignore[no-untyped-def]
    """First half of x ← first half · SiLU(second half)."""
    n, width = x.shape[0] // 2, x.shape[1]
    for c in range(n):
        first, second = x[c], x[n + c]
        for b in range(width):
            v = second[b]
            first[b] *= v / (_ONE + _exp(-v))


@jit
def remember(qkv, bias, norms, cache, i):  # type: ignore[no-untyped-def]
    """Biases onto qkv, norms onto queries and keys; key and value of token i into the cache.

    `cache (2, tokens, C, samples)`; `norms (4, C)`: scale and shift of the queries', then of the keys'.
    """
    n, width = qkv.shape[0] // 3, qkv.shape[1]
    for c in range(2 * n):
        row, e = qkv[c], bias[c]
        for b in range(width):
            row[b] += e
    for c in range(n):
        row, into, e = qkv[2 * n + c], cache[1, i, c], bias[2 * n + c]
        for b in range(width):
            into[b] = row[b] + e
    norm(qkv[:n], norms[0], norms[1], qkv[:n])
    norm(qkv[n : 2 * n], norms[2], norms[3], cache[0, i])


@jit
def attend(q, cache, scores, out):  # type: ignore[no-untyped-def]
    """softmax(q·k/√d) over the first tokens of the cache, and the sum of values: `out (C, samples)`.

    `scores (heads, tokens, samples)` is work space, and as long as there are tokens to look at.
    """
    heads, tokens, width = scores.shape
    wide = q.shape[0] // heads
    for j in range(tokens):
        for h in range(heads):
            _score(q[h * wide : (h + 1) * wide], cache[0, j, h * wide : (h + 1) * wide], scores[h, j])
    for h in range(heads):
        _softmax(scores[h], _ONE / np.sqrt(_f(wide)))
    for c in range(q.shape[0]):
        for b in range(width):
            out[c, b] = _ZERO
    for j in range(tokens):
        start = cache[1, j].ctypes.data
        for c in range(q.shape[0]):
            for b in range(0, width, LINE):
                prefetch(start + 4 * (c * width + b + AHEAD))
            share, value, into = scores[c // wide, j], cache[1, j, c], out[c]
            for b in range(width):
                into[b] += share[b] * value[b]


@jit
def _score(q, k, score):  # type: ignore[no-untyped-def]
    """Σ q k over the channels of one head, two at a time: `score (samples,)`."""
    width, start = score.shape[0], k.ctypes.data
    for b in range(width):
        score[b] = _ZERO
    for c in range(0, q.shape[0] - 1, 2):
        for b in range(0, 2 * width, LINE):
            prefetch(start + 4 * (c * width + b + AHEAD))
        q0, q1, k0, k1 = q[c], q[c + 1], k[c], k[c + 1]
        for b in range(width):
            score[b] += q0[b] * k0[b] + q1[b] * k1[b]
    if q.shape[0] % 2:
        q0, k0 = q[q.shape[0] - 1], k[q.shape[0] - 1]
        for b in range(width):
            score[b] += q0[b] * k0[b]


@jit
def _softmax(scores, scale):  # type: ignore[no-untyped-def]
    """Softmax of `scale · scores (tokens, samples)` over tokens, in place."""
    tokens, width = scores.shape
    most = np.full(width, -np.inf, np.float32)
    total = np.zeros(width, np.float32)
    for j in range(tokens):
        row = scores[j]
        for b in range(width):
            most[b] = max(most[b], row[b])
    for j in range(tokens):
        row = scores[j]
        for b in range(width):
            row[b] = _exp((row[b] - most[b]) * scale)
            total[b] += row[b]
    for j in range(tokens):
        row = scores[j]
        for b in range(width):
            row[b] /= total[b]
