"""The Triton kernel; its launcher is in triton.py."""

import triton
import triton.language as tl

from .._triton import kernel


@triton.jit
def _sincos_of_turns(t):
    """Sine and cosine of |t| <= 1/2 turns: a multiple of a quarter, and polynomials in the rest."""
    nearest = tl.floor(t * 4.0 + 0.5)
    quarter = nearest.to(tl.int32)
    f = t - nearest * 0.25
    g = f * f
    s = f * (((g * -75.3935628 + 81.5923538) * g - 41.3416615) * g + 6.28318529)
    c = g * (((g * 59.2292435 - 85.4432363) * g + 64.9393219) * g - 19.7392087) + 1.0
    is_odd = (quarter & 1) != 0
    sine = tl.where(is_odd, c, s)
    cosine = tl.where(is_odd, s, c)
    sine = tl.where((quarter & 2) != 0, -sine, sine)
    cosine = tl.where(((quarter + 1) & 2) != 0, -cosine, cosine)
    return sine, cosine


@triton.jit
def _normal(radius, angle):
    """Two normal numbers from two words, as odd multiples of 2^-24: never 0."""
    unit: tl.constexpr = 2.0**-24
    u = ((radius >> 8) | 1).to(tl.int32).to(tl.float32) * unit
    t = ((angle.to(tl.int32, bitcast=True) >> 8) | 1).to(tl.float32) * unit
    r = tl.sqrt_rn(-2.0 * tl.log(u))
    sine, cosine = _sincos_of_turns(t)
    return r * cosine, r * sine


@triton.jit
def _numbers(seed, step, rows, columns):
    """The numbers of some blocks of some rows, in four tiles (rows, columns)."""
    zero = tl.zeros((rows.shape[0], columns.shape[0]), tl.int32)
    low = (step & 0xFFFFFFFF).to(tl.uint32).to(tl.int32, bitcast=True)
    high = (step >> 32).to(tl.int32)
    w0, w1, w2, w3 = tl.philox(
        seed, zero + columns[None, :], zero + rows[:, None], zero + low, zero + high
    )
    a, b = _normal(w0, w1)
    c, d = _normal(w2, w3)
    return a, b, c, d


@triton.jit
def _square(x, columns, quarter, count):
    return tl.where((columns < tl.minimum(quarter, count))[None, :], x * x, 0.0)


@triton.jit
def _store(at, x, inside, columns, quarter, count):
    tl.store(at, x, mask=inside & (columns < tl.minimum(quarter, count))[None, :])


@kernel(widths=("features",))
def directions_kernel(
    step_ptr, out_ptr, slices, features, seed: tl.int64,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """ROWS directions, generated twice: first for their lengths, then to be stored."""
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    step = tl.load(step_ptr)
    quarter = (features + 3) // 4
    half = 2 * quarter
    squares = tl.zeros((ROWS, COLUMNS), tl.float32)
    for first in range(0, quarter, COLUMNS):
        columns = first + tl.arange(0, COLUMNS)
        a, b, c, d = _numbers(seed, step, rows, columns)
        squares += _square(a, columns, quarter, features)
        squares += _square(b, columns, quarter, features - quarter)
        squares += _square(c, columns, quarter, features - half)
        squares += _square(d, columns, quarter, features - half - quarter)
    inverse = tl.div_rn(1.0, tl.sqrt_rn(tl.sum(squares, 1)))[:, None]
    inside = (rows < slices)[:, None]
    out = out_ptr + rows.to(tl.int64)[:, None] * features
    for first in range(0, quarter, COLUMNS):
        columns = first + tl.arange(0, COLUMNS)
        a, b, c, d = _numbers(seed, step, rows, columns)
        at = out + columns[None, :]
        _store(at, a * inverse, inside, columns, quarter, features)
        at += quarter
        _store(at, b * inverse, inside, columns, quarter, features - quarter)
        at += quarter
        _store(at, c * inverse, inside, columns, quarter, features - half)
        at += quarter
        _store(at, d * inverse, inside, columns, quarter, features - half - quarter)
