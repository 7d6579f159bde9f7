"""Row-wise steps before and after the products of all pairs.

Inputs are matrices: the queries, in one matrix or two (``TWO``: ``other`` follows ``query`` from
row ``first``), keys and positives. POSITIVE says which row is the positive of query i: NONE, with
labels; SELF, query i + offset; KEY, key i + offset; GIVEN, row i of ``positive``.
"""

import triton
import triton.language as tl

from .._triton import kernel, load_rows, round_to_tf32
from ..pairwise_softplus.triton_kernels import sigmoid, softplus

NONE, SELF, KEY, GIVEN = (tl.constexpr(i) for i in range(4))


@triton.jit
def _query_rows(
    query_ptr, other_ptr, rows, first, n, query_stride, other_stride, depths,
    D: tl.constexpr, TWO: tl.constexpr,
):  # fmt: skip
    """Rows of the queries in float32, zero outside: (rows, depths)."""
    x = load_rows(query_ptr, rows, first, query_stride, depths, D).to(tl.float32)
    if TWO:
        later = tl.where(rows < first, n, rows - first)
        x += load_rows(other_ptr, later, n - first, other_stride, depths, D)
    return x


@triton.jit
def _norm(x):
    return tl.sqrt_rn(tl.sum(x * x, 1))


@triton.jit
def _inverse(norm, UNIT: tl.constexpr):
    """The factors of rows: 1, or the inverse of their length, 0 for zero rows."""
    ones = tl.full(norm.shape, 1.0, tl.float32)
    return tl.where(norm <= 1e-12, 0.0, tl.div_rn(ones, norm)) if UNIT else ones


@triton.jit
def _store_operand(
    x, norm, inverse, x_ptr, inverse_ptr, largest_ptr, rows, size, x_stride, depths,
    UNIT: tl.constexpr, COPY: tl.constexpr, RAW: tl.constexpr, ROUNDED: tl.constexpr,
):  # fmt: skip
    """Store the rows as operands of products, their factors, and the largest length with these."""
    tl.store(inverse_ptr + rows, inverse, mask=rows < size)
    tl.store(largest_ptr, tl.max(tl.where(norm == norm, norm * inverse, float("inf")), 0))
    if COPY:
        if UNIT and not RAW:
            x = tl.where((norm <= 1e-12)[:, None], 0.0, x / norm[:, None])
        if ROUNDED:
            x = round_to_tf32(x)
        mask = (rows < size)[:, None] & (depths < x_stride)[None, :]
        tl.store(x_ptr + rows.to(tl.int64)[:, None] * x_stride + depths[None, :], x, mask=mask)


@kernel
def prepare_kernel(
    query_ptr, other_ptr, key_ptr, positive_ptr, scale_ptr, bias_ptr,
    x_ptr, inverse_ptr, largest_ptr, similarity_ptr, scalars_ptr,
    scale, bias, first, n, m, offset,
    query_stride, other_stride, key_stride, positive_stride, x_stride,
    D: tl.constexpr, TWO: tl.constexpr, KEYS: tl.constexpr, COPY_KEYS: tl.constexpr,
    POSITIVE: tl.constexpr,
    UNIT_QUERY: tl.constexpr, UNIT_KEY: tl.constexpr, UNIT_POSITIVE: tl.constexpr,
    RAW: tl.constexpr, ROUNDED: tl.constexpr, BM: tl.constexpr, BD: tl.constexpr,
):  # fmt: skip
    """x: the queries and, if ``COPY_KEYS``, the keys below them, (n + m, width), zeros after D.

    Rows are written unchanged (``RAW``) or times their factors ``inverse`` (n + m). largest: the
    maximum length, for every program. ``KEYS``: the keys are not the queries. similarity: of
    queries and their positives (n). scalars: scale and bias, copied from their sources.
    """
    block = tl.program_id(0)
    if block == 0:
        if scale_ptr is not None:
            scale = tl.load(scale_ptr).to(tl.float32)
        if bias_ptr is not None:
            bias = tl.load(bias_ptr).to(tl.float32)
        tl.store(scalars_ptr, scale)
        tl.store(scalars_ptr + 1, bias)
    depths = tl.arange(0, BD)
    rows = block * BM + tl.arange(0, BM)
    query_blocks = tl.cdiv(n, BM)
    if block < query_blocks:
        x = _query_rows(
            query_ptr, other_ptr, rows, first, n, query_stride, other_stride, depths, D, TWO
        )  # (BM, BD)
        norm = _norm(x)
        inverse = _inverse(norm, UNIT_QUERY)
        _store_operand(
            x, norm, inverse, x_ptr, inverse_ptr, largest_ptr + block, rows, n, x_stride, depths,
            UNIT_QUERY, True, RAW, ROUNDED,
        )  # fmt: skip
        if POSITIVE != NONE:
            if POSITIVE == SELF:
                y = _query_rows(
                    query_ptr, other_ptr, (rows + offset) % n, first, n,
                    query_stride, other_stride, depths, D, TWO,
                )  # fmt: skip
                factor = _inverse(_norm(y), UNIT_QUERY)
            elif POSITIVE == KEY:
                y = load_rows(key_ptr, (rows + offset) % m, m, key_stride, depths, D)
                factor = _inverse(_norm(y.to(tl.float32)), UNIT_KEY)
            else:
                y = load_rows(positive_ptr, rows, n, positive_stride, depths, D)
                factor = _inverse(_norm(y.to(tl.float32)), UNIT_POSITIVE)
            y = y.to(tl.float32) * factor[:, None]
            similarity = tl.sum(x * inverse[:, None] * y, 1)
            tl.store(similarity_ptr + rows, similarity, mask=rows < n)
    elif KEYS:
        rows -= query_blocks * BM
        x = load_rows(key_ptr, rows, m, key_stride, depths, D).to(tl.float32)
        norm = _norm(x)
        _store_operand(
            x, norm, _inverse(norm, UNIT_KEY), x_ptr + n.to(tl.int64) * x_stride, inverse_ptr + n,
            largest_ptr + block, rows, m, x_stride, depths, UNIT_KEY, COPY_KEYS, RAW, ROUNDED,
        )  # fmt: skip


@triton.jit
def _pull(
    i, inside, n, m, offset, similarity_ptr, weights_ptr, grad_ptr, scalars_ptr, unit,
    SIGMOID: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """Derivatives of some queries' losses in the positives' similarities, over scale."""
    if SIGMOID:
        positive = tl.load(scalars_ptr) * tl.load(similarity_ptr + i, mask=inside, other=0.0)
        return -unit * sigmoid(-positive - tl.load(scalars_ptr + 1))
    grad = tl.load(grad_ptr + i, mask=inside, other=0.0)
    if COLUMNS:
        grad += tl.load(grad_ptr + n + (i + offset) % m, mask=inside, other=0.0)
    if weights_ptr is not None:
        grad *= tl.load(weights_ptr + i, mask=inside, other=0.0)
    return -grad


@triton.jit
def _total(
    similarity_ptr, weights_ptr, grad_ptr, scalars_ptr, loss_ptr, weighted_ptr, sigma_ptr,
    out_ptr, derivatives_ptr, n, m, height, losses, splits, sigmas, sigma_height, offset, unit,
    factor, scale_at, bias_at,
    SYMMETRIC: tl.constexpr, POSITIVE: tl.constexpr, SIGMOID: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """The loss, and its derivatives in scale and bias."""
    loss = tl.zeros((1024,), tl.float64)
    for start in range(0, losses, 1024):
        i = start + tl.arange(0, 1024)
        loss += tl.load(loss_ptr + i, mask=i < losses, other=0.0).to(tl.float64)
    by_scale = tl.zeros((1024,), tl.float64)
    by_bias = tl.zeros((1024,), tl.float64)
    for start in range(0, n, 1024):
        i = start + tl.arange(0, 1024)
        inside = i < n
        similarity = tl.zeros((1024,), tl.float32)
        pull = tl.zeros((1024,), tl.float32)
        if POSITIVE != NONE:
            similarity = tl.load(similarity_ptr + i, mask=inside, other=0.0)
            if (scale_at >= 0) | (bias_at >= 0):
                pull = _pull(
                    i, inside, n, m, offset, similarity_ptr, weights_ptr, grad_ptr, scalars_ptr,
                    unit, SIGMOID, COLUMNS,
                )  # fmt: skip
                pull = tl.where(inside, pull, 0.0)
        if SIGMOID:
            positive = tl.load(scalars_ptr) * similarity + tl.load(scalars_ptr + 1)
            loss += tl.where(inside, softplus(-positive), 0.0).to(tl.float64)
        by_bias += pull.to(tl.float64)
        by_scale += pull.to(tl.float64) * similarity
        if scale_at >= 0:
            at = i.to(tl.int64)
            for _ in range(splits):
                more = tl.load(weighted_ptr + at, mask=inside, other=0.0).to(tl.float64)
                by_scale += more * 0.5 if SYMMETRIC else more  # each pair counts twice
                at += height
        if SIGMOID and bias_at >= 0:
            at = i.to(tl.int64)
            for _ in range(sigmas):
                by_bias += tl.load(sigma_ptr + at, mask=inside, other=0.0).to(tl.float64)
                at += sigma_height
    tl.store(out_ptr, tl.sum(loss, 0) * factor)
    if scale_at >= 0:
        tl.store(derivatives_ptr + scale_at, tl.sum(by_scale, 0) * factor / unit)
    if bias_at >= 0:
        tl.store(derivatives_ptr + bias_at, tl.sum(by_bias, 0) * factor / unit)


@triton.jit
def _project(gradient, x, inverse, UNIT: tl.constexpr):
    """Backward through the normalisation of rows x."""
    if not UNIT:
        return gradient
    z = x * inverse[:, None]
    along = tl.sum(gradient * z, 1)
    return (gradient - along[:, None] * z) * inverse[:, None]


@triton.jit
def _over(gradient, inverse):
    return tl.where(inverse[:, None] == 0.0, 0.0, gradient / inverse[:, None])


@triton.jit
def _store_rows(x, out_ptr, at, rows, size, depths, D: tl.constexpr):
    """Store rows in a contiguous matrix that begins at ``at``, unless it is negative."""
    mask = (rows < tl.where(at >= 0, size, 0))[:, None] & (depths < D)[None, :]
    tl.store(out_ptr + at + rows.to(tl.int64)[:, None] * D + depths[None, :], x, mask=mask)


@triton.jit
def _summed(gradient_ptr, rows, size, height, splits, width, depths):
    """The sum over the splits of the backward kernel: (rows, depths)."""
    total = tl.zeros((rows.shape[0], depths.shape[0]), tl.float32)
    mask = (rows < size)[:, None] & (depths < width)[None, :]
    at = rows.to(tl.int64)
    for _ in range(splits):
        total += tl.load(gradient_ptr + at[:, None] * width + depths[None, :], mask=mask, other=0.0)
        at += height
    return total


@kernel
def finish_kernel(
    query_ptr, other_ptr, key_ptr, positive_ptr, inverse_ptr, similarity_ptr, weights_ptr,
    grad_ptr, gradient_ptr, weighted_ptr, sigma_ptr, scalars_ptr, loss_ptr, counted_ptr,
    out_ptr, derivatives_ptr,
    first, n, m, height, losses, splits, sigmas, sigma_height, offset, unit,
    query_at, other_at, key_at, positive_at, scale_at, bias_at,
    query_stride, other_stride, key_stride, positive_stride, width,
    D: tl.constexpr, TWO: tl.constexpr, KEYS: tl.constexpr, SYMMETRIC: tl.constexpr,
    POSITIVE: tl.constexpr, SIGMOID: tl.constexpr, COLUMNS: tl.constexpr, SCALED: tl.constexpr,
    UNIT_QUERY: tl.constexpr, UNIT_KEY: tl.constexpr, UNIT_POSITIVE: tl.constexpr,
    BM: tl.constexpr, BD: tl.constexpr,
):  # fmt: skip
    """The first program: the loss and the derivatives in scalars. The others: those in rows.

    ``*_at``: offsets of derivatives, or -1. gradient: from the backward kernel, (splits, height,
    width), ``unit`` times that of the sum over rows, and if ``SCALED`` times ``inverse``. counted:
    the number of queries in the mean, if not all. ``KEYS``: they have derivatives.
    """
    factor = 1.0 / n
    if counted_ptr is not None:
        factor = 1.0 / tl.maximum(tl.load(counted_ptr), 1.0)
    block = tl.program_id(0) - 1
    if block < 0:
        _total(
            similarity_ptr, weights_ptr, grad_ptr, scalars_ptr, loss_ptr, weighted_ptr, sigma_ptr,
            out_ptr, derivatives_ptr, n, m, height, losses, splits, sigmas, sigma_height, offset,
            unit, factor, scale_at, bias_at, SYMMETRIC, POSITIVE, SIGMOID, COLUMNS,
        )  # fmt: skip
    else:
        factor *= tl.load(scalars_ptr) / unit
        depths = tl.arange(0, BD)
        rows = block * BM + tl.arange(0, BM)
        query_blocks = tl.cdiv(n, BM)
        key_blocks = tl.cdiv(m, BM) if KEYS else 0
        if block < query_blocks:
            gradient = _summed(gradient_ptr, rows, n, height, splits, width, depths)
            inside = rows < n
            inverse = tl.load(inverse_ptr + rows, mask=inside, other=0.0)
            if SCALED:
                gradient = _over(gradient, inverse)
            if POSITIVE != NONE:
                pull = _pull(
                    rows, inside, n, m, offset, similarity_ptr, weights_ptr, grad_ptr, scalars_ptr,
                    unit, SIGMOID, COLUMNS,
                )  # fmt: skip
                if POSITIVE == SELF:
                    at = (rows + offset) % n
                    y = _query_rows(
                        query_ptr, other_ptr, at, first, n, query_stride, other_stride, depths,
                        D, TWO,
                    )  # fmt: skip
                    pull *= tl.load(inverse_ptr + at)
                elif POSITIVE == KEY:
                    at = (rows + offset) % m
                    y = load_rows(key_ptr, at, m, key_stride, depths, D).to(tl.float32)
                    pull *= tl.load(inverse_ptr + n + at)
                else:
                    y = load_rows(positive_ptr, rows, n, positive_stride, depths, D).to(tl.float32)
                    pull *= _inverse(_norm(y), UNIT_POSITIVE)
                gradient += pull[:, None] * y
                if POSITIVE == SELF:  # it is also the positive of another query
                    at = (rows + n - offset) % n
                    y = _query_rows(
                        query_ptr, other_ptr, at, first, n, query_stride, other_stride, depths,
                        D, TWO,
                    )  # fmt: skip
                    pull = _pull(
                        at, inside, n, m, offset, similarity_ptr, weights_ptr, grad_ptr,
                        scalars_ptr, unit, SIGMOID, COLUMNS,
                    )  # fmt: skip
                    gradient += (pull * tl.load(inverse_ptr + at))[:, None] * y
            x = _query_rows(
                query_ptr, other_ptr, rows, first, n, query_stride, other_stride, depths, D, TWO
            )
            gradient = _project(gradient, x, inverse, UNIT_QUERY) * factor
            _store_rows(gradient, derivatives_ptr, query_at, rows, first, depths, D)
            if TWO:
                later = tl.where(rows < first, n, rows - first)
                _store_rows(gradient, derivatives_ptr, other_at, later, n - first, depths, D)
        elif block < query_blocks + key_blocks:
            if KEYS:
                rows -= query_blocks * BM
                inside = rows < m
                gradient = _summed(
                    gradient_ptr + n.to(tl.int64) * width, rows, m, height, splits, width, depths
                )
                inverse = tl.load(inverse_ptr + n + rows, mask=inside, other=0.0)
                if SCALED:
                    gradient = _over(gradient, inverse)
                if POSITIVE == KEY:
                    at = (rows + m - offset) % m
                    y = _query_rows(
                        query_ptr,
                        other_ptr,
                        at,
                        first,
                        n,
                        query_stride,
                        other_stride,
                        depths,
                        D,
                        TWO,
                    )
                    is_positive = inside & (at < n)
                    pull = _pull(
                        at, is_positive, n, m, offset, similarity_ptr, weights_ptr, grad_ptr,
                        scalars_ptr, unit, SIGMOID, COLUMNS,
                    )  # fmt: skip
                    pull *= tl.load(inverse_ptr + at, mask=is_positive, other=0.0)
                    gradient += pull[:, None] * y
                x = load_rows(key_ptr, rows, m, key_stride, depths, D).to(tl.float32)
                gradient = _project(gradient, x, inverse, UNIT_KEY) * factor
                _store_rows(gradient, derivatives_ptr, key_at, rows, m, depths, D)
        elif POSITIVE == GIVEN:
            rows -= (query_blocks + key_blocks) * BM
            inside = rows < n
            pull = _pull(
                rows, inside, n, m, offset, similarity_ptr, weights_ptr, grad_ptr, scalars_ptr,
                unit, SIGMOID, COLUMNS,
            )  # fmt: skip
            y = _query_rows(
                query_ptr, other_ptr, rows, first, n, query_stride, other_stride, depths, D, TWO
            )
            pull *= tl.load(inverse_ptr + rows, mask=inside, other=0.0)
            x = load_rows(positive_ptr, rows, n, positive_stride, depths, D).to(tl.float32)
            gradient = pull[:, None] * y
            inverse = _inverse(_norm(x), UNIT_POSITIVE)
            gradient = _project(gradient, x, inverse, UNIT_POSITIVE) * factor
            _store_rows(gradient, derivatives_ptr, positive_at, rows, n, depths, D)
