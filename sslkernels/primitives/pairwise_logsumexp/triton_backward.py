"""The Triton kernels of the backward pass; their launchers are in triton.py."""

import triton
import triton.language as tl

from .._triton import (
    LOG2E,
    as_operand,
    count_of,
    crossings,
    exp,
    half,
    kernel,
    leave_out,
    load_rows,
    mirrored,
    other_tile,
    plain_tile,
    product,
)
from .triton_kernels import is_free, same_label


@kernel
def backward_kernel(
    q_ptr, k_ptr, scale_ptr, largest_ptr, q_inverse_ptr, k_inverse_ptr,
    row_labels_ptr, column_labels_ptr, row_lse_ptr, row_grad_ptr, column_lse_ptr, column_grad_ptr,
    row_factor_ptr, column_factor_ptr, row_share_ptr, column_share_ptr, gradient_ptr, weighted_ptr,
    n, m, parts, columns_per_split, first_block, q_stride, k_stride, e0, e1, e2, e3,
    D: tl.constexpr, EXCLUDED: tl.constexpr, ROW: tl.constexpr, COLUMN: tl.constexpr,
    PARTS: tl.constexpr, BOTH: tl.constexpr, INVERSE: tl.constexpr, LABELS: tl.constexpr,
    SCALE: tl.constexpr,
    BM: tl.constexpr, BN: tl.constexpr, BD: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """gradient_i = Σ_j w_ij k_j for a block of rows: (splits, n, D), float32.

    w_ij = row_grad_i · p_ij + column_grad_j · p_ji; factor is grad · e^-lse; both are 0 if
    everything is excluded. ``INVERSE``: as in the forward kernel; w_ij k_inverse_j then replaces
    w_ij. ``LABELS``: minus row_share_i + column_share_j where labels are equal. ``SCALE``:
    weighted_i = Σ_j w_ij s_ij / scale, (splits, n). ``BOTH``: followed by the blocks of the keys,
    whose columns are the queries. Then k and all column data follow the row data, q points to both,
    and n above is n + m.

    Tiles without excluded entries, with logits that need no shift, come first.
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
        e0, e1, e2, e3 = mirrored(is_key, e0, e1, e2, e3, EXCLUDED)
        k_ptr = q_ptr + second.to(tl.int64) * q_stride
        q_ptr += first.to(tl.int64) * q_stride
        q_inverse_ptr += first
        k_inverse_ptr += second
        row_lse_ptr += first
        row_grad_ptr += first
        row_factor_ptr += first
        column_lse_ptr += second
        column_grad_ptr += second
        column_factor_ptr += second
    row = row * BM
    rows = row + tl.arange(0, BM)
    depths = tl.arange(0, BD)
    q = load_rows(q_ptr, rows, n, q_stride, depths, D)
    row_scale = scale
    if INVERSE:
        row_inverse = tl.load(q_inverse_ptr + rows, mask=rows < n, other=0.0)
        row_scale = scale * row_inverse[:, None]
    if LABELS:
        row_labels = tl.load(row_labels_ptr + rows, mask=rows < n, other=0)
        row_share = tl.load(row_share_ptr + rows, mask=rows < n, other=0.0)
    gradient = tl.zeros((BM, BD), tl.float32)
    weighted = tl.zeros((BM,), tl.float32)
    first_tile = split * columns_per_split // BN
    end_tile = tl.cdiv(tl.minimum((split + 1) * columns_per_split, m), BN)
    end_plain = tl.where(free, tl.maximum(end_tile, first_tile), first_tile)
    crossed = crossings(row, first_tile, end_plain, e0, e1, e2, e3, EXCLUDED, BM, BN)
    plain = end_plain - first_tile - count_of(crossed)
    if ROW:
        row_factor = tl.load(row_factor_ptr + rows, mask=rows < n, other=0.0)
    for t in range(first_tile, first_tile + plain):
        cols = plain_tile(t, crossed, EXCLUDED) * BN + tl.arange(0, BN)
        k = load_rows(k_ptr, cols, m, k_stride, depths, D)  # zeros outside
        acc = tl.dot(q, tl.trans(k), input_precision=PRECISION)
        if INVERSE:
            inverse = tl.load(k_inverse_ptr + cols, mask=cols < m, other=0.0)
            acc = acc * inverse[None, :]
        weights = tl.exp2(acc * (row_scale * LOG2E))
        if COLUMN:
            column_factor = tl.load(column_factor_ptr + cols, mask=cols < m, other=0.0)
        if ROW and COLUMN:
            weights *= row_factor[:, None] + column_factor[None, :]
        elif ROW:
            weights *= row_factor[:, None]
        else:
            weights *= column_factor[None, :]
        if LABELS:
            labels = tl.load(column_labels_ptr + cols, mask=cols < m, other=0)
            column_share = tl.load(column_share_ptr + cols, mask=cols < m, other=0.0)
            share = row_share[:, None] + column_share[None, :]
            weights -= tl.where(row_labels[:, None] == labels[None, :], share, 0.0)
        if SCALE:
            weighted += tl.sum(weights * acc, 1)
        if INVERSE:
            weights = weights * inverse[None, :]
        weights = as_operand(weights, k.dtype, PRECISION)
        gradient = tl.dot(weights, k, gradient, input_precision=PRECISION)
    if INVERSE:
        weighted = weighted * row_inverse
    if ROW:
        row_lse = tl.load(row_lse_ptr + rows, mask=rows < n, other=float("inf"))
        row_grad = tl.load(row_grad_ptr + rows, mask=rows < n, other=0.0)
    for t in tl.range(first_tile + plain, end_tile, num_stages=1):
        column = other_tile(t - first_tile - plain, crossed, end_plain, EXCLUDED) * BN
        cols = column + tl.arange(0, BN)
        k = load_rows(k_ptr, cols, m, k_stride, depths, D)
        acc = tl.dot(q, tl.trans(k), input_precision=PRECISION)
        if INVERSE:
            inverse = tl.load(k_inverse_ptr + cols, mask=cols < m, other=0.0)
            acc *= row_inverse[:, None] * inverse[None, :]
        logits = leave_out(acc * scale, rows, cols, e0, e1, e2, e3, EXCLUDED)
        weights = tl.zeros((BM, BN), tl.float32)
        if ROW:
            weights += exp(logits - row_lse[:, None]) * row_grad[:, None]
        if COLUMN:
            column_lse = tl.load(column_lse_ptr + cols, mask=cols < m, other=float("inf"))
            column_grad = tl.load(column_grad_ptr + cols, mask=cols < m, other=0.0)
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
    at = split.to(tl.int64) * size + first + rows
    tl.store(
        gradient_ptr + at[:, None] * D + depths[None, :],
        gradient,
        mask=(rows < n)[:, None] & (depths < D)[None, :],
    )
    if SCALE:
        tl.store(weighted_ptr + at, weighted, mask=rows < n)


@kernel
def weights_kernel(
    q_ptr, k_ptr, scale_ptr, q_inverse_ptr, k_inverse_ptr,
    row_lse_ptr, row_grad_ptr, column_lse_ptr, column_grad_ptr, pair_weights_ptr,
    n, m, columns_per_split, first_row, weights_stride, q_stride, k_stride, e0, e1, e2, e3,
    D: tl.constexpr, EXCLUDED: tl.constexpr, COLUMN: tl.constexpr, INVERSE: tl.constexpr,
    BM: tl.constexpr, BN: tl.constexpr, BD: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """The w_ij of the backward kernel from ``first_row`` on, in the dtype of q, for products.

    ``INVERSE``: w_ij q_inverse_i k_inverse_j instead. Rows and columns of ``pair_weights`` are
    whole tiles, and all vectors must be padded by a tile: the results for rows and columns that do
    not exist are not read.
    """
    local = tl.program_id(0) * BM
    row = first_row + local
    split = tl.program_id(1)
    q_rows = tl.make_tensor_descriptor(q_ptr, [n, D], [q_stride, 1], [BM, BD])
    k_rows = tl.make_tensor_descriptor(k_ptr, [m, D], [k_stride, 1], [BN, BD])
    rows = row + tl.arange(0, BM)
    row_lse = tl.load(row_lse_ptr + rows)[:, None]
    row_grad = tl.load(row_grad_ptr + rows)[:, None]
    if INVERSE:
        row_inverse = tl.load(q_inverse_ptr + rows)[:, None]
    scale = tl.load(scale_ptr).to(tl.float32)
    start = split * columns_per_split
    at = (local + tl.arange(0, BM)).to(tl.int64)[:, None] * weights_stride
    for column in range(start, tl.minimum(start + columns_per_split, m), BN):
        acc = product(q_rows, k_rows, row, column, D, BM, BN, BD, PRECISION)
        for part in tl.static_range(2):  # halves, whose column values fit the registers
            first = column + part * (BN // 2)
            cols = first + tl.arange(0, BN // 2)
            products = half(acc, part, BM, BN)
            if INVERSE:
                inverse = tl.load(k_inverse_ptr + cols)[None, :]
                products *= row_inverse * inverse
            logits = leave_out(products * scale, rows, cols, e0, e1, e2, e3, EXCLUDED)
            weights = exp(logits - row_lse) * row_grad
            if COLUMN:
                column_lse = tl.load(column_lse_ptr + cols)[None, :]
                weights += exp(logits - column_lse) * tl.load(column_grad_ptr + cols)[None, :]
            if INVERSE:
                weights *= row_inverse * inverse
            weights = as_operand(weights, q_ptr.dtype.element_ty, PRECISION)
            tl.store(pair_weights_ptr + at + cols[None, :], weights)


@kernel
def sides_kernel(
    lse_ptr, grad_ptr, closed_ptr, copy_ptr, factor_ptr, size, BLOCK: tl.constexpr
):  # fmt: skip
    """Inputs of the backward kernels for a side: lse, +inf if empty, grad, and grad · e^-lse."""
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    lse = _closed(tl.load(lse_ptr + i, mask=i < size, other=0.0))
    grad = tl.load(grad_ptr + i, mask=i < size, other=0.0)
    tl.store(closed_ptr + i, lse, mask=i < size)
    tl.store(copy_ptr + i, grad, mask=i < size)
    tl.store(factor_ptr + i, grad * exp(-lse), mask=i < size)


@triton.jit
def _closed(lse):
    """+inf if everything is excluded: e^(s - inf) = 0."""
    return tl.where(lse == float("-inf"), float("inf"), lse)


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
    row_lse = _closed(tl.load(row_lse_ptr + rows, mask=rows < n, other=0.0))
    row_grad = tl.load(row_grad_ptr + rows, mask=rows < n, other=0.0)
    weights = exp(logits - row_lse[:, None]) * row_grad[:, None]
    if COLUMN:
        column_lse = _closed(tl.load(column_lse_ptr + cols, mask=cols < m, other=0.0))
        column_grad = tl.load(column_grad_ptr + cols, mask=cols < m, other=0.0)
        weights += exp(logits - column_lse[None, :]) * column_grad[None, :]
    tl.store(out_ptr + at, weights.to(out_ptr.dtype.element_ty), mask=inside)
