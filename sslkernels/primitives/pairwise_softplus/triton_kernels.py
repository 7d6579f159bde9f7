"""The Triton kernels; their launchers are in triton.py."""

import triton
import triton.language as tl

from .._triton import (
    LN2,
    LOG2E,
    as_operand,
    half,
    kernel,
    load_rows,
    mask_tile,
    multiply,
    product,
)

LOG2E_REST = tl.constexpr(1.925963033e-08)  # log2(e) minus its float32 rounding


@triton.jit
def _decay(x):
    """e^-|x|, accurate for large |x| too; 0 from 104 on, so also for entries masked with -inf."""
    x = tl.maximum(-tl.abs(x), -104.0, propagate_nan=tl.PropagateNan.ALL)
    power = x * LOG2E
    rest = tl.fma(x, LOG2E, -power) + x * LOG2E_REST
    exp = tl.exp2(power)
    return tl.fma(exp, rest * LN2, exp)


@triton.jit
def softplus(x):
    """max(x, 0) + log(1 + t) with t = e^-|x|; log(1 + t) / t by its minimax polynomial of
    degree 8 on [0, 1], whose relative error in float32 is 1.1e-7."""
    t = _decay(x)
    p = t * 0.00523269083 - 0.0295052286
    p = p * t + 0.0782259479
    p = p * t - 0.136632457
    p = p * t + 0.191060081
    p = p * t - 0.24842982
    p = p * t + 0.333190978
    p = p * t - 0.499994934
    p = p * t + 0.99999994
    return tl.fma(t, p, tl.maximum(x, 0.0))


@triton.jit
def sigmoid(x):
    t = _decay(x)
    return tl.where(x < 0.0, t, 1.0) / (t + 1.0)


@triton.jit
def add(total, excess, more):
    """total + more, and the excess of float32 so far (Kahan)."""
    more = more - excess
    after = total + more
    excess = (after - total) - more
    return after, tl.where(tl.abs(after) == float("inf"), 0.0, excess)


@kernel
def forward_kernel(
    q_ptr, k_ptr, scale_ptr, bias_ptr, rows_ptr,
    n, m, columns_per_split, q_stride, k_stride, e0, e1, e2, e3,
    D: tl.constexpr, EXCLUDED: tl.constexpr,
    BM: tl.constexpr, BN: tl.constexpr, BD: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Σ_j softplus(s_ij) for a block of rows over a split of the columns. rows: (splits, n)."""
    row = tl.program_id(0) * BM
    split = tl.program_id(1)
    start = split * columns_per_split
    scale = tl.load(scale_ptr).to(tl.float32)
    bias = tl.load(bias_ptr).to(tl.float32)
    rows = row + tl.arange(0, BM)
    total = tl.zeros((BM,), tl.float32)
    excess = tl.zeros((BM,), tl.float32)
    q_rows = tl.make_tensor_descriptor(q_ptr, [n, D], [q_stride, 1], [BM, BD])
    k_rows = tl.make_tensor_descriptor(k_ptr, [m, D], [k_stride, 1], [BN, BD])
    q = q_rows.load([row, 0])
    for column in range(start, tl.minimum(start + columns_per_split, m), BN):
        acc = multiply(q, q_rows, k_rows, row, column, D, BM, BN, BD, PRECISION)
        logits = mask_tile(
            acc * scale + bias, row, column, n, m, e0, e1, e2, e3, EXCLUDED, False, BM, BN
        )  # (BM, BN)
        total, excess = add(total, excess, tl.sum(softplus(logits), 1))
    tl.store(rows_ptr + split.to(tl.int64) * n + rows, total, mask=rows < n)


@kernel
def backward_kernel(
    q_ptr, k_ptr, scale_ptr, bias_ptr, grad_ptr, gradient_ptr, sigma_ptr,
    n, m, columns_per_split, q_stride, k_stride, e0, e1, e2, e3,
    D: tl.constexpr, EXCLUDED: tl.constexpr, ROW: tl.constexpr, GRADIENT: tl.constexpr,
    BM: tl.constexpr, BN: tl.constexpr, BD: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """gradient_i = Σ_j G_ij k_j for a block of rows, if ``GRADIENT``. (splits, n, D), float32.

    ``ROW``: G_ij = grad_i · σ(s_ij), and sigma_i = Σ_j G_ij, (splits, n); else G_ij = grad_j ·
    σ(s_ij), for the gradient of k, whose rows then stand in q.
    """
    row = tl.program_id(0) * BM
    split = tl.program_id(1)
    start = split * columns_per_split
    scale = tl.load(scale_ptr).to(tl.float32)
    bias = tl.load(bias_ptr).to(tl.float32)
    rows = row + tl.arange(0, BM)
    depths = tl.arange(0, BD)
    q = load_rows(q_ptr, rows, n, q_stride, depths, D)
    if ROW:
        row_grad = tl.load(grad_ptr + rows, mask=rows < n, other=0.0)
        total = tl.zeros((BM,), tl.float32)
        excess = tl.zeros((BM,), tl.float32)
    gradient = tl.zeros((BM, BD), tl.float32)
    for column in range(start, tl.minimum(start + columns_per_split, m), BN):
        cols = column + tl.arange(0, BN)
        k = load_rows(k_ptr, cols, m, k_stride, depths, D)
        acc = tl.dot(q, tl.trans(k), input_precision=PRECISION)
        logits = mask_tile(
            acc * scale + bias, row, column, n, m, e0, e1, e2, e3, EXCLUDED, False, BM, BN
        )  # (BM, BN)
        sigma = sigmoid(logits)
        if ROW:
            total, excess = add(total, excess, tl.sum(sigma, 1))
            weights = sigma * row_grad[:, None]
        else:
            column_grad = tl.load(grad_ptr + cols, mask=cols < m, other=0.0)
            weights = sigma * column_grad[None, :]
        if GRADIENT:
            weights = as_operand(weights, k.dtype, PRECISION)
            gradient = tl.dot(weights, k, gradient, input_precision=PRECISION)
    at = split.to(tl.int64) * n + rows
    if ROW:
        tl.store(sigma_ptr + at, total * row_grad, mask=rows < n)
    if GRADIENT:
        mask = (rows < n)[:, None] & (depths < D)[None, :]
        tl.store(gradient_ptr + at[:, None] * D + depths[None, :], gradient, mask=mask)


@kernel
def weights_kernel(
    q_ptr, k_ptr, scale_ptr, bias_ptr, q_inverse_ptr, k_inverse_ptr, grad_ptr,
    loss_ptr, sigma_ptr, pair_weights_ptr,
    n, m, unit, columns_per_split, first_row, weights_stride, q_stride, k_stride, e0, e1, e2, e3,
    D: tl.constexpr, EXCLUDED: tl.constexpr, INVERSE: tl.constexpr,
    BM: tl.constexpr, BN: tl.constexpr, BD: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """G_ij = grad_i · σ(s_ij) from ``first_row`` on, in the dtype of q, for products.

    ``grad`` None: ``unit`` instead. Also sigma_i = Σ_j G_ij and loss_i = Σ_j softplus(s_ij),
    (splits, n), if there is memory for them; without ``pair_weights`` only loss. ``INVERSE``:
    s_ij = scale · ⟨q_i, k_j⟩ · q_inverse_i · k_inverse_j + bias, and G_ij times the last two.
    Rows and columns of ``pair_weights`` are whole tiles, and the inverses must be padded by a
    tile.
    """
    local = tl.program_id(0) * BM
    row = first_row + local
    split = tl.program_id(1)
    q_rows = tl.make_tensor_descriptor(q_ptr, [n, D], [q_stride, 1], [BM, BD])
    k_rows = tl.make_tensor_descriptor(k_ptr, [m, D], [k_stride, 1], [BN, BD])
    rows = row + tl.arange(0, BM)
    scale = tl.load(scale_ptr).to(tl.float32)
    bias = tl.load(bias_ptr).to(tl.float32)
    total = tl.zeros((BM,), tl.float32)
    excess = tl.zeros((BM,), tl.float32)
    sigmas = tl.zeros((BM,), tl.float32)
    over = tl.zeros((BM,), tl.float32)
    grad = tl.full((BM,), 1.0, tl.float32) * unit
    if grad_ptr is not None:
        grad = tl.load(grad_ptr + rows, mask=rows < n, other=0.0)
    if INVERSE:
        row_inverse = tl.load(q_inverse_ptr + rows)[:, None]
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
            logits = mask_tile(
                products * scale + bias, row, first, n, m, e0, e1, e2, e3, EXCLUDED, False,
                BM, BN // 2,
            )  # fmt: skip
            if loss_ptr is not None:
                total, excess = add(total, excess, tl.sum(softplus(logits), 1))
            if pair_weights_ptr is not None:
                weights = sigmoid(logits)
                sigmas, over = add(sigmas, over, tl.sum(weights, 1))
                weights *= grad[:, None]
                if INVERSE:
                    weights *= row_inverse * inverse
                weights = as_operand(weights, q_ptr.dtype.element_ty, PRECISION)
                tl.store(pair_weights_ptr + at + cols[None, :], weights)
    at = split.to(tl.int64) * n + rows
    if loss_ptr is not None:
        tl.store(loss_ptr + at, total, mask=rows < n)
    if pair_weights_ptr is not None:
        tl.store(sigma_ptr + at, sigmas * grad, mask=rows < n)


@kernel(widths=("m",))
def reduce_kernel(
    products_ptr, scale_ptr, bias_ptr, sums_ptr, n, m, BLOCK: tl.constexpr, LENGTH: tl.constexpr,
):  # fmt: skip
    """sums_i += Σ_j softplus(s_ij) for a contiguous (n, m) tile of products; -inf is left out."""
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    total = tl.load(sums_ptr + i, mask=i < n, other=0.0)
    for start in range(0, m, LENGTH):
        logits, _, _ = _logits(products_ptr, scale_ptr, bias_ptr, i, start, n, m, LENGTH)
        total += tl.sum(softplus(logits), 1).to(tl.float64)
    tl.store(sums_ptr + i, total, mask=i < n)


@kernel(widths=("m",))
def weigh_kernel(
    products_ptr, scale_ptr, bias_ptr, grad_ptr, sums_ptr, out_ptr, n, m,
    BLOCK: tl.constexpr, LENGTH: tl.constexpr,
):  # fmt: skip
    """out_ij = grad_i · σ(s_ij) for a contiguous (n, m) tile of products; sums_i += Σ_j out_ij."""
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    grad = tl.load(grad_ptr + i, mask=i < n, other=0.0)
    total = tl.load(sums_ptr + i, mask=i < n, other=0.0)
    for start in range(0, m, LENGTH):
        logits, at, inside = _logits(products_ptr, scale_ptr, bias_ptr, i, start, n, m, LENGTH)
        weights = sigmoid(logits) * grad[:, None]
        total += tl.sum(weights, 1).to(tl.float64)
        tl.store(out_ptr + at, weights.to(out_ptr.dtype.element_ty), mask=inside)
    tl.store(sums_ptr + i, total, mask=i < n)


@triton.jit
def _logits(products_ptr, scale_ptr, bias_ptr, i, start, n, m, LENGTH: tl.constexpr):
    """(rows, LENGTH) logits, their offsets, and the mask of the inside of the tile."""
    j = start + tl.arange(0, LENGTH)
    inside = (i < n)[:, None] & (j < m)[None, :]
    at = i[:, None] * m + j[None, :]
    scale = tl.load(scale_ptr).to(tl.float32)
    bias = tl.load(bias_ptr).to(tl.float32)
    products = tl.load(products_ptr + at, mask=inside, other=float("-inf"))
    masked = products == float("-inf")
    return tl.where(masked, float("-inf"), products * scale + bias), at, inside
