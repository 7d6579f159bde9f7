"""The Triton kernels; their launcher is in triton.py.

A program processes all rows of some columns, of both views. ``columns``, float32: for both views
mean, rest, scale and slope, as in :class:`sslkernels.primitives.offdiagonal_norm.columns.Columns`,
then ``spread``, the variance term's derivative over the column, and ``weight``, that of the
diagonals: (6, 2, d).
"""

import triton
import triton.language as tl

from .._triton import kernel


@triton.jit
def _tile(x_ptr, row_stride, column_stride, rows, columns, n, d):
    """A tile of a view in float32, zero outside, and the mask of its inside."""
    inside = (rows < n)[:, None] & (columns < d)[None, :]
    at = rows.to(tl.int64)[:, None] * row_stride + columns.to(tl.int64)[None, :] * column_stride
    return tl.load(x_ptr + at, mask=inside, other=0.0).to(tl.float32), inside


@triton.jit
def _column(columns_ptr, which: tl.constexpr, view: tl.constexpr, columns, d):
    """One of the statistics for a tile: (1, columns)."""
    at = columns_ptr + (2 * which + view) * d + columns
    return tl.load(at, mask=columns < d, other=0.0)[None, :]


@triton.jit
def _standardized(
    x_ptr, row_stride, column_stride, columns_ptr, view: tl.constexpr, rows, columns, n, d,
):  # fmt: skip
    x, inside = _tile(x_ptr, row_stride, column_stride, rows, columns, n, d)
    x = x - _column(columns_ptr, 0, view, columns, d) - _column(columns_ptr, 1, view, columns, d)
    return tl.where(inside, x * _column(columns_ptr, 2, view, columns, d), 0.0)


@triton.jit
def _statistics(
    x_ptr, row_stride, column_stride, columns_ptr, view: tl.constexpr, columns, n, d,
    correction, eps, outer_eps, variance, variance_eps,
    STANDARDIZED: tl.constexpr, VARIANCE: tl.constexpr, ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):  # fmt: skip
    """Store the statistics of a view; return the columns' variance terms, (COLUMNS,)."""
    total = tl.zeros((COLUMNS,), tl.float64)
    for row in range(0, n, ROWS):
        rows = row + tl.arange(0, ROWS)
        x, _ = _tile(x_ptr, row_stride, column_stride, rows, columns, n, d)
        total += tl.sum(x, 0).to(tl.float64)
    center = (total / n).to(tl.float32)
    total = tl.zeros((COLUMNS,), tl.float64)
    squares = tl.zeros((COLUMNS,), tl.float64)
    for row in range(0, n, ROWS):
        rows = row + tl.arange(0, ROWS)
        x, inside = _tile(x_ptr, row_stride, column_stride, rows, columns, n, d)
        x = tl.where(inside, x - center[None, :], 0.0)
        total += tl.sum(x, 0).to(tl.float64)
        squares += tl.sum(x * x, 0).to(tl.float64)
    mean = center.to(tl.float64) + total / n
    squares = squares - total * total / n
    rounded = mean.to(tl.float32)
    scale = tl.full((COLUMNS,), 1.0, tl.float32)
    slope = tl.zeros((COLUMNS,), tl.float32)
    if STANDARDIZED:
        degrees = tl.maximum(n - correction, 1.0)
        deviation = tl.sqrt(squares / degrees + eps)
        scale = (1.0 / (deviation + outer_eps)).to(tl.float32)
        # no gradient if all values are equal
        slope = tl.where(deviation == 0.0, 0.0, -1.0 / (degrees * deviation)).to(tl.float32)
    loss = tl.zeros((COLUMNS,), tl.float64)
    spread = tl.zeros((COLUMNS,), tl.float32)
    if VARIANCE:
        deviation = tl.sqrt(squares / (n - 1.0) + variance_eps)
        is_wide = deviation > 1.0  # not NaN, which the loss then is
        spread = tl.where(is_wide, 0.0, -variance / (deviation * (n - 1.0))).to(tl.float32)
        loss = variance * tl.where(is_wide, 0.0, 1.0 - deviation)
    at = columns_ptr + view * d + columns
    mask = columns < d
    tl.store(at, rounded, mask=mask)
    tl.store(at + 2 * d, (mean - rounded.to(tl.float64)).to(tl.float32), mask=mask)
    tl.store(at + 4 * d, scale, mask=mask)
    tl.store(at + 6 * d, slope, mask=mask)
    tl.store(at + 8 * d, spread, mask=mask)
    return loss


@kernel(widths=("d",))
def columns_kernel(
    a_ptr, a_row_stride, a_column_stride, b_ptr, b_row_stride, b_column_stride,
    values_ptr, columns_ptr, loss_ptr, n, d,
    correction, eps, outer_eps, off_diagonal, diagonal, variance, variance_eps, distance,
    STANDARDIZED: tl.constexpr, CROSS: tl.constexpr, SAMPLES: tl.constexpr,
    VARIANCE: tl.constexpr, DISTANCE: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """Statistics, standardised values (2, n, d), and the column-wise terms of the loss (d).

    The off-diagonal sum of the sample route includes the diagonal, which is subtracted here.
    """
    columns = tl.program_id(0) * COLUMNS + tl.arange(0, COLUMNS)
    of_a = _statistics(
        a_ptr, a_row_stride, a_column_stride, columns_ptr, 0, columns, n, d, correction, eps,
        outer_eps, variance, variance_eps, STANDARDIZED, VARIANCE, ROWS, COLUMNS,
    )  # fmt: skip
    of_b = _statistics(
        b_ptr, b_row_stride, b_column_stride, columns_ptr, 1, columns, n, d, correction, eps,
        outer_eps, variance, variance_eps, STANDARDIZED, VARIANCE, ROWS, COLUMNS,
    )  # fmt: skip
    loss = of_a + of_b
    tl.debug_barrier()  # other threads stored the values loaded next
    first = tl.zeros((COLUMNS,), tl.float64)
    second = tl.zeros((COLUMNS,), tl.float64)
    apart = tl.zeros((COLUMNS,), tl.float64)
    for row in range(0, n, ROWS):
        rows = row + tl.arange(0, ROWS)
        a = _standardized(a_ptr, a_row_stride, a_column_stride, columns_ptr, 0, rows, columns, n, d)
        b = _standardized(b_ptr, b_row_stride, b_column_stride, columns_ptr, 1, rows, columns, n, d)
        inside = (rows < n)[:, None] & (columns < d)[None, :]
        at = values_ptr + rows.to(tl.int64)[:, None] * d + columns[None, :]
        tl.store(at, a.to(values_ptr.dtype.element_ty), mask=inside)
        at += n.to(tl.int64) * d
        tl.store(at, b.to(values_ptr.dtype.element_ty), mask=inside)
        if CROSS:
            first += tl.sum(a * b, 0).to(tl.float64)
        else:
            first += tl.sum(a * a, 0).to(tl.float64)
            second += tl.sum(b * b, 0).to(tl.float64)
        if DISTANCE:
            x, _ = _tile(a_ptr, a_row_stride, a_column_stride, rows, columns, n, d)
            y, _ = _tile(b_ptr, b_row_stride, b_column_stride, rows, columns, n, d)
            apart += tl.sum((x - y) * (x - y), 0).to(tl.float64)
    if DISTANCE:
        loss += distance * apart
    if SAMPLES:
        loss -= off_diagonal * (first * first + second * second)
    if CROSS:
        error = first / n - 1.0
        loss += diagonal * error * error
        weight = 2.0 * diagonal * error / n
        if SAMPLES:
            weight -= 2.0 * off_diagonal * first
        of_a, of_b = weight, weight
    else:
        of_a, of_b = -4.0 * off_diagonal * first, -4.0 * off_diagonal * second
        if not SAMPLES:
            of_a, of_b = 0.0 * first, 0.0 * second
    at = columns_ptr + 10 * d + columns
    tl.store(at, of_a.to(tl.float32), mask=columns < d)
    tl.store(at + d, of_b.to(tl.float32), mask=columns < d)
    tl.store(loss_ptr + columns, loss, mask=columns < d)


@kernel
def products_kernel(
    product_ptr, weights_ptr, large_ptr, partials_ptr, size,
    CROSS: tl.constexpr, SAMPLES: tl.constexpr, GRADIENT: tl.constexpr, SIDE: tl.constexpr,
):  # fmt: skip
    """The sum of squares of a tile, off the diagonal for C; and weights for the products.

    product: the views' Grams (SAMPLES) or their matrices C, (2, size, size), or C of both, (size,
    size). The sum is that of products of both Grams (CROSS), else of squares. weights, (2, size,
    size), have a zero diagonal; that of Grams goes to large, (2, size). Order of Grams with CROSS:
    the other view's first; of C with CROSS: C, then its transpose.
    """
    block = tl.program_id(0)
    blocks = tl.cdiv(size, SIDE)
    rows = block // blocks * SIDE + tl.arange(0, SIDE)
    columns = block % blocks * SIDE + tl.arange(0, SIDE)
    inside = (rows < size)[:, None] & (columns < size)[None, :]
    at = rows.to(tl.int64)[:, None] * size + columns[None, :]
    whole = size.to(tl.int64) * size
    is_diagonal = rows[:, None] == columns[None, :]
    first = tl.load(product_ptr + at, mask=inside, other=0.0)
    one = CROSS and not SAMPLES
    second = first
    if not one:
        second = tl.load(product_ptr + whole + at, mask=inside, other=0.0)
    left, right = first, second
    if not SAMPLES:
        left, right = tl.where(is_diagonal, 0.0, left), tl.where(is_diagonal, 0.0, right)
    if CROSS:
        total = tl.sum(tl.sum(left * right, 1), 0)
    else:
        total = tl.sum(tl.sum(left * left + right * right, 1), 0)
    tl.store(partials_ptr + block, total)
    if GRADIENT:
        if SAMPLES:
            if CROSS:
                first, second = second, first
            mask = inside & is_diagonal
            large = large_ptr + rows[:, None] + 0 * columns[None, :]
            tl.store(large, first, mask=mask)
            tl.store(large + size, second, mask=mask)
        first, second = tl.where(is_diagonal, 0.0, first), tl.where(is_diagonal, 0.0, second)
        tl.store(weights_ptr + at, first.to(weights_ptr.dtype.element_ty), mask=inside)
        if one:
            at = columns.to(tl.int64)[None, :] * size + rows[:, None]
        at += whole
        tl.store(weights_ptr + at, second.to(weights_ptr.dtype.element_ty), mask=inside)


@triton.jit
def _gradient(
    product_ptr, large_ptr, columns_ptr, own, other, view: tl.constexpr, rows, columns, n, d,
    factor, CROSS: tl.constexpr, SAMPLES: tl.constexpr,
):  # fmt: skip
    """A tile of the gradient of a view's standardised columns, which are ``own``."""
    inside = (rows < n)[:, None] & (columns < d)[None, :]
    # C was multiplied by the other view
    place: tl.constexpr = 1 - view if CROSS and not SAMPLES else view
    at = (n.to(tl.int64) * place + rows)[:, None] * d + columns[None, :]
    product = tl.load(product_ptr + at, mask=inside, other=0.0)
    if SAMPLES:
        large = tl.load(large_ptr + view * n + rows, mask=rows < n, other=0.0)
        product += large[:, None] * own
    return factor * product + _column(columns_ptr, 5, view, columns, d) * other


@triton.jit
def _gradients(
    a_ptr, a_row_stride, a_column_stride, b_ptr, b_row_stride, b_column_stride,
    product_ptr, large_ptr, columns_ptr, rows, columns, n, d, factor,
    CROSS: tl.constexpr, SAMPLES: tl.constexpr,
):  # fmt: skip
    """Tiles of both views' standardised columns, and of their gradients."""
    a = _standardized(a_ptr, a_row_stride, a_column_stride, columns_ptr, 0, rows, columns, n, d)
    b = _standardized(b_ptr, b_row_stride, b_column_stride, columns_ptr, 1, rows, columns, n, d)
    of_a = _gradient(
        product_ptr, large_ptr, columns_ptr, a, b if CROSS else a, 0, rows, columns, n, d,
        factor, CROSS, SAMPLES,
    )  # fmt: skip
    of_b = _gradient(
        product_ptr, large_ptr, columns_ptr, b, a if CROSS else b, 1, rows, columns, n, d,
        factor, CROSS, SAMPLES,
    )  # fmt: skip
    return a, b, of_a, of_b


@kernel(widths=("d",))
def finish_kernel(
    a_ptr, a_row_stride, a_column_stride, b_ptr, b_row_stride, b_column_stride,
    product_ptr, large_ptr, columns_ptr, column_loss_ptr, partials_ptr, loss_ptr, derivatives_ptr,
    n, d, partials, off_diagonal, factor, distance, a_at, b_at,
    CROSS: tl.constexpr, SAMPLES: tl.constexpr, DISTANCE: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """The first program: the loss. The others: derivatives in the views' columns.

    product: weights · values, (2, n, d). ``*_at``: offsets of derivatives, or -1.
    """
    block = tl.program_id(0) - 1
    if block < 0:
        total = tl.zeros((256,), tl.float64)
        for start in range(0, partials, 256):
            i = start + tl.arange(0, 256)
            total += tl.load(partials_ptr + i, mask=i < partials, other=0.0).to(tl.float64)
        total = total * off_diagonal
        for start in range(0, d, 256):
            i = start + tl.arange(0, 256)
            total += tl.load(column_loss_ptr + i, mask=i < d, other=0.0)
        tl.store(loss_ptr, tl.sum(total, 0))
    else:
        columns = block * COLUMNS + tl.arange(0, COLUMNS)
        total_a = tl.zeros((COLUMNS,), tl.float64)
        along_a = tl.zeros((COLUMNS,), tl.float64)
        total_b = tl.zeros((COLUMNS,), tl.float64)
        along_b = tl.zeros((COLUMNS,), tl.float64)
        for row in range(0, n, ROWS):
            rows = row + tl.arange(0, ROWS)
            a, b, of_a, of_b = _gradients(
                a_ptr, a_row_stride, a_column_stride, b_ptr, b_row_stride, b_column_stride,
                product_ptr, large_ptr, columns_ptr, rows, columns, n, d, factor, CROSS, SAMPLES,
            )  # fmt: skip
            total_a += tl.sum(of_a, 0).to(tl.float64)
            along_a += tl.sum(of_a * a, 0).to(tl.float64)
            total_b += tl.sum(of_b, 0).to(tl.float64)
            along_b += tl.sum(of_b * b, 0).to(tl.float64)
        shift_a = (total_a / n).to(tl.float32)[None, :]
        shift_b = (total_b / n).to(tl.float32)[None, :]
        pull_a = along_a.to(tl.float32)[None, :] * _column(columns_ptr, 3, 0, columns, d)
        pull_b = along_b.to(tl.float32)[None, :] * _column(columns_ptr, 3, 1, columns, d)
        scale_a = _column(columns_ptr, 2, 0, columns, d)
        scale_b = _column(columns_ptr, 2, 1, columns, d)
        # for centred values, which are the standardised ones over their scale
        pull_a += _column(columns_ptr, 4, 0, columns, d) / tl.where(scale_a == 0.0, 1.0, scale_a)
        pull_b += _column(columns_ptr, 4, 1, columns, d) / tl.where(scale_b == 0.0, 1.0, scale_b)
        for row in range(0, n, ROWS):
            rows = row + tl.arange(0, ROWS)
            a, b, of_a, of_b = _gradients(
                a_ptr, a_row_stride, a_column_stride, b_ptr, b_row_stride, b_column_stride,
                product_ptr, large_ptr, columns_ptr, rows, columns, n, d, factor, CROSS, SAMPLES,
            )  # fmt: skip
            of_a = scale_a * (of_a - shift_a) + pull_a * a
            of_b = scale_b * (of_b - shift_b) + pull_b * b
            if DISTANCE:
                x, _ = _tile(a_ptr, a_row_stride, a_column_stride, rows, columns, n, d)
                y, _ = _tile(b_ptr, b_row_stride, b_column_stride, rows, columns, n, d)
                of_a += 2.0 * distance * (x - y)
                of_b -= 2.0 * distance * (x - y)
            at = derivatives_ptr + rows.to(tl.int64)[:, None] * d + columns[None, :]
            inside = (columns < d)[None, :]
            tl.store(at + a_at, of_a, mask=(rows < tl.where(a_at >= 0, n, 0))[:, None] & inside)
            tl.store(at + b_at, of_b, mask=(rows < tl.where(b_at >= 0, n, 0))[:, None] & inside)
