"""The Triton kernel itself; its launcher is in triton.py."""

import triton
import triton.language as tl


@triton.jit
def _load_rows(x_ptr, rows, size, stride, depths, D: tl.constexpr):
    """Rows of x, zero outside: (rows, depths)."""
    mask = (rows < size)[:, None] & (depths < D)[None, :]
    pointers = x_ptr + rows.to(tl.int64)[:, None] * stride + depths[None, :]
    return tl.load(pointers, mask=mask, other=0.0)


@triton.jit
def _crosses(row, column, offset, BM: tl.constexpr, BN: tl.constexpr):
    """Whether the diagonal j - i = offset passes through the tile."""
    return (offset > column - row - BM) & (offset < column - row + BN)


@triton.jit
def _mask_tile(
    products, row, column, m, e0, e1, e2, e3,
    EXCLUDED: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr,
):  # fmt: skip
    """Put -inf outside the matrix and on excluded diagonals, in the few tiles that have any."""
    special = column + BN > m
    if EXCLUDED > 0:
        special = special | _crosses(row, column, e0, BM, BN)
    if EXCLUDED > 1:
        special = special | _crosses(row, column, e1, BM, BN)
    if EXCLUDED > 2:
        special = special | _crosses(row, column, e2, BM, BN)
    if EXCLUDED > 3:
        special = special | _crosses(row, column, e3, BM, BN)
    if special:
        rows = row + tl.arange(0, BM)
        cols = column + tl.arange(0, BN)
        offset = cols[None, :] - rows[:, None]
        keep = (cols < m)[None, :] & (rows >= 0)[:, None]
        if EXCLUDED > 0:
            keep = keep & (offset != e0)
        if EXCLUDED > 1:
            keep = keep & (offset != e1)
        if EXCLUDED > 2:
            keep = keep & (offset != e2)
        if EXCLUDED > 3:
            keep = keep & (offset != e3)
        products = tl.where(keep, products, float("-inf"))
    return products


@triton.jit
def _maximum(a, b):
    return tl.maximum(a, b, propagate_nan=tl.PropagateNan.ALL)


@triton.jit
def nearest_kernel(
    q_ptr, k_ptr, similarity_ptr, index_ptr, n, m, columns_per_split, q_stride, k_stride,
    e0, e1, e2, e3,
    D: tl.constexpr, EXCLUDED: tl.constexpr,
    BM: tl.constexpr, BN: tl.constexpr, BD: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """The largest product of each of a block of rows with one split of the columns, and where.

    similarity, index: (splits, n), float32 and int64; -inf and -1 where nothing is left.
    """
    row = tl.program_id(0) * BM
    split = tl.program_id(1)
    start = split * columns_per_split
    end = tl.minimum(start + columns_per_split, m)
    rows = row + tl.arange(0, BM)
    best = tl.full((BM,), float("-inf"), tl.float32)
    index = tl.full((BM,), -1, tl.int32)
    if BD >= D:
        q = _load_rows(q_ptr, rows, n, q_stride, tl.arange(0, BD), D)
    for column in range(start, end, BN):
        cols = column + tl.arange(0, BN)
        if BD >= D:
            k = _load_rows(k_ptr, cols, m, k_stride, tl.arange(0, BD), D)
            products = tl.dot(q, tl.trans(k), input_precision=PRECISION)
        else:
            products = tl.zeros((BM, BN), tl.float32)
            for depth in range(0, D, BD):
                depths = depth + tl.arange(0, BD)
                q = _load_rows(q_ptr, rows, n, q_stride, depths, D)
                k = _load_rows(k_ptr, cols, m, k_stride, depths, D)
                products = tl.dot(q, tl.trans(k), products, input_precision=PRECISION)
        products = _mask_tile(products, row, column, m, e0, e1, e2, e3, EXCLUDED, BM, BN)
        tile_best = tl.reduce(products, 1, _maximum)  # (BM,), NaN where there is one
        found = (products == tile_best[:, None]) | (products != products)
        tile_index = tl.min(tl.where(found, cols[None, :], m), 1)
        better = (best == best) & ((tile_best > best) | (tile_best != tile_best))
        best = tl.where(better, tile_best, best)
        index = tl.where(better, tile_index, index)
    at = split.to(tl.int64) * n + rows
    tl.store(similarity_ptr + at, best, mask=rows < n)
    tl.store(index_ptr + at, index.to(tl.int64), mask=rows < n)
