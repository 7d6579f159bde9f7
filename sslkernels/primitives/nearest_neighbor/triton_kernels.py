"""The Triton kernel; its launcher is in triton.py."""

import triton
import triton.language as tl

from .._triton import kernel, mask_tile, multiply


@triton.jit
def _maximum(a, b):
    return tl.maximum(a, b, propagate_nan=tl.PropagateNan.ALL)


@kernel
def nearest_kernel(
    q_ptr, k_ptr, similarity_ptr, index_ptr, n, m, columns_per_split, q_stride, k_stride,
    e0, e1, e2, e3,
    D: tl.constexpr, EXCLUDED: tl.constexpr,
    BM: tl.constexpr, BN: tl.constexpr, BD: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """The largest product of each row of a block with one split of the columns, and its column.

    similarity, index: (splits, n), float32 and int64; -inf and -1 if no entry is left.
    """
    row = tl.program_id(0) * BM
    split = tl.program_id(1)
    start = split * columns_per_split
    end = tl.minimum(start + columns_per_split, m)
    rows = row + tl.arange(0, BM)
    best = tl.full((BM,), float("-inf"), tl.float32)
    index = tl.full((BM,), -1, tl.int32)
    q_rows = tl.make_tensor_descriptor(q_ptr, [n, D], [q_stride, 1], [BM, BD])
    k_rows = tl.make_tensor_descriptor(k_ptr, [m, D], [k_stride, 1], [BN, BD])
    q = q_rows.load([row, 0])
    for column in range(start, end, BN):
        products = multiply(q, q_rows, k_rows, row, column, D, BM, BN, BD, PRECISION)  # (BM, BN)
        end_row = row + BM  # rows past n need no mask: they are not stored
        products = mask_tile(
            products, row, column, end_row, m, e0, e1, e2, e3, EXCLUDED, False, BM, BN
        )
        tile_best = tl.reduce(products, 1, _maximum)  # (BM,), NaN if there is one
        better = (best == best) & ((tile_best > best) | (tile_best != tile_best))
        if tl.max(better.to(tl.int32), 0) > 0:  # otherwise no index changes
            cols = column + tl.arange(0, BN)
            found = (products == tile_best[:, None]) | (products != products)
            tile_index = tl.min(tl.where(found, cols[None, :], m), 1)
            best = tl.where(better, tile_best, best)
            index = tl.where(better, tile_index, index)
    at = split.to(tl.int64) * n + rows
    tl.store(similarity_ptr + at, best, mask=rows < n)
    tl.store(index_ptr + at, index.to(tl.int64), mask=rows < n)
