"""The Triton kernels; their launchers are in triton.py.

Projections are made transposed, a slice to a row of a tile: sums over samples are then sums within
a thread, or nearly so.
"""

import triton
import triton.language as tl

from .._triton import kernel, multiply

ROUND = tl.constexpr(12582912.0)  # 1.5 · 2^23: what is added to it is rounded to an integer


@triton.jit
def clamp(x, most):
    x = tl.minimum(x, most, propagate_nan=tl.PropagateNan.ALL)
    return tl.maximum(x, -most, propagate_nan=tl.PropagateNan.ALL)


@triton.jit
def flip_sign(x, bits):
    return (x.to(tl.int32, bitcast=True) ^ bits).to(tl.float32, bitcast=True)


@triton.jit
def cosine_and_sine(p, high, low, quarters, most):
    """Of the angles step · p: the step in two floats, and in quarters of a turn. The polynomials
    are least-maximum fits for an eighth of a turn, errors 1e-8 and 7e-10."""
    p = clamp(p, most)
    shifted = tl.fma(p, quarters, ROUND)
    n = shifted - ROUND
    x = tl.fma(p, high, n * -1.5703125)
    x = tl.fma(p, low, tl.fma(n, -4.83826792e-4, x))
    u = x * x
    s = tl.fma(tl.fma(u, -1.95875997e-4, 8.33274610e-3), u, -1.66666642e-1)
    s = tl.fma(x * u, s, x)
    c = tl.fma(tl.fma(u, 2.45439387e-5, -1.38882722e-3), u, 4.16666642e-2)
    c = tl.fma(c * u, u, tl.fma(u, -0.5, 1.0))
    quadrant = shifted.to(tl.int32, bitcast=True)
    swapped = (quadrant & 1) != 0
    cosine = flip_sign(tl.where(swapped, s, c), ((quadrant + 1) & 2) << 30)
    return cosine, flip_sign(tl.where(swapped, c, s), (quadrant & 2) << 30)


@triton.jit
def times(high, low, factor):
    """A number in two floats times an integer, in two floats."""
    product = high * factor
    return product, tl.fma(high, factor, -product) + low * factor


@triton.jit
def sum_in_threads(x, BM: tl.constexpr, BN: tl.constexpr):
    """(BM, BN) to (BM, 4): the columns that one thread of tensor cores' results holds."""
    return tl.sum(tl.sum(tl.reshape(x, (BM, BN // 8, 4, 2)), 3), 1)


@kernel
def sums_kernel(
    q_ptr, k_ptr, sums_ptr, n, m, groups, rows_per_split, high, low, quarters, most,
    q_stride, k_stride, k_view_stride: tl.int64,
    D: tl.constexpr, KNOTS: tl.constexpr, GROUP: tl.constexpr,
    BM: tl.constexpr, BN: tl.constexpr, BD: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Over a split of a set's samples k: sums of cos and sin for a block of directions q and a group
    of knots. sums: (splits, sets, 2, KNOTS, m)."""
    row, split = tl.program_id(0) * BM, tl.program_id(1)
    view, group = tl.program_id(2) // groups, tl.program_id(2) % groups
    start = split * rows_per_split
    end = tl.minimum(start + rows_per_split, n)
    q_rows = tl.make_tensor_descriptor(q_ptr, [m, D], [q_stride, 1], [BM, BD])
    k_view_ptr = k_ptr + view * k_view_stride
    k_rows = tl.make_tensor_descriptor(k_view_ptr, [n, D], [k_stride, 1], [BN, BD])
    q = q_rows.load([row, 0])
    cosines = (tl.zeros((BM, 4), tl.float32),) * GROUP
    sines = (tl.zeros((BM, 4), tl.float32),) * GROUP
    for column in range(start, end, BN):
        p = multiply(q, q_rows, k_rows, row, column, D, BM, BN, BD, PRECISION)
        cosine, sine = cosine_and_sine(p, high, low, quarters, most)
        c, s = cosine, sine
        if KNOTS > GROUP:
            if group > 0:
                first = (group * GROUP + 1).to(tl.float32)
                first_high, first_low = times(high, low, first)
                c, s = cosine_and_sine(p, first_high, first_low, quarters * first, most / first)
        new_cosines = ()
        new_sines = ()
        for i in tl.static_range(GROUP):
            new_cosines = new_cosines + (cosines[i] + sum_in_threads(c, BM, BN),)
            new_sines = new_sines + (sines[i] + sum_in_threads(s, BM, BN),)
            if i + 1 < GROUP:
                c, s = tl.fma(c, cosine, -(s * sine)), tl.fma(s, cosine, c * sine)
        cosines = new_cosines
        sines = new_sines
    beyond = (tl.cdiv(end - start, BN) * BN - (end - start)).to(tl.float32)  # rows of 0: cos is 1
    rows = row + tl.arange(0, BM)
    at = (split * tl.num_programs(2) // groups + view).to(tl.int64) * 2 * KNOTS
    for i in tl.static_range(GROUP):
        knot = group * GROUP + i
        inside = (rows < m) & (knot < KNOTS)
        out_ptr = sums_ptr + (at + knot) * m + rows
        tl.store(out_ptr, tl.sum(cosines[i], 1) - beyond, mask=inside)
        tl.store(out_ptr + KNOTS * m, tl.sum(sines[i], 1), mask=inside)


@kernel
def statistics_kernel(
    sums_ptr, count_ptr, statistics_ptr, coefficients_ptr, m, sets, splits, count, step,
    WEIGHTS: tl.constexpr, SCALED: tl.constexpr, COUNTED: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Of a set and a block of directions; what C++'s sliced_statistics does."""
    KNOTS: tl.constexpr = len(WEIGHTS)
    columns = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    view = tl.program_id(1)
    inside = columns < m
    if COUNTED:
        count = tl.load(count_ptr)
    factor = 1.0 / count
    total = tl.zeros((BLOCK,), tl.float32)
    for k in tl.static_range(KNOTS):
        t = step * (k + 1)
        target = tl.exp2(t * t * -0.72134752)
        for part in tl.static_range(2):
            place = ((view * 2 + part) * KNOTS + k).to(tl.int64) * m + columns
            sum = tl.zeros((BLOCK,), tl.float32)
            for split in range(splits):
                own = split.to(tl.int64) * sets * 2 * KNOTS * m
                sum += tl.load(sums_ptr + own + place, mask=inside, other=0.0)
            error = sum * factor
            if part == 0:
                error -= target
            total += WEIGHTS[k] * error * error
            weight = 2 * WEIGHTS[k] * t
            if not SCALED:
                weight *= factor
            tl.store(coefficients_ptr + place, weight * error, mask=inside)
    if SCALED:
        total *= count
    tl.store(statistics_ptr + view * m + columns, total, mask=inside)


@kernel
def gradient_kernel(
    q_ptr, k_ptr, coefficients_ptr, gradients_ptr, out_ptr, n, m, high, low, quarters, most,
    q_stride, k_stride, k_view_stride: tl.int64, gradients_view_stride: tl.int64,
    gradients_column_stride: tl.int64,
    D: tl.constexpr, WIDTH: tl.constexpr, KNOTS: tl.constexpr,
    BM: tl.constexpr, BN: tl.constexpr, BD: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """The gradient of a block of a set's samples q, from all directions k, BN at a time.

    coefficients: (sets, 2, KNOTS, m); out: (sets, n, WIDTH)."""
    row, view = tl.program_id(0) * BM, tl.program_id(1)
    q_view_ptr = q_ptr + view * k_view_stride
    q_rows = tl.make_tensor_descriptor(q_view_ptr, [n, D], [q_stride, 1], [BM, BD])
    k_rows = tl.make_tensor_descriptor(k_ptr, [m, D], [k_stride, 1], [BN, BD])
    q = q_rows.load([row, 0])
    of_cosine_ptr = coefficients_ptr + view.to(tl.int64) * 2 * KNOTS * m
    of_sine_ptr = of_cosine_ptr + KNOTS * m
    acc = tl.zeros((BM, BD), tl.float32)
    for column in range(0, m, BN):
        k = k_rows.load([column, 0])
        p = tl.dot(q, tl.trans(k), input_precision=PRECISION)
        cosine, sine = cosine_and_sine(p, high, low, quarters, most)
        columns = column + tl.arange(0, BN)
        inside = columns < m
        real = tl.zeros((BM, BN), tl.float32)
        imaginary = tl.zeros((BM, BN), tl.float32)
        for i in tl.static_range(KNOTS):
            at = (KNOTS - 1 - i) * m + columns
            a = tl.load(of_sine_ptr + at, mask=inside, other=0.0)[None, :]
            b = tl.load(of_cosine_ptr + at, mask=inside, other=0.0)[None, :]
            if i == 0:
                real += a
                imaginary += b
            else:
                real, imaginary = (
                    tl.fma(real, cosine, tl.fma(-imaginary, sine, a)),
                    tl.fma(real, sine, tl.fma(imaginary, cosine, b)),
                )
        weights = tl.fma(real, cosine, -(imaginary * sine))
        at = view * gradients_view_stride + columns * gradients_column_stride
        weights *= tl.load(gradients_ptr + at, mask=inside, other=0.0)[None, :]
        acc = tl.dot(weights.to(k.dtype), k, acc, input_precision=PRECISION)
    rows, features = row + tl.arange(0, BM), tl.arange(0, BD)
    at = (view.to(tl.int64) * n + rows)[:, None] * WIDTH + features[None, :]
    tl.store(out_ptr + at, acc, mask=(rows < n)[:, None] & (features < WIDTH)[None, :])
