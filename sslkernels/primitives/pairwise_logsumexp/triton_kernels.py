"""The Triton kernels themselves; their launchers are in triton.py.

Where the largest logit possible is small, e^s needs no shift (``FREE``) and one exponential serves
a row and a column at once. The device decides, so there is no host sync.
"""

import triton
import triton.language as tl

from .._triton import LN2, LOG2E, as_operand, exp, kernel, load_rows, mask_tile, multiply, triangle

FREE_LOGIT = tl.constexpr(40.0)  # below it e^s, its sums and their inverses fit float32 unshifted


@triton.jit
def _merge(maximum, total, more_maximum, more_total):
    """Two partial sums total · e^maximum as one; an empty one has maximum -inf and total 0."""
    best = tl.maximum(maximum, more_maximum)
    shift = _finite(best)
    return best, total * exp(maximum - shift) + more_total * exp(more_maximum - shift)


@triton.jit
def _finite(maximum):
    return tl.where(maximum == float("-inf"), 0.0, maximum)


@triton.jit
def _forward_block(
    q_ptr, k_ptr, scale, row_max_ptr, row_sum_ptr, column_max_ptr, column_sum_ptr,
    row_block, column_block, n, m, rows_per_block, columns_per_block, q_stride, k_stride,
    e0, e1, e2, e3,
    D: tl.constexpr, EXCLUDED: tl.constexpr, TRIANGLE: tl.constexpr, COLUMNS: tl.constexpr,
    BM: tl.constexpr, BN: tl.constexpr, BD: tl.constexpr,
    PRECISION: tl.constexpr, FREE: tl.constexpr,
):  # fmt: skip
    # free logits are in base 2, which saves a multiplication; shifted ones in base e, where the
    # largest of a row cancels exactly against its log-sum-exp
    HALF: tl.constexpr = 1.0 if FREE else LN2
    if FREE:
        scale = scale * LOG2E
    first_row = row_block * rows_per_block
    first_column = column_block * columns_per_block
    end_column = tl.minimum(first_column + columns_per_block, m)
    for row in range(first_row, tl.minimum(first_row + rows_per_block, n), BM):
        rows = row + tl.arange(0, BM)
        row_max = tl.full((BM,), 0.0 if FREE else float("-inf"), tl.float32)
        row_sum = tl.zeros((BM,), tl.float32)
        start = first_column
        if TRIANGLE:
            start = tl.maximum(first_column, row // BN * BN)
        q = load_rows(q_ptr, rows, n, q_stride, tl.arange(0, BD), D)
        if COLUMNS:
            tl.debug_barrier()  # the column sums below were last written by other threads
        for column in range(start, end_column, BN):
            cols = column + tl.arange(0, BN)
            acc = multiply(
                q, q_ptr, k_ptr, rows, cols, n, m, q_stride, k_stride, D, BM, BN, BD, PRECISION
            )
            logits = mask_tile(
                acc * scale, row, column, n, m, e0, e1, e2, e3, EXCLUDED, TRIANGLE, BM, BN, HALF
            )  # (BM, BN)
            if FREE:
                exps = tl.exp2(logits)
                row_sum += tl.sum(exps, 1)
            else:
                tile_max = tl.max(logits, 1)
                tile_sum = tl.sum(exp(logits - _finite(tile_max)[:, None]), 1)
                row_max, row_sum = _merge(row_max, row_sum, tile_max, tile_sum)
            if COLUMNS:
                at = row_block.to(tl.int64) * m + cols
                inside = cols < m
                known = inside & (tl.full((BN,), row, tl.int32) > first_row)
                total = tl.load(column_sum_ptr + at, mask=known, other=0.0)
                if FREE:
                    total += tl.sum(exps, 0)
                    maximum = tl.zeros((BN,), tl.float32)
                else:
                    maximum = tl.load(column_max_ptr + at, mask=known, other=float("-inf"))
                    tile_max = tl.max(logits, 0)
                    tile_sum = tl.sum(exp(logits - _finite(tile_max)[None, :]), 0)
                    maximum, total = _merge(maximum, total, tile_max, tile_sum)
                tl.store(column_sum_ptr + at, total, mask=inside)
                tl.store(column_max_ptr + at, maximum, mask=inside)
        at = column_block.to(tl.int64) * n + rows
        tl.store(row_sum_ptr + at, row_sum, mask=rows < n)
        tl.store(row_max_ptr + at, row_max, mask=rows < n)


@kernel
def forward_kernel(
    q_ptr, k_ptr, scale_ptr, bound_ptr, row_max_ptr, row_sum_ptr, column_max_ptr, column_sum_ptr,
    n, m, row_blocks, rows_per_block, columns_per_block, q_stride, k_stride, e0, e1, e2, e3,
    D: tl.constexpr, EXCLUDED: tl.constexpr, TRIANGLE: tl.constexpr, COLUMNS: tl.constexpr,
    BM: tl.constexpr, BN: tl.constexpr, BD: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """One program per pair of blocks writes that pair's partial sums, which nobody else writes.

    row_*: (column blocks, n); column_*: (row blocks, m).
    """
    pair = tl.program_id(0)
    if TRIANGLE:
        row_block, column_block = triangle(pair)
    else:
        row_block = pair % row_blocks
        column_block = pair // row_blocks
    scale = tl.load(scale_ptr).to(tl.float32)
    if tl.load(bound_ptr) <= FREE_LOGIT:
        _forward_block(
            q_ptr, k_ptr, scale, row_max_ptr, row_sum_ptr, column_max_ptr, column_sum_ptr,
            row_block, column_block, n, m, rows_per_block, columns_per_block, q_stride, k_stride,
            e0, e1, e2, e3, D, EXCLUDED, TRIANGLE, COLUMNS, BM, BN, BD, PRECISION, FREE=True,
        )  # fmt: skip
    else:
        _forward_block(
            q_ptr, k_ptr, scale, row_max_ptr, row_sum_ptr, column_max_ptr, column_sum_ptr,
            row_block, column_block, n, m, rows_per_block, columns_per_block, q_stride, k_stride,
            e0, e1, e2, e3, D, EXCLUDED, TRIANGLE, COLUMNS, BM, BN, BD, PRECISION, FREE=False,
        )  # fmt: skip


@kernel
def combine_kernel(
    max_ptr, sum_ptr, other_max_ptr, other_sum_ptr, out_ptr, size, block, slots,
    TRIANGLE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Partial sums (slots, size) to natural log-sum-exps (size,), in the order of the slots.

    In a triangle, entry i of block b has row sums in slots ≥ b and column sums in slots ≤ b.
    """
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    maximum = tl.full((BLOCK,), float("-inf"), tl.float32)
    total = tl.zeros((BLOCK,), tl.float32)
    at = i.to(tl.int64)
    for slot in range(slots):
        inside = i < size
        if TRIANGLE:
            inside = inside & (slot >= i // block)
        more_max = tl.load(max_ptr + at, mask=inside, other=float("-inf"))
        more = tl.load(sum_ptr + at, mask=inside, other=0.0)
        maximum, total = _merge(maximum, total, more_max, more)
        if TRIANGLE:
            inside = (i < size) & (slot <= i // block)
            more_max = tl.load(other_max_ptr + at, mask=inside, other=float("-inf"))
            more = tl.load(other_sum_ptr + at, mask=inside, other=0.0)
            maximum, total = _merge(maximum, total, more_max, more)
        at += size
    tl.store(out_ptr + i, _finite(maximum) + tl.log2(total) * LN2, mask=i < size)


@triton.jit
def _backward_rows(
    q_ptr, k_ptr, scale, row_lse_ptr, row_grad_ptr, column_lse_ptr, column_grad_ptr,
    row, start, end, n, m, q_stride, k_stride, e0, e1, e2, e3,
    D: tl.constexpr, EXCLUDED: tl.constexpr, ROW: tl.constexpr, COLUMN: tl.constexpr,
    BM: tl.constexpr, BN: tl.constexpr, BD: tl.constexpr,
    PRECISION: tl.constexpr, FREE: tl.constexpr,
):  # fmt: skip
    if FREE:
        scale = scale * LOG2E
    rows = row + tl.arange(0, BM)
    depths = tl.arange(0, BD)
    q = load_rows(q_ptr, rows, n, q_stride, depths, D)
    if ROW:
        row_lse = tl.load(row_lse_ptr + rows, mask=rows < n, other=float("inf"))
        row_grad = tl.load(row_grad_ptr + rows, mask=rows < n, other=0.0)
        if FREE:
            row_grad = row_grad * exp(-row_lse)
    gradient = tl.zeros((BM, BD), tl.float32)
    for column in range(start, end, BN):
        cols = column + tl.arange(0, BN)
        k = load_rows(k_ptr, cols, m, k_stride, depths, D)
        acc = tl.dot(q, tl.trans(k), input_precision=PRECISION)
        logits = mask_tile(
            acc * scale, row, column, n, m, e0, e1, e2, e3, EXCLUDED, False, BM, BN, 0.0
        )  # (BM, BN)
        if COLUMN:
            column_lse = tl.load(column_lse_ptr + cols, mask=cols < m, other=float("inf"))
            column_grad = tl.load(column_grad_ptr + cols, mask=cols < m, other=0.0)
        if FREE:
            if ROW and COLUMN:
                factor = row_grad[:, None] + (column_grad * exp(-column_lse))[None, :]
            elif ROW:
                factor = row_grad[:, None]
            else:
                factor = (column_grad * exp(-column_lse))[None, :]
            weights = tl.exp2(logits) * factor
        else:
            weights = tl.zeros((BM, BN), tl.float32)
            if ROW:
                weights += exp(logits - row_lse[:, None]) * row_grad[:, None]
            if COLUMN:
                weights += exp(logits - column_lse[None, :]) * column_grad[None, :]
        weights = as_operand(weights, k.dtype, PRECISION)
        gradient = tl.dot(weights, k, gradient, input_precision=PRECISION)
    return gradient


@kernel
def backward_kernel(
    q_ptr, k_ptr, scale_ptr, bound_ptr, row_lse_ptr, row_grad_ptr, column_lse_ptr, column_grad_ptr,
    gradient_ptr, n, m, columns_per_split, q_stride, k_stride, e0, e1, e2, e3,
    D: tl.constexpr, EXCLUDED: tl.constexpr, ROW: tl.constexpr, COLUMN: tl.constexpr,
    BM: tl.constexpr, BN: tl.constexpr, BD: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """gradient_i = Σ_j (row_grad_i · p_ij + column_grad_j · p_ji) k_j for a block of rows.

    lse is +inf where everything is excluded. gradient: (splits, n, D), float32.
    """
    row = tl.program_id(0) * BM
    split = tl.program_id(1)
    start = split * columns_per_split
    end = tl.minimum(start + columns_per_split, m)
    scale = tl.load(scale_ptr).to(tl.float32)
    if tl.load(bound_ptr) <= FREE_LOGIT:
        gradient = _backward_rows(
            q_ptr, k_ptr, scale, row_lse_ptr, row_grad_ptr, column_lse_ptr, column_grad_ptr,
            row, start, end, n, m, q_stride, k_stride, e0, e1, e2, e3,
            D, EXCLUDED, ROW, COLUMN, BM, BN, BD, PRECISION, FREE=True,
        )  # fmt: skip
    else:
        gradient = _backward_rows(
            q_ptr, k_ptr, scale, row_lse_ptr, row_grad_ptr, column_lse_ptr, column_grad_ptr,
            row, start, end, n, m, q_stride, k_stride, e0, e1, e2, e3,
            D, EXCLUDED, ROW, COLUMN, BM, BN, BD, PRECISION, FREE=False,
        )  # fmt: skip
    rows = row + tl.arange(0, BM)
    depths = tl.arange(0, BD)
    at = (split.to(tl.int64) * n + rows)[:, None] * D + depths[None, :]
    tl.store(gradient_ptr + at, gradient, mask=(rows < n)[:, None] & (depths < D)[None, :])


@kernel(widths=("length",))
def reduce_kernel(
    products_ptr, scale_ptr, running_ptr, size, length, size_stride, length_stride,
    BLOCK: tl.constexpr, LENGTH: tl.constexpr,
):  # fmt: skip
    """Fold the log-sum-exp of scale · products along ``length`` into ``running``; -inf stays."""
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    scale = tl.load(scale_ptr).to(tl.float32)
    maximum = tl.load(running_ptr + i, mask=i < size, other=0.0)
    total = tl.full((BLOCK,), 1.0, tl.float32)
    for start in range(0, length, LENGTH):
        j = start + tl.arange(0, LENGTH)
        inside = (i < size)[:, None] & (j < length)[None, :]
        at = i[:, None] * size_stride + j[None, :] * length_stride
        products = tl.load(products_ptr + at, mask=inside, other=float("-inf"))
        logits = tl.where(products == float("-inf"), float("-inf"), products * scale)
        tile_max = tl.max(logits, 1)
        tile_sum = tl.sum(exp(logits - _finite(tile_max)[:, None]), 1)
        maximum, total = _merge(maximum, total, tile_max, tile_sum)
    tl.store(running_ptr + i, _finite(maximum) + tl.log2(total) * LN2, mask=i < size)


@kernel(widths=("m",))
def weigh_kernel(
    products_ptr, scale_ptr, row_lse_ptr, row_grad_ptr, column_lse_ptr, column_grad_ptr, out_ptr,
    n, m, COLUMN: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr,
):  # fmt: skip
    """out_ij = row_grad_i · p_ij + column_grad_j · p_ji for a contiguous (n, m) tile."""
    rows = tl.program_id(0) * BM + tl.arange(0, BM)
    cols = tl.program_id(1) * BN + tl.arange(0, BN)
    inside = (rows < n)[:, None] & (cols < m)[None, :]
    at = rows[:, None] * m + cols[None, :]
    products = tl.load(products_ptr + at, mask=inside, other=0.0)
    scale = tl.load(scale_ptr).to(tl.float32)
    logits = tl.where(products == float("-inf"), float("-inf"), products * scale)
    row_lse = tl.load(row_lse_ptr + rows, mask=rows < n, other=0.0)
    row_grad = tl.load(row_grad_ptr + rows, mask=rows < n, other=0.0)
    weights = exp(logits - row_lse[:, None]) * row_grad[:, None]
    if COLUMN:
        column_lse = tl.load(column_lse_ptr + cols, mask=cols < m, other=0.0)
        column_grad = tl.load(column_grad_ptr + cols, mask=cols < m, other=0.0)
        weights += exp(logits - column_lse[None, :]) * column_grad[None, :]
    tl.store(out_ptr + at, weights.to(out_ptr.dtype.element_ty), mask=inside)
