"""The Triton kernels; their launchers are in triton.py.

A matrix of columns is its pointer, the pointers of mean, rest and scale (not read if ``RAW``), and
its strides. Sums over rows are float32 within a tile and float64 across tiles: (splits, d).
"""

import triton
import triton.language as tl

from .._triton import kernel, triangle


@triton.jit
def _load(
    x_ptr, mean_ptr, rest_ptr, scale_ptr, row_stride, column_stride, rows, columns, n, d,
    RAW: tl.constexpr,
):  # fmt: skip
    """A tile of standardised values in float32, zero outside: (rows, columns)."""
    inside = (rows < n)[:, None] & (columns < d)[None, :]
    at = rows.to(tl.int64)[:, None] * row_stride + columns.to(tl.int64)[None, :] * column_stride
    x = tl.load(x_ptr + at, mask=inside, other=0.0).to(tl.float32)
    if not RAW:
        mean = tl.load(mean_ptr + columns, mask=columns < d, other=0.0)
        rest = tl.load(rest_ptr + columns, mask=columns < d, other=0.0)
        scale = tl.load(scale_ptr + columns, mask=columns < d, other=0.0)
        x = tl.where(inside, (x - mean[None, :] - rest[None, :]) * scale[None, :], 0.0)
    return x


@triton.jit
def _place(rows, columns, n, d):
    """Offsets of a tile in a contiguous matrix, and the mask of its inside."""
    at = rows.to(tl.int64)[:, None] * d + columns[None, :]
    return at, (rows < n)[:, None] & (columns < d)[None, :]


@kernel(widths=("d",))
def deviations_kernel(
    x_ptr, center_ptr, row_stride, column_stride, sums_ptr, n, d, rows_per_split,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """Sums of x - center and of its squares for a block of columns over a split of the rows."""
    columns = tl.program_id(0) * COLUMNS + tl.arange(0, COLUMNS)
    split = tl.program_id(1)
    start = split * rows_per_split
    center = tl.load(center_ptr + columns, mask=columns < d, other=0.0)
    total = tl.zeros((COLUMNS,), tl.float64)
    squares = tl.zeros((COLUMNS,), tl.float64)
    for row in range(start, tl.minimum(start + rows_per_split, n), ROWS):
        rows = row + tl.arange(0, ROWS)
        x = _load(
            x_ptr, x_ptr, x_ptr, x_ptr, row_stride, column_stride, rows, columns, n, d, RAW=True
        )
        x = tl.where((rows < n)[:, None], x - center[None, :], 0.0)
        total += tl.sum(x, 0).to(tl.float64)
        squares += tl.sum(x * x, 0).to(tl.float64)
    at = split.to(tl.int64) * d + columns
    tl.store(sums_ptr + at, total, mask=columns < d)
    tl.store(sums_ptr + tl.num_programs(1).to(tl.int64) * d + at, squares, mask=columns < d)


@kernel(widths=("d",))
def dot_kernel(
    a_ptr, a_mean_ptr, a_rest_ptr, a_scale_ptr, a_row_stride, a_column_stride,
    b_ptr, b_mean_ptr, b_rest_ptr, b_scale_ptr, b_row_stride, b_column_stride,
    sums_ptr, n, d, rows_per_split,
    RAW: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """Dot products of a block of columns of â with those of b̂, over a split of the rows."""
    columns = tl.program_id(0) * COLUMNS + tl.arange(0, COLUMNS)
    split = tl.program_id(1)
    start = split * rows_per_split
    total = tl.zeros((COLUMNS,), tl.float64)
    for row in range(start, tl.minimum(start + rows_per_split, n), ROWS):
        rows = row + tl.arange(0, ROWS)
        a = _load(
            a_ptr, a_mean_ptr, a_rest_ptr, a_scale_ptr, a_row_stride, a_column_stride,
            rows, columns, n, d, RAW,
        )  # fmt: skip
        b = _load(
            b_ptr, b_mean_ptr, b_rest_ptr, b_scale_ptr, b_row_stride, b_column_stride,
            rows, columns, n, d, RAW,
        )  # fmt: skip
        total += tl.sum(a * b, 0).to(tl.float64)
    tl.store(sums_ptr + split.to(tl.int64) * d + columns, total, mask=columns < d)


@kernel(widths=("d",))
def standardize_kernel(
    x_ptr, mean_ptr, rest_ptr, scale_ptr, row_stride, column_stride, values_ptr, n, d,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """A tile of the standardised columns, rounded once to the dtype of ``values``."""
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    columns = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    x = _load(
        x_ptr, mean_ptr, rest_ptr, scale_ptr, row_stride, column_stride, rows, columns, n, d,
        RAW=False,
    )  # fmt: skip
    at, inside = _place(rows, columns, n, d)
    tl.store(values_ptr + at, x.to(values_ptr.dtype.element_ty), mask=inside)


@kernel(widths=("d",))
def restore_kernel(
    product_ptr, unit_ptr, diagonal_ptr,
    x_ptr, mean_ptr, rest_ptr, scale_ptr, row_stride, column_stride, n, d,
    RAW: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """product / unit + diagonal · x̂, in place: restores what lower-precision weights omit."""
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    columns = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    x = _load(
        x_ptr, mean_ptr, rest_ptr, scale_ptr, row_stride, column_stride, rows, columns, n, d, RAW
    )
    at, inside = _place(rows, columns, n, d)
    product = tl.load(product_ptr + at, mask=inside, other=0.0)
    diagonal = tl.load(diagonal_ptr + rows, mask=rows < n, other=0.0)
    restored = product / tl.load(unit_ptr) + diagonal[:, None] * x
    tl.store(product_ptr + at, restored, mask=inside)


@kernel(widths=("d",))
def gradient_kernel(
    product_ptr, own_ptr, own_mean_ptr, own_rest_ptr, own_scale_ptr,
    own_row_stride, own_column_stride,
    other_ptr, other_mean_ptr, other_rest_ptr, other_scale_ptr,
    other_row_stride, other_column_stride,
    weight_ptr, factor_ptr, out_ptr, sums_ptr, n, d, rows_per_split,
    RAW: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """out = factor · product + weight · other, the gradient of own's standardised columns.

    Unless columns are raw, sums of out and of out · own go to sums, (2, splits, d).
    """
    columns = tl.program_id(0) * COLUMNS + tl.arange(0, COLUMNS)
    split = tl.program_id(1)
    start = split * rows_per_split
    factor = tl.load(factor_ptr)
    weight = tl.load(weight_ptr + columns, mask=columns < d, other=0.0)
    total = tl.zeros((COLUMNS,), tl.float64)
    along = tl.zeros((COLUMNS,), tl.float64)
    for row in range(start, tl.minimum(start + rows_per_split, n), ROWS):
        rows = row + tl.arange(0, ROWS)
        other = _load(
            other_ptr, other_mean_ptr, other_rest_ptr, other_scale_ptr, other_row_stride,
            other_column_stride, rows, columns, n, d, RAW,
        )  # fmt: skip
        at, inside = _place(rows, columns, n, d)
        product = tl.load(product_ptr + at, mask=inside, other=0.0)
        gradient = factor * product + weight[None, :] * other
        tl.store(out_ptr + at, gradient.to(out_ptr.dtype.element_ty), mask=inside)
        if not RAW:
            own = _load(
                own_ptr, own_mean_ptr, own_rest_ptr, own_scale_ptr, own_row_stride,
                own_column_stride, rows, columns, n, d, RAW,
            )  # fmt: skip
            total += tl.sum(gradient, 0).to(tl.float64)
            along += tl.sum(gradient * own, 0).to(tl.float64)
    if not RAW:
        at = split.to(tl.int64) * d + columns
        tl.store(sums_ptr + at, total, mask=columns < d)
        tl.store(sums_ptr + tl.num_programs(1).to(tl.int64) * d + at, along, mask=columns < d)


@kernel(widths=("d",))
def input_gradient_kernel(
    gradient_ptr, own_ptr, mean_ptr, rest_ptr, scale_ptr, row_stride, column_stride,
    shift_ptr, pull_ptr, out_ptr, n, d, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """out = scale · (gradient - shift) + pull · own, the gradient of the inputs of a tile."""
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    columns = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    own = _load(
        own_ptr, mean_ptr, rest_ptr, scale_ptr, row_stride, column_stride, rows, columns, n, d,
        RAW=False,
    )  # fmt: skip
    at, inside = _place(rows, columns, n, d)
    gradient = tl.load(gradient_ptr + at, mask=inside, other=0.0)
    scale = tl.load(scale_ptr + columns, mask=columns < d, other=0.0)
    shift = tl.load(shift_ptr + columns, mask=columns < d, other=0.0)
    pull = tl.load(pull_ptr + columns, mask=columns < d, other=0.0)
    out = scale[None, :] * (gradient - shift[None, :]) + pull[None, :] * own
    tl.store(out_ptr + at, out.to(out_ptr.dtype.element_ty), mask=inside)


@kernel(widths=("d",))
def square_sum_kernel(
    a_ptr, b_ptr, partials_ptr, n, d, blocks, a_stride, b_stride,
    TRIANGLE: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr, BD: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    """Σ C_ij² off the diagonal for a tile of C = aᵀ b, which stays in registers; BM = BN.

    ``TRIANGLE``: C is symmetric; tiles on or above the diagonal, those above counted twice.
    """
    pair = tl.program_id(0)
    if TRIANGLE:
        row_block, column_block = triangle(pair)
    else:
        row_block = pair % blocks
        column_block = pair // blocks
    rows = row_block * BM + tl.arange(0, BM)
    columns = column_block * BN + tl.arange(0, BN)
    depths = tl.arange(0, BD)
    acc = tl.zeros((BM, BN), tl.float32)
    for depth in range(0, n, BD):
        samples = (depth + depths).to(tl.int64)
        a = tl.load(
            a_ptr + samples[None, :] * a_stride + rows[:, None],
            mask=(samples < n)[None, :] & (rows < d)[:, None], other=0.0,
        )  # fmt: skip
        b = tl.load(
            b_ptr + samples[:, None] * b_stride + columns[None, :],
            mask=(samples < n)[:, None] & (columns < d)[None, :], other=0.0,
        )  # fmt: skip
        acc = tl.dot(a, b, acc, input_precision=PRECISION)
    if row_block == column_block:
        acc = tl.where(rows[:, None] == columns[None, :], 0.0, acc)
    total = tl.sum(tl.sum(acc * acc, 1), 0)
    if TRIANGLE:
        total = tl.where(row_block == column_block, total, 2 * total)
    tl.store(partials_ptr + pair, total)
