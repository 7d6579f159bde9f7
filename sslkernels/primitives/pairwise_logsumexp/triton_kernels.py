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
    q_ptr, k_ptr, scale, q_inverse_ptr, k_inverse_ptr, labels_ptr,
    row_max_ptr, row_sum_ptr, column_max_ptr, column_sum_ptr, same_ptr, count_ptr,
    row_block, column_block, n, m, rows_per_block, columns_per_block, q_stride, k_stride,
    e0, e1, e2, e3,
    D: tl.constexpr, EXCLUDED: tl.constexpr, TRIANGLE: tl.constexpr, COLUMNS: tl.constexpr,
    INVERSE: tl.constexpr, LABELS: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr,
    BD: tl.constexpr, PRECISION: tl.constexpr, FREE: tl.constexpr,
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
        if INVERSE:
            row_scale = scale * tl.load(q_inverse_ptr + rows, mask=rows < n, other=0.0)
        if LABELS:
            row_labels = tl.load(labels_ptr + rows, mask=rows < n, other=0)
            row_same = tl.zeros((BM,), tl.float32)
            row_count = tl.zeros((BM,), tl.float32)
        if COLUMNS:
            tl.debug_barrier()  # the column sums below were last written by other threads
        for column in range(start, end_column, BN):
            cols = column + tl.arange(0, BN)
            acc = multiply(
                q, q_ptr, k_ptr, rows, cols, n, m, q_stride, k_stride, D, BM, BN, BD, PRECISION
            )
            if INVERSE:
                inverse = tl.load(k_inverse_ptr + cols, mask=cols < m, other=0.0)
                acc = acc * row_scale[:, None] * inverse[None, :]
            else:
                acc = acc * scale
            logits = mask_tile(
                acc, row, column, n, m, e0, e1, e2, e3, EXCLUDED, TRIANGLE, BM, BN, HALF
            )  # (BM, BN)
            if LABELS:
                same = same_label(row_labels, labels_ptr, cols, m, logits)
                row_same += tl.sum(tl.where(same, logits, 0.0), 1)
                row_count += tl.sum(same.to(tl.float32), 1)
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
        if LABELS:
            tl.store(same_ptr + at, row_same * (LN2 if FREE else 1.0), mask=rows < n)
            tl.store(count_ptr + at, row_count, mask=rows < n)


@triton.jit
def same_label(row_labels, labels_ptr, cols, m, logits):
    """Where a column that is not left out has its row's label: (BM, BN)."""
    labels = tl.load(labels_ptr + cols, mask=cols < m, other=0)
    return (row_labels[:, None] == labels[None, :]) & (logits != float("-inf"))


@triton.jit
def is_free(scale, largest_ptr, parts, PARTS: tl.constexpr):
    """Whether no logit can be large; ``largest``: of all lengths, or of those of each part."""
    if PARTS:
        lengths = tl.zeros((128,), tl.float32)
        for start in range(0, parts, 128):
            i = start + tl.arange(0, 128)
            more = tl.load(largest_ptr + i, mask=i < parts, other=0.0)
            lengths = tl.maximum(lengths, tl.where(more == more, more, float("inf")))
        largest = tl.max(lengths, 0)
    else:
        largest = tl.load(largest_ptr)
    return tl.abs(scale) * largest * largest <= FREE_LOGIT


@kernel
def forward_kernel(
    q_ptr, k_ptr, scale_ptr, largest_ptr, q_inverse_ptr, k_inverse_ptr, labels_ptr,
    row_max_ptr, row_sum_ptr, column_max_ptr, column_sum_ptr, same_ptr, count_ptr,
    n, m, parts, row_blocks, rows_per_block, columns_per_block, q_stride, k_stride,
    e0, e1, e2, e3,
    D: tl.constexpr, EXCLUDED: tl.constexpr, TRIANGLE: tl.constexpr, COLUMNS: tl.constexpr,
    PARTS: tl.constexpr, INVERSE: tl.constexpr, LABELS: tl.constexpr,
    BM: tl.constexpr, BN: tl.constexpr, BD: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """One program per pair of blocks writes that pair's partial sums, which nobody else writes.

    row_*: (column blocks, n); column_*: (row blocks, m). ``INVERSE``: the logits are scale · ⟨q_i,
    k_j⟩ · q_inverse_i · k_inverse_j, else without the last two. ``LABELS``: writes also the sum
    (same) and the number (count) of the logits of columns with the row's label, like row_sum.
    """
    pair = tl.program_id(0)
    if TRIANGLE:
        row_block, column_block = triangle(pair)
    else:
        row_block = pair % row_blocks
        column_block = pair // row_blocks
    scale = tl.load(scale_ptr).to(tl.float32)
    if is_free(scale, largest_ptr, parts, PARTS):
        _forward_block(
            q_ptr, k_ptr, scale, q_inverse_ptr, k_inverse_ptr, labels_ptr,
            row_max_ptr, row_sum_ptr, column_max_ptr, column_sum_ptr, same_ptr, count_ptr,
            row_block, column_block, n, m, rows_per_block, columns_per_block, q_stride, k_stride,
            e0, e1, e2, e3, D, EXCLUDED, TRIANGLE, COLUMNS, INVERSE, LABELS, BM, BN, BD, PRECISION,
            FREE=True,
        )  # fmt: skip
    else:
        _forward_block(
            q_ptr, k_ptr, scale, q_inverse_ptr, k_inverse_ptr, labels_ptr,
            row_max_ptr, row_sum_ptr, column_max_ptr, column_sum_ptr, same_ptr, count_ptr,
            row_block, column_block, n, m, rows_per_block, columns_per_block, q_stride, k_stride,
            e0, e1, e2, e3, D, EXCLUDED, TRIANGLE, COLUMNS, INVERSE, LABELS, BM, BN, BD, PRECISION,
            FREE=False,
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
    logsumexp = combine(
        max_ptr, sum_ptr, other_max_ptr, other_sum_ptr, i, size, block, slots, TRIANGLE, BLOCK
    )
    tl.store(out_ptr + i, logsumexp, mask=i < size)


@triton.jit
def combine(
    max_ptr, sum_ptr, other_max_ptr, other_sum_ptr, i, size, block, slots,
    TRIANGLE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
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
    return _finite(maximum) + tl.log2(total) * LN2


@triton.jit
def _backward_rows(
    q_ptr, k_ptr, scale, q_inverse_ptr, k_inverse_ptr, row_labels_ptr, column_labels_ptr,
    row_lse_ptr, row_grad_ptr, column_lse_ptr, column_grad_ptr, row_share_ptr, column_share_ptr,
    row, start, end, n, m, q_stride, k_stride, e0, e1, e2, e3,
    D: tl.constexpr, EXCLUDED: tl.constexpr, ROW: tl.constexpr, COLUMN: tl.constexpr,
    INVERSE: tl.constexpr, LABELS: tl.constexpr, SCALE: tl.constexpr,
    BM: tl.constexpr, BN: tl.constexpr, BD: tl.constexpr,
    PRECISION: tl.constexpr, FREE: tl.constexpr,
):  # fmt: skip
    if FREE:
        scale = scale * LOG2E
    rows = row + tl.arange(0, BM)
    depths = tl.arange(0, BD)
    q = load_rows(q_ptr, rows, n, q_stride, depths, D)
    if INVERSE:
        row_inverse = tl.load(q_inverse_ptr + rows, mask=rows < n, other=0.0)
        scale = scale * row_inverse[:, None]
    if LABELS:
        row_labels = tl.load(row_labels_ptr + rows, mask=rows < n, other=0)
        row_share = tl.load(row_share_ptr + rows, mask=rows < n, other=0.0)
    if ROW:
        row_lse = tl.load(row_lse_ptr + rows, mask=rows < n, other=float("inf"))
        row_grad = tl.load(row_grad_ptr + rows, mask=rows < n, other=0.0)
        if FREE:
            row_grad = row_grad * exp(-row_lse)
    gradient = tl.zeros((BM, BD), tl.float32)
    weighted = tl.zeros((BM,), tl.float32)
    for column in range(start, end, BN):
        cols = column + tl.arange(0, BN)
        k = load_rows(k_ptr, cols, m, k_stride, depths, D)
        acc = tl.dot(q, tl.trans(k), input_precision=PRECISION)
        if INVERSE:
            inverse = tl.load(k_inverse_ptr + cols, mask=cols < m, other=0.0)
            acc = acc * inverse[None, :]
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
        if LABELS:
            same = same_label(row_labels, column_labels_ptr, cols, m, logits)
            column_share = tl.load(column_share_ptr + cols, mask=cols < m, other=0.0)
            weights -= tl.where(same, row_share[:, None] + column_share[None, :], 0.0)
        if SCALE:
            weighted += tl.sum(weights * acc, 1)
        if INVERSE:
            weights = weights * inverse[None, :]
        weights = as_operand(weights, k.dtype, PRECISION)
        gradient = tl.dot(weights, k, gradient, input_precision=PRECISION)
    if INVERSE:
        weighted = weighted * row_inverse
    return gradient, weighted


@kernel
def backward_kernel(
    q_ptr, k_ptr, scale_ptr, largest_ptr, q_inverse_ptr, k_inverse_ptr,
    row_labels_ptr, column_labels_ptr, row_lse_ptr, row_grad_ptr, column_lse_ptr, column_grad_ptr,
    row_share_ptr, column_share_ptr, gradient_ptr, weighted_ptr,
    n, m, parts, columns_per_split, first_block, q_stride, k_stride, e0, e1, e2, e3,
    D: tl.constexpr, EXCLUDED: tl.constexpr, ROW: tl.constexpr, COLUMN: tl.constexpr,
    PARTS: tl.constexpr, BOTH: tl.constexpr, INVERSE: tl.constexpr, LABELS: tl.constexpr,
    SCALE: tl.constexpr,
    BM: tl.constexpr, BN: tl.constexpr, BD: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """gradient_i = Σ_j w_ij k_j for a block of rows: (splits, n, D), float32.

    w_ij = row_grad_i · p_ij + column_grad_j · p_ji; lse is +inf where everything is excluded.
    ``INVERSE``: as in the forward kernel; w_ij k_inverse_j then stands for w_ij. ``LABELS``: less
    row_share_i + column_share_j where labels are the same. ``SCALE``: weighted_i = Σ_j w_ij s_ij /
    scale, (splits, n). ``BOTH``: the blocks of the keys follow, which the queries are the columns
    of. Then k and all that belongs to columns stand behind what belongs to rows, q stands for both,
    and n above is n + m.
    """
    row, first, size = tl.program_id(0) + first_block, 0, n
    split = tl.program_id(1)
    scale = tl.load(scale_ptr).to(tl.float32)
    free = is_free(scale, largest_ptr, parts, PARTS)
    if BOTH:
        size = n + m
        is_key = row >= tl.cdiv(n, BM)
        row = tl.where(is_key, row - tl.cdiv(n, BM), row)
        first, second = tl.where(is_key, n, 0), tl.where(is_key, 0, n)
        n, m = tl.where(is_key, m, n), tl.where(is_key, n, m)
        sign = tl.where(is_key, -1, 1)
        e0, e1, e2, e3 = e0 * sign, e1 * sign, e2 * sign, e3 * sign
        k_ptr = q_ptr + second.to(tl.int64) * q_stride
        q_ptr += first.to(tl.int64) * q_stride
        q_inverse_ptr += first
        k_inverse_ptr += second
        row_lse_ptr += first
        row_grad_ptr += first
        column_lse_ptr += second
        column_grad_ptr += second
    row = row * BM
    start = split * columns_per_split
    end = tl.minimum(start + columns_per_split, m)
    if free:
        gradient, weighted = _backward_rows(
            q_ptr, k_ptr, scale, q_inverse_ptr, k_inverse_ptr, row_labels_ptr, column_labels_ptr,
            row_lse_ptr, row_grad_ptr, column_lse_ptr, column_grad_ptr,
            row_share_ptr, column_share_ptr,
            row, start, end, n, m, q_stride, k_stride, e0, e1, e2, e3, D, EXCLUDED, ROW, COLUMN,
            INVERSE, LABELS, SCALE, BM, BN, BD, PRECISION, FREE=True,
        )  # fmt: skip
    else:
        gradient, weighted = _backward_rows(
            q_ptr, k_ptr, scale, q_inverse_ptr, k_inverse_ptr, row_labels_ptr, column_labels_ptr,
            row_lse_ptr, row_grad_ptr, column_lse_ptr, column_grad_ptr,
            row_share_ptr, column_share_ptr,
            row, start, end, n, m, q_stride, k_stride, e0, e1, e2, e3, D, EXCLUDED, ROW, COLUMN,
            INVERSE, LABELS, SCALE, BM, BN, BD, PRECISION, FREE=False,
        )  # fmt: skip
    rows = row + tl.arange(0, BM)
    depths = tl.arange(0, BD)
    at = split.to(tl.int64) * size + first + rows
    tl.store(
        gradient_ptr + at[:, None] * D + depths[None, :],
        gradient,
        mask=(rows < n)[:, None] & (depths < D)[None, :],
    )
    if SCALE:
        tl.store(weighted_ptr + at, weighted, mask=rows < n)


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
