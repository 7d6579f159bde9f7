"""The Triton kernels; their launchers are in triton.py.

Projections are transposed, with one slice per row of a tile, so that sums over samples are mostly
within a thread.
"""

import triton
import triton.language as tl

from .._triton import as_operand, kernel, multiply, product

ROUND = tl.constexpr(12582912.0)  # 1.5 · 2^23: adding it rounds to an integer


@triton.jit
def clamp(x, most):
    x = tl.minimum(x, most, propagate_nan=tl.PropagateNan.ALL)
    return tl.maximum(x, -most, propagate_nan=tl.PropagateNan.ALL)


@triton.jit
def flip_sign(x, bits):
    return (x.to(tl.int32, bitcast=True) ^ bits).to(tl.float32, bitcast=True)


@triton.jit
def cosine_and_sine(p, high, low, quarters, most):
    """Of the angles step · p, with the step in two floats and in quarter turns. The polynomials are
    minimax fits for an eighth of a turn, with errors 1e-8 and 7e-10."""
    p = clamp(p, most)
    shifted = tl.fma(p, quarters, ROUND)
    n = shifted - ROUND
    product = p * high
    rest = tl.fma(p, low, tl.fma(p, high, -product))
    x = tl.fma(n, -4.83826792e-4, tl.fma(n, -1.5703125, product))
    u = x * x
    s = tl.fma(tl.fma(u, -1.95875997e-4, 8.33274610e-3), u, -1.66666642e-1)
    s = x + tl.fma(x * u, s, rest)
    c = tl.fma(tl.fma(u, 2.45439387e-5, -1.38882722e-3), u, 4.16666642e-2)
    c = 1.0 + tl.fma(c * u, u, u * -0.5)
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
    """(BM, BN) to (BM, 4): sums of the columns that one thread of a tensor-core result holds."""
    return tl.sum(tl.sum(tl.reshape(x, (BM, BN // 8, 4, 2)), 3), 1)


@kernel
def sums_kernel(
    q_ptr, k_ptr, partial_ptr, n, m, groups, rows_per_split, high, low, quarters, most,
    q_stride, k_stride, k_view_stride: tl.int64,
    D: tl.constexpr, KNOTS: tl.constexpr, GROUP: tl.constexpr,
    BM: tl.constexpr, BN: tl.constexpr, BD: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Sums of cos and sin over a split of a set's samples k, for a block of directions q and a
    group of knots. sums: (splits, sets, 2, KNOTS, m)."""
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
        c_before, s_before = tl.full((BM, BN), 1.0, tl.float32), tl.zeros((BM, BN), tl.float32)
        c, s = cosine, sine
        if KNOTS > GROUP:  # noqa: SIM102  # known when it is compiled
            if group > 0:
                k = (group * GROUP).to(tl.float32)
                k_high, k_low = times(high, low, k)
                c_before, s_before = cosine_and_sine(p, k_high, k_low, quarters * k, most / k)
                c = tl.fma(c_before, cosine, -(s_before * sine))
                s = tl.fma(s_before, cosine, c_before * sine)
        chord = sine + sine
        against = -chord
        new_cosines = ()
        new_sines = ()
        for i in tl.static_range(GROUP):
            new_cosines = new_cosines + (cosines[i] + sum_in_threads(c, BM, BN),)
            new_sines = new_sines + (sines[i] + sum_in_threads(s, BM, BN),)
            # the next cosine and sine, from the last two
            c, s, c_before, s_before = (
                tl.fma(against, s, c_before), tl.fma(chord, c, s_before), c, s,
            )  # fmt: skip
        cosines = new_cosines
        sines = new_sines
    beyond = (tl.cdiv(end - start, BN) * BN - (end - start)).to(tl.float32)  # padding: cos is 1
    rows = row + tl.arange(0, BM)
    at = (split * tl.num_programs(2) // groups + view).to(tl.int64) * 2 * KNOTS
    for i in tl.static_range(GROUP):
        knot = group * GROUP + i
        inside = rows < tl.where(knot < KNOTS, m, 0)
        out_ptr = partial_ptr + (at + knot) * m + rows
        tl.store(out_ptr, tl.sum(cosines[i], 1) - beyond, mask=inside)
        tl.store(out_ptr + KNOTS * m, tl.sum(sines[i], 1), mask=inside)


@triton.jit
def _sum_of_splits(partial_ptr, row, columns, m, rows, splits):
    sum = tl.zeros_like(columns).to(tl.float32)
    for split in range(splits):
        at = (split * rows + row).to(tl.int64) * m + columns
        sum += tl.load(partial_ptr + at, mask=columns < m, other=0.0)
    return sum


@kernel
def statistics_kernel(
    partial_ptr, count_ptr, statistics_ptr, coefficients_ptr, m, width, sets, splits, samples,
    spacing,
    WEIGHTS: tl.constexpr, COUNTED: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Statistics of a set and a block of directions, from sums (splits, sets, 2, KNOTS, m).

    coefficients: (sets, KNOTS, width, 2), of sin and of cos, 0 from m on.
    """
    KNOTS: tl.constexpr = len(WEIGHTS)
    columns = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    view = tl.program_id(1)
    inside = columns < m
    if COUNTED:
        samples = tl.load(count_ptr)
    factor = 1.0 / samples
    total = tl.zeros((BLOCK,), tl.float32)
    for k in tl.static_range(KNOTS):
        t = spacing * (k + 1)
        cosine = _sum_of_splits(
            partial_ptr, view * 2 * KNOTS + k, columns, m, sets * 2 * KNOTS, splits
        )
        sine = _sum_of_splits(
            partial_ptr, view * 2 * KNOTS + KNOTS + k, columns, m, sets * 2 * KNOTS, splits
        )
        sine = sine * factor
        cosine = cosine * factor - tl.exp2(t * t * -0.72134752)
        total += WEIGHTS[k] * (cosine * cosine + sine * sine)
        both = tl.where(inside[:, None], tl.join(sine, cosine), 0.0) * (2 * WEIGHTS[k] * t)
        at = (view * KNOTS + k).to(tl.int64) * 2 * width + 2 * columns[:, None]
        at += tl.arange(0, 2)[None, :]
        tl.store(coefficients_ptr + at, both, mask=(columns < width)[:, None])
    tl.store(statistics_ptr + view * m + columns, total * samples, mask=inside)


@triton.jit
def unit_of(gradients_ptr, stride, m, BLOCK: tl.constexpr):
    """The power of two nearest to the largest of m gradients: divided by it, all fit float16."""
    largest = tl.zeros((BLOCK,), tl.float32)
    for start in range(0, m, BLOCK):
        columns = start + tl.arange(0, BLOCK)
        gradients = tl.load(gradients_ptr + columns * stride, mask=columns < m, other=0.0)
        largest = tl.maximum(largest, tl.abs(gradients))
    exponent = tl.max(largest, 0).to(tl.int32, bitcast=True) & 0x7F800000
    exponent = tl.minimum(tl.maximum(exponent, 0x00800000), 0x7E800000)
    return exponent.to(tl.float32, bitcast=True)


@triton.jit
def slopes(
    p, own_ptr, knot_stride, columns, high, low, quarters, most,
    KNOTS: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr,
):  # fmt: skip
    """The derivative for a tile of projections: the real part of a polynomial in cos + i sin."""
    cosine, sine = cosine_and_sine(p, high, low, quarters, most)
    against = -sine
    real = tl.zeros((BM, BN), tl.float32)
    imaginary = tl.zeros((BM, BN), tl.float32)
    for i in tl.static_range(KNOTS):  # from the highest power down
        at = (KNOTS - 1 - i) * knot_stride + 2 * columns[:, None] + tl.arange(0, 2)[None, :]
        a, b = tl.split(tl.load(own_ptr + at))
        a, b = a[None, :], b[None, :]
        if i == 0:
            real += a
            imaginary += b
        else:
            real, imaginary = (
                tl.fma(real, cosine, tl.fma(imaginary, against, a)),
                tl.fma(real, sine, tl.fma(imaginary, cosine, b)),
            )
    return tl.fma(real, cosine, imaginary * against)


@kernel
def gradient_kernel(
    q_ptr, k_ptr, coefficients_ptr, gradients_ptr, out_ptr, n, m, high, low, quarters, most,
    q_stride, k_stride, knot_stride, q_view_stride: tl.int64, gradients_view_stride: tl.int64,
    gradients_column_stride: tl.int64,
    D: tl.constexpr, WIDTH: tl.constexpr, KNOTS: tl.constexpr,
    BM: tl.constexpr, BN: tl.constexpr, BD: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """The gradient of a block of a set's samples q, over all directions k, BN at a time.

    coefficients: (sets, KNOTS, knot_stride / 2, 2); out: (sets, n, WIDTH).
    """
    row, view = tl.program_id(0) * BM, tl.program_id(1)
    own_gradients_ptr = gradients_ptr + view * gradients_view_stride
    unit = unit_of(own_gradients_ptr, gradients_column_stride, m, 1024)
    inverse = 1.0 / unit
    q_view_ptr = q_ptr + view * q_view_stride
    q_rows = tl.make_tensor_descriptor(q_view_ptr, [n, D], [q_stride, 1], [BM, BD])
    k_rows = tl.make_tensor_descriptor(k_ptr, [m, D], [k_stride, 1], [BN, BD])
    q = q_rows.load([row, 0])
    own_ptr = coefficients_ptr + view.to(tl.int64) * KNOTS * knot_stride
    acc = tl.zeros((BM, BD), tl.float32)
    for column in range(0, m, BN):
        k = k_rows.load([column, 0])
        p = tl.dot(q, tl.trans(k), input_precision=PRECISION)
        columns = column + tl.arange(0, BN)
        weights = slopes(p, own_ptr, knot_stride, columns, high, low, quarters, most, KNOTS, BM, BN)
        at = own_gradients_ptr + columns * gradients_column_stride
        weights *= (tl.load(at, mask=columns < m, other=0.0) * inverse)[None, :]
        weights = as_operand(weights, k.dtype, PRECISION)
        acc = tl.dot(weights, k, acc, input_precision=PRECISION)
    rows, features = row + tl.arange(0, BM), tl.arange(0, BD)
    at = (view.to(tl.int64) * n + rows)[:, None] * WIDTH + features[None, :]
    inside = (rows < n)[:, None] & (features < WIDTH)[None, :]
    tl.store(out_ptr + at, (acc * unit).to(out_ptr.dtype.element_ty), mask=inside)


@kernel
def weights_kernel(
    q_ptr, k_ptr, coefficients_ptr, gradients_ptr, out_ptr, units_ptr, n, m,
    high, low, quarters, most, q_stride, k_stride, knot_stride, q_view_stride: tl.int64,
    gradients_view_stride: tl.int64, gradients_column_stride: tl.int64,
    D: tl.constexpr, KNOTS: tl.constexpr,
    BM: tl.constexpr, BN: tl.constexpr, BD: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """The derivatives for a tile of samples q and directions k, before the product with these.

    out: weights of directions, (sets, n, m), in units (sets).
    """
    row, column, view = tl.program_id(0) * BM, tl.program_id(1) * BN, tl.program_id(2)
    own_gradients_ptr = gradients_ptr + view * gradients_view_stride
    unit = unit_of(own_gradients_ptr, gradients_column_stride, m, 1024)
    tl.store(units_ptr + view, unit)
    q_view_ptr = q_ptr + view * q_view_stride
    q_rows = tl.make_tensor_descriptor(q_view_ptr, [n, D], [q_stride, 1], [BM, BD])
    k_rows = tl.make_tensor_descriptor(k_ptr, [m, D], [k_stride, 1], [BN, BD])
    p = product(q_rows, k_rows, row, column, D, BM, BN, BD, PRECISION)
    rows, columns = row + tl.arange(0, BM), column + tl.arange(0, BN)
    own_ptr = coefficients_ptr + view.to(tl.int64) * KNOTS * knot_stride
    weights = slopes(p, own_ptr, knot_stride, columns, high, low, quarters, most, KNOTS, BM, BN)
    inside = columns < m
    at = own_gradients_ptr + columns * gradients_column_stride
    weights *= (tl.load(at, mask=inside, other=0.0) * (1.0 / unit))[None, :]
    at = (view.to(tl.int64) * n + rows)[:, None] * m + columns[None, :]
    mask = (rows < n)[:, None] & inside[None, :]
    tl.store(out_ptr + at, weights.to(out_ptr.dtype.element_ty), mask=mask)
