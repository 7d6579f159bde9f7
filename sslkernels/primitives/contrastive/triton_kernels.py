"""Kernels over all pairs, in addition to those of ``pairwise_logsumexp``: losses and weights."""

import triton.language as tl

from .._triton import as_operand, exp, kernel, load_rows, mask_tile, mirrored
from ..pairwise_logsumexp.triton_kernels import combine
from ..pairwise_softplus.triton_kernels import add, sigmoid, softplus


@kernel
def margins_kernel(
    row_max_ptr, row_sum_ptr, column_max_ptr, column_sum_ptr, same_ptr, count_ptr,
    similarity_ptr, weights_ptr, scalars_ptr,
    loss_ptr, lse_ptr, grad_ptr, factor_ptr, share_ptr, counted_ptr,
    n, m, block_size, row_blocks, column_blocks, offset, part, unit,
    TRIANGLE: tl.constexpr, COLUMNS: tl.constexpr, LABELS: tl.constexpr,
    DECOUPLED: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """From the forward kernel's partial sums to losses of the rows, and of the columns if
    ``COLUMNS``.

    Concatenated, (n + m): log-sum-exps, +inf if empty; losses times ``part``; grad, their
    derivatives in the log-sum-exps times ``unit``; factor, grad · e^-lse. With labels also share,
    grad over the number of positives (n), and whether there are any.
    """
    block = tl.program_id(0)
    scale = tl.load(scalars_ptr)
    row_programs = tl.cdiv(n, BLOCK)
    if block < row_programs:
        i = block * BLOCK + tl.arange(0, BLOCK)
        inside, at = i < n, i
        logsumexp = combine(
            row_max_ptr, row_sum_ptr, column_max_ptr, column_sum_ptr, i, n, block_size,
            column_blocks, TRIANGLE, BLOCK,
        )  # fmt: skip
        query = i
    else:
        i = (block - row_programs) * BLOCK + tl.arange(0, BLOCK)
        inside, at = i < m, n + i
        query = (i + m - offset) % m
        if COLUMNS:
            logsumexp = combine(
                column_max_ptr, column_sum_ptr, row_max_ptr, row_sum_ptr, i, m, block_size,
                row_blocks, False, BLOCK,
            )  # fmt: skip
        else:
            logsumexp = tl.full((BLOCK,), float("-inf"), tl.float32)
            part = 0.0
    if LABELS:
        total = tl.zeros((BLOCK,), tl.float32)
        count = tl.zeros((BLOCK,), tl.float32)
        for slot in range(column_blocks):
            total += tl.load(same_ptr + slot * n + i, mask=inside, other=0.0)
            count += tl.load(count_ptr + slot * n + i, mask=inside, other=0.0)
        positive = total / tl.maximum(count, 1.0)
    else:
        positive = scale * tl.load(similarity_ptr + query, mask=inside & (query < n), other=0.0)
    if weights_ptr is not None:
        positive *= tl.load(weights_ptr + query, mask=inside & (query < n), other=0.0)
    margin = logsumexp - positive
    if DECOUPLED:
        loss = margin
        grad = tl.full((BLOCK,), 1.0, tl.float32)
    else:
        loss = softplus(margin)
        grad = sigmoid(margin)
    grad *= part * unit
    if LABELS:
        loss = tl.where(count > 0, loss, 0.0)
        grad = tl.where(count > 0, grad, 0.0)
        share = grad / tl.maximum(count, 1.0)
        if weights_ptr is not None:
            share *= tl.load(weights_ptr + query, mask=inside, other=0.0)
        tl.store(share_ptr + i, share, mask=inside)
        tl.store(counted_ptr + i, (count > 0).to(tl.float32), mask=inside)
    is_empty = logsumexp == float("-inf")
    tl.store(loss_ptr + at, loss * part, mask=inside)
    tl.store(grad_ptr + at, grad, mask=inside)
    logsumexp = tl.where(is_empty, float("inf"), logsumexp)
    tl.store(lse_ptr + at, logsumexp, mask=inside)
    tl.store(factor_ptr + at, grad * exp(-logsumexp), mask=inside)


@kernel
def sigmoid_kernel(
    q_ptr, k_ptr, scalars_ptr, q_inverse_ptr, k_inverse_ptr,
    loss_ptr, sigma_ptr, weighted_ptr, gradient_ptr,
    n, m, columns_per_split, first_block, unit, q_stride, k_stride, e0, e1, e2, e3,
    D: tl.constexpr, EXCLUDED: tl.constexpr, BOTH: tl.constexpr, INVERSE: tl.constexpr,
    GRADIENT: tl.constexpr,
    BM: tl.constexpr, BN: tl.constexpr, BD: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """loss_i = Σ_j softplus(s_ij) (splits, n) and, if ``GRADIENT``, times ``unit``: sigma_i = Σ_j
    σ(s_ij), weighted_i = Σ_j σ(s_ij) (s_ij − bias) / scale and gradient_i = Σ_j σ(s_ij) k_j.

    ``BOTH`` and ``INVERSE``: see the backward kernel of pairwise_logsumexp.
    """
    row, first, height = tl.program_id(0) + first_block, 0, n
    split = tl.program_id(1)
    scale = tl.load(scalars_ptr)
    bias = tl.load(scalars_ptr + 1)
    is_key = False
    if BOTH:
        height = n + m
        is_key = row >= tl.cdiv(n, BM)
        row = tl.where(is_key, row - tl.cdiv(n, BM), row)
        first, second = tl.where(is_key, n, 0), tl.where(is_key, 0, n)
        n, m = tl.where(is_key, m, n), tl.where(is_key, n, m)
        e0, e1, e2, e3 = mirrored(is_key, e0, e1, e2, e3, EXCLUDED)
        k_ptr = q_ptr + second.to(tl.int64) * q_stride
        q_ptr += first.to(tl.int64) * q_stride
        q_inverse_ptr += first
        k_inverse_ptr += second
    row = row * BM
    rows = row + tl.arange(0, BM)
    depths = tl.arange(0, BD)
    q = load_rows(q_ptr, rows, n, q_stride, depths, D)
    if INVERSE:
        scale = scale * tl.load(q_inverse_ptr + rows, mask=rows < n, other=0.0)[:, None]
    gradient = tl.zeros((BM, BD), tl.float32)
    total = tl.zeros((BM,), tl.float32)
    excess = tl.zeros((BM,), tl.float32)
    sigmas = tl.zeros((BM,), tl.float32)
    weighted = tl.zeros((BM,), tl.float32)
    start = split * columns_per_split
    for column in range(start, tl.minimum(start + columns_per_split, m), BN):
        cols = column + tl.arange(0, BN)
        k = load_rows(k_ptr, cols, m, k_stride, depths, D)
        acc = tl.dot(q, tl.trans(k), input_precision=PRECISION)
        if INVERSE:
            inverse = tl.load(k_inverse_ptr + cols, mask=cols < m, other=0.0)
            acc = acc * inverse[None, :]
        logits = mask_tile(
            acc * scale + bias, row, column, n, m, e0, e1, e2, e3, EXCLUDED, False, BM, BN
        )  # (BM, BN)
        losses = tl.sum(softplus(logits), 1)
        if GRADIENT:
            total += losses
            weights = sigmoid(logits)
            sigmas += tl.sum(weights, 1)
            weighted += tl.sum(weights * acc, 1)
            if INVERSE:
                weights = weights * inverse[None, :]
            weights = as_operand(weights * unit, k.dtype, PRECISION)
            gradient = tl.dot(weights, k, gradient, input_precision=PRECISION)
        else:
            total, excess = add(total, excess, losses)
    at = split.to(tl.int64) * n + rows
    tl.store(loss_ptr + at, total, mask=(rows < n) & (not is_key))
    if GRADIENT:
        if INVERSE:
            weighted = weighted * tl.load(q_inverse_ptr + rows, mask=rows < n, other=0.0)
        at = split.to(tl.int64) * height + first + rows
        tl.store(sigma_ptr + at, sigmas * unit, mask=rows < n)
        tl.store(weighted_ptr + at, weighted * unit, mask=rows < n)
        mask = (rows < n)[:, None] & (depths < D)[None, :]
        tl.store(gradient_ptr + at[:, None] * D + depths[None, :], gradient, mask=mask)


@kernel(widths=("width",))
def weighted_kernel(
    gradient_ptr, q_ptr, weighted_ptr, n, q_stride, width, BM: tl.constexpr, BD: tl.constexpr
):
    """The dot product of each row of the gradient, which is contiguous, with that of q."""
    rows = tl.program_id(0) * BM + tl.arange(0, BM)
    depths = tl.arange(0, BD)
    mask = (rows < n)[:, None] & (depths < width)[None, :]
    at = rows.to(tl.int64)[:, None]
    gradient = tl.load(gradient_ptr + at * width + depths[None, :], mask=mask, other=0.0)
    q = tl.load(q_ptr + at * q_stride + depths[None, :], mask=mask, other=0.0)
    tl.store(weighted_ptr + rows, tl.sum(gradient * q.to(tl.float32), 1), mask=rows < n)
