"""The Triton kernels of the forward pass; their launchers are in triton.py.

If the largest possible logit is small (free), e^s needs no shift, and one exponential serves a row
and a column at once. The device decides, so there is no host sync.
"""

import triton
import triton.language as tl

from .._triton import (
    LN2,
    LOG2E,
    count_of,
    crossings,
    exp,
    kernel,
    leave_out,
    load_rows,
    mask_tile,
    other_tile,
    plain_tile,
    product,
    triangle,
)

FREE_LOGIT = tl.constexpr(70.0)  # below, e^s, its sums and their inverses fit float32 unshifted


@triton.jit
def _merge(maximum, total, more_maximum, more_total):
    """Merge two partial sums total · e^maximum; an empty one has maximum -inf and total 0."""
    best = tl.maximum(maximum, more_maximum)
    shift = _finite(best)
    return best, total * exp(maximum - shift) + more_total * exp(more_maximum - shift)


@triton.jit
def _finite(maximum):
    return tl.where(maximum == float("-inf"), 0.0, maximum)


@triton.jit
def same_label(row_labels, labels_ptr, cols, m, logits):
    """Whether a column that is not excluded has its row's label: (BM, BN)."""
    labels = tl.load(labels_ptr + cols, mask=cols < m, other=0)
    return (row_labels[:, None] == labels[None, :]) & (logits != float("-inf"))


@triton.jit
def is_free(scale, largest_ptr, parts, PARTS: tl.constexpr):
    """Whether all logits are small; ``largest``: the maximum length, or that of each part."""
    if PARTS:
        lengths = tl.zeros((1024,), tl.float32)
        for start in range(0, parts, 1024):
            i = start + tl.arange(0, 1024)
            more = tl.load(largest_ptr + i, mask=i < parts, other=0.0)
            lengths = tl.maximum(lengths, tl.where(more == more, more, float("inf")))
        largest = tl.max(lengths, 0)
    else:
        largest = tl.load(largest_ptr)
    return tl.abs(scale) * largest * largest <= FREE_LOGIT


@triton.jit
def _known(at, inside, here, first):
    """The mask of entries that already have sums: none if ``here`` is ``first``."""
    return inside & (tl.full(at.shape, here, tl.int32) > first)


@triton.jit
def _add(sum_ptr, at, inside, here, first, more):
    """Add to the sums at ``at``, or write them if ``here`` is ``first``."""
    total = tl.load(sum_ptr + at, mask=_known(at, inside, here, first), other=0.0)
    tl.store(sum_ptr + at, total + more, mask=inside)


@triton.jit
def _first_column(row, first_column, TRIANGLE: tl.constexpr, BN: tl.constexpr):
    """The first column of a block for this row; in a triangle, that of the diagonal's tile."""
    return tl.maximum(first_column, row // BN * BN) if TRIANGLE else first_column


@triton.jit
def _shifted_sums(
    q_ptr, k_ptr, scale, q_inverse_ptr, k_inverse_ptr, max_ptr, sum_ptr,
    first_row, end_row, first_column, end_column, n, m, q_stride, k_stride, e0, e1, e2, e3,
    D: tl.constexpr, EXCLUDED: tl.constexpr, TRIANGLE: tl.constexpr, INVERSE: tl.constexpr,
    AXIS: tl.constexpr, BD: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Maxima and sums along an axis of a block of logits of any size, in base e: the maximum of a
    row then cancels exactly against its log-sum-exp."""
    SIDE: tl.constexpr = 64
    first, end = (first_row, end_row) if AXIS == 1 else (first_column, end_column)
    other_first, other_end = (first_column, end_column) if AXIS == 1 else (first_row, end_row)
    for outer in range(first, end, SIDE):
        maximum = tl.full((SIDE,), float("-inf"), tl.float32)
        total = tl.zeros((SIDE,), tl.float32)
        for inner in tl.range(other_first, other_end, SIDE, num_stages=1):
            rows = (outer if AXIS == 1 else inner) + tl.arange(0, SIDE)
            cols = (inner if AXIS == 1 else outer) + tl.arange(0, SIDE)
            q = load_rows(q_ptr, rows, n, q_stride, tl.arange(0, BD), D)
            k = load_rows(k_ptr, cols, m, k_stride, tl.arange(0, BD), D)
            acc = tl.dot(q, tl.trans(k), input_precision=PRECISION)
            if INVERSE:
                q_inverse = tl.load(q_inverse_ptr + rows)[:, None]
                acc *= q_inverse * tl.load(k_inverse_ptr + cols)[None, :]
            logits = leave_out(acc * scale, rows, cols, e0, e1, e2, e3, EXCLUDED)
            if TRIANGLE:  # the diagonal counts for the rows
                least = rows + (1 - AXIS)
                logits = tl.where(cols[None, :] >= least[:, None], logits, float("-inf"))
            logits = tl.where((rows < end_row)[:, None], logits, float("-inf"))
            logits = tl.where((cols < end_column)[None, :], logits, float("-inf"))
            tile_max = tl.max(logits, AXIS)
            shift = tl.expand_dims(_finite(tile_max), AXIS)
            maximum, total = _merge(maximum, total, tile_max, tl.sum(exp(logits - shift), AXIS))
        at = outer + tl.arange(0, SIDE)
        tl.store(max_ptr + at, maximum, mask=at < end)
        tl.store(sum_ptr + at, total, mask=at < end)


@kernel
def forward_kernel(
    q_ptr, k_ptr, scale_ptr, largest_ptr, q_inverse_ptr, k_inverse_ptr,
    row_max_ptr, row_sum_ptr, column_max_ptr, column_sum_ptr,
    n, m, parts, row_blocks, rows_per_block, columns_per_block, q_stride, k_stride,
    e0, e1, e2, e3,
    D: tl.constexpr, EXCLUDED: tl.constexpr, TRIANGLE: tl.constexpr, ROWS: tl.constexpr,
    PARTS: tl.constexpr, INVERSE: tl.constexpr,
    BM: tl.constexpr, BN: tl.constexpr, BD: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Each program writes the partial sums of one pair of blocks, which no other program writes.

    row_* if ``ROWS``: (column blocks, n); column_*: (row blocks, m). ``INVERSE``: the logits are
    scale · ⟨q_i, k_j⟩ · q_inverse_i · k_inverse_j, else without the last two; the inverses must be
    padded by a tile. Excluded diagonals: row - column, in ascending order.

    A tile of columns is resident while rows are streamed; its sums stay in registers. Tiles without
    excluded entries come first.
    """
    pair = tl.program_id(0)
    if TRIANGLE:
        row_block, column_block = triangle(pair)
    else:
        row_block = pair % row_blocks
        column_block = pair // row_blocks
    row_max_ptr += column_block.to(tl.int64) * n
    row_sum_ptr += column_block.to(tl.int64) * n
    column_max_ptr += row_block.to(tl.int64) * m
    column_sum_ptr += row_block.to(tl.int64) * m
    first_row = row_block * rows_per_block
    end_row = tl.minimum(first_row + rows_per_block, n)
    first_column = column_block * columns_per_block
    end_column = tl.minimum(first_column + columns_per_block, m)
    scale = tl.load(scale_ptr).to(tl.float32)
    if is_free(scale, largest_ptr, parts, PARTS):
        q_rows = tl.make_tensor_descriptor(q_ptr, [n, D], [q_stride, 1], [BM, BD])
        k_rows = tl.make_tensor_descriptor(k_ptr, [m, D], [k_stride, 1], [BN, BD])
        scale = scale * LOG2E
        first_tile = first_row // BM
        for column in range(first_column, end_column, BN):
            cols = column + tl.arange(0, BN)
            end_tile = tl.cdiv(end_row, BM)
            end_plain = tl.minimum(end_tile, n // BM)
            if TRIANGLE:
                end_tile = tl.minimum(end_tile, tl.cdiv(column + BN, BM))
                end_plain = tl.minimum(end_plain, column // BM)
            end_plain = tl.where(column + BN <= m, end_plain, first_tile)
            end_plain = tl.maximum(end_plain, first_tile)
            crossed = crossings(column, first_tile, end_plain, e0, e1, e2, e3, EXCLUDED, BN, BM)
            end = end_plain - count_of(crossed)
            k = k_rows.load([column, 0])
            if INVERSE:
                inverse = tl.load(k_inverse_ptr + cols)
            totals = tl.zeros((BM, BN), tl.float32)
            tl.debug_barrier()  # other threads last wrote the row sums below
            for t in range(first_tile, end):
                row = plain_tile(t, crossed, EXCLUDED) * BM
                rows = row + tl.arange(0, BM)
                acc = tl.dot(q_rows.load([row, 0]), tl.trans(k), input_precision=PRECISION)
                if INVERSE:
                    acc *= (scale * tl.load(q_inverse_ptr + rows))[:, None]
                    exps = tl.exp2(acc * inverse[None, :])
                else:
                    exps = tl.exp2(acc * scale)
                totals += exps
                if ROWS:
                    start = _first_column(row, first_column, TRIANGLE, BN)
                    _add(row_sum_ptr, rows, rows < n, column, start, tl.sum(exps, 1))
            is_column = cols < end_column
            tl.store(column_sum_ptr + cols, tl.sum(totals, 0), mask=is_column)
            tl.store(column_max_ptr + cols, tl.zeros((BN,), tl.float32), mask=is_column)
            for t in tl.range(end, end_tile, num_stages=1):
                row = other_tile(t - end, crossed, end_plain, EXCLUDED) * BM
                rows = row + tl.arange(0, BM)
                acc = tl.dot(q_rows.load([row, 0]), tl.trans(k), input_precision=PRECISION)
                if INVERSE:
                    acc *= tl.load(q_inverse_ptr + rows)[:, None]
                    acc *= tl.load(k_inverse_ptr + cols)[None, :]
                logits = leave_out(acc * scale, rows, cols, -e0, -e1, -e2, -e3, EXCLUDED)
                if TRIANGLE:  # implies rows < n
                    logits = tl.where(cols[None, :] >= rows[:, None], logits, float("-inf"))
                else:
                    logits = tl.where((rows < n)[:, None], logits, float("-inf"))
                exps = tl.exp2(tl.where((cols < m)[None, :], logits, float("-inf")))
                if TRIANGLE:  # the diagonal counts half for rows and columns
                    exps = tl.where(cols[None, :] == rows[:, None], 0.5 * exps, exps)
                tl.debug_barrier()  # likewise for the sums of columns
                _add(column_sum_ptr, cols, is_column, 1, 0, tl.sum(exps, 0))
                if ROWS:
                    start = _first_column(row, first_column, TRIANGLE, BN)
                    _add(row_sum_ptr, rows, rows < n, column, start, tl.sum(exps, 1))
        if ROWS:
            for row in range(first_row, end_row, BM):
                rows = row + tl.arange(0, BM)
                tl.store(row_max_ptr + rows, tl.zeros((BM,), tl.float32), mask=rows < end_row)
    else:
        if ROWS:
            _shifted_sums(
                q_ptr, k_ptr, scale, q_inverse_ptr, k_inverse_ptr, row_max_ptr, row_sum_ptr,
                first_row, end_row, first_column, end_column, n, m, q_stride, k_stride,
                -e0, -e1, -e2, -e3, D, EXCLUDED, TRIANGLE, INVERSE, 1, BD, PRECISION,
            )  # fmt: skip
            _shifted_sums(
                q_ptr, k_ptr, scale, q_inverse_ptr, k_inverse_ptr, column_max_ptr, column_sum_ptr,
                first_row, end_row, first_column, end_column, n, m, q_stride, k_stride,
                -e0, -e1, -e2, -e3, D, EXCLUDED, TRIANGLE, INVERSE, 0, BD, PRECISION,
            )  # fmt: skip
        else:  # products as in the backward pass, where these columns are rows
            _shifted_sums(
                k_ptr, q_ptr, scale, k_inverse_ptr, q_inverse_ptr, column_max_ptr, column_sum_ptr,
                first_column, end_column, first_row, end_row, m, n, k_stride, q_stride,
                e0, e1, e2, e3, D, EXCLUDED, TRIANGLE, INVERSE, 1, BD, PRECISION,
            )  # fmt: skip


@triton.jit
def _fold(max_ptr, sum_ptr, at, inside, here, first, logits, AXIS: tl.constexpr):
    """Add a tile's exponentials along an axis to partial sums, as in ``_add``."""
    known = _known(at, inside, here, first)
    maximum = tl.load(max_ptr + at, mask=known, other=float("-inf"))
    total = tl.load(sum_ptr + at, mask=known, other=0.0)
    tile_max = tl.max(logits, AXIS)
    tile_sum = tl.sum(exp(logits - tl.expand_dims(_finite(tile_max), AXIS)), AXIS)
    maximum, total = _merge(maximum, total, tile_max, tile_sum)
    tl.store(max_ptr + at, maximum, mask=inside)
    tl.store(sum_ptr + at, total, mask=inside)


@kernel
def deep_forward_kernel(
    q_ptr, k_ptr, scale_ptr, q_inverse_ptr, k_inverse_ptr, labels_ptr,
    row_max_ptr, row_sum_ptr, column_max_ptr, column_sum_ptr, same_ptr, count_ptr,
    n, m, row_blocks, rows_per_block, columns_per_block, q_stride, k_stride, e0, e1, e2, e3,
    D: tl.constexpr, EXCLUDED: tl.constexpr, TRIANGLE: tl.constexpr, COLUMNS: tl.constexpr,
    INVERSE: tl.constexpr, LABELS: tl.constexpr,
    BM: tl.constexpr, BN: tl.constexpr, BD: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """As ``forward_kernel``, for embeddings of any width, whose products dominate the time.

    row_*: (column blocks, n); column_* if ``COLUMNS``. ``LABELS``: also writes the sum (same) and
    the number (count) of the logits of columns with the row's label, like row_sum. Excluded
    diagonals: column - row.
    """
    pair = tl.program_id(0)
    if TRIANGLE:
        row_block, column_block = triangle(pair)
    else:
        row_block = pair % row_blocks
        column_block = pair // row_blocks
    q_rows = tl.make_tensor_descriptor(q_ptr, [n, D], [q_stride, 1], [BM, BD])
    k_rows = tl.make_tensor_descriptor(k_ptr, [m, D], [k_stride, 1], [BN, BD])
    row_at = column_block.to(tl.int64) * n
    column_at = row_block.to(tl.int64) * m
    scale = tl.load(scale_ptr).to(tl.float32)
    first_row = row_block * rows_per_block
    first_column = column_block * columns_per_block
    for column in range(first_column, tl.minimum(first_column + columns_per_block, m), BN):
        cols = column + tl.arange(0, BN)
        end_row = tl.minimum(first_row + rows_per_block, n)
        if TRIANGLE:
            end_row = tl.minimum(end_row, column + BN)
        for row in range(first_row, end_row, BM):
            rows = row + tl.arange(0, BM)
            acc = product(q_rows, k_rows, row, column, D, BM, BN, BD, PRECISION)
            if INVERSE:
                q_inverse = tl.load(q_inverse_ptr + rows)[:, None]
                acc *= q_inverse * tl.load(k_inverse_ptr + cols)[None, :]
            logits = mask_tile(
                acc * scale, row, column, n, m, e0, e1, e2, e3, EXCLUDED, TRIANGLE, BM, BN
            )  # (BM, BN)
            tl.debug_barrier()  # other threads last wrote the sums below
            start = _first_column(row, first_column, TRIANGLE, BN)
            at = row_at + rows
            _fold(row_max_ptr, row_sum_ptr, at, rows < n, column, start, logits, 1)
            if COLUMNS:
                on = column_at + cols
                if TRIANGLE:  # the diagonal counted for the rows
                    logits = tl.where(cols[None, :] > rows[:, None], logits, float("-inf"))
                _fold(column_max_ptr, column_sum_ptr, on, cols < m, row, first_row, logits, 0)
            if LABELS:
                row_labels = tl.load(labels_ptr + rows, mask=rows < n, other=0)
                same = same_label(row_labels, labels_ptr, cols, m, logits)
                of_same = tl.sum(tl.where(same, logits, 0.0), 1)
                _add(same_ptr, at, rows < n, column, start, of_same)
                _add(count_ptr, at, rows < n, column, start, tl.sum(same.to(tl.float32), 1))


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
