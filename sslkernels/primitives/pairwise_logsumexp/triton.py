"""Fused Triton kernels for d ≤ 512; above, matrix products and a Triton pass over each tile."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .._tile_table import BACKWARD, FORWARD, ceil, columns_per_split, lookup, rows_per_block
from .._tiles import fill_diagonals
from .._triton import RowKernel, fuses, launch, operand, total
from . import tiled
from .tiled import Side
from .triton_kernels import (
    backward_kernel,
    combine_kernel,
    forward_kernel,
    reduce_kernel,
    weigh_kernel,
)


def forward(
    q: Tensor, k: Tensor | None, scale: Tensor, exclude: Sequence[int], columns: bool
) -> tuple[Tensor, Tensor]:
    """Row and column log-sum-exp, (n,) and (m,) or empty; ``k=None`` means the symmetric case."""
    if not fuses(q, exclude, BACKWARD):
        return tiled.forward(q, k, scale, exclude, columns, reduce=_reduce)
    triangle = k is None
    q = operand(q)
    k = q if k is None else operand(k)
    n, m = q.shape[0], k.shape[0]
    tile = lookup(FORWARD, q)
    if triangle or columns:
        block_rows = block_columns = rows_per_block(tile, max(n, m))
    else:
        block_rows = tile.BM
        block_columns = columns_per_split(q, tile, m)
    row_blocks, column_blocks = ceil(n, block_rows), ceil(m, block_columns)
    row_partials = q.new_empty((2, column_blocks, n), dtype=torch.float32)
    column_partials = q.new_empty(
        (2, row_blocks, m if triangle or columns else 0), dtype=torch.float32
    )
    pairs = row_blocks * (row_blocks + 1) // 2 if triangle else row_blocks * column_blocks
    launch(
        forward_kernel,
        (pairs,),
        tile,
        q,
        k,
        [scale, _largest(q, k), *[scale] * 3, *row_partials, *column_partials, *[scale] * 2],
        [1, row_blocks, block_rows, block_columns],
        exclude,
        TRIANGLE=triangle,
        COLUMNS=triangle or columns,
        PARTS=False,
        INVERSE=False,
        LABELS=False,
    )
    row = _combine(row_partials, column_partials, block_rows, triangle)
    if triangle or not columns:
        return row, q.new_empty(0, dtype=torch.float32)
    return row, _combine(column_partials, row_partials, block_columns, False)


def backward(
    q: Tensor,
    k: Tensor | None,
    scale: Tensor,
    exclude: Sequence[int],
    row: Side,
    column: Side | None,
    need_q: bool,
    need_k: bool,
) -> tuple[Tensor | None, Tensor | None]:
    """Gradients of q and k over scale, in float32; None where not needed."""
    if not fuses(q, exclude, BACKWARD):
        return tiled.backward(q, k, scale, exclude, row, column, need_q, need_k, weigh=_weigh)
    symmetric, d = k is None, q.shape[1]
    q = operand(q)
    k = q if k is None else operand(k)
    row = _closed(row)
    column = row if symmetric else None if column is None else _closed(column)
    largest = _largest(q, k)
    dq = _gradient(q, k, d, scale, largest, exclude, row, column) if need_q else None
    if symmetric or not need_k:
        return dq, None
    mirrored = [-offset for offset in exclude]
    return dq, _gradient(k, q, d, scale, largest, mirrored, column, row)


def _gradient(
    q: Tensor,
    k: Tensor,
    d: int,
    scale: Tensor,
    largest: Tensor,
    exclude: Sequence[int],
    row: Side | None,
    column: Side | None,
) -> Tensor:
    kernel = RowKernel(backward_kernel, BACKWARD, q, k, exclude)
    gradient = q.new_empty((kernel.splits, *q.shape), dtype=torch.float32)
    sides = [*(row or (scale, scale)), *(column or (scale, scale))]  # None is not read
    kernel(
        [scale, largest, *[scale] * 4, *sides, *[scale] * 2, gradient, scale],
        [1, kernel.columns, 0],
        ROW=row is not None,
        COLUMN=column is not None,
        BOTH=False,
        PARTS=False,
        INVERSE=False,
        LABELS=False,
        SCALE=False,
    )
    return total(gradient[..., :d])


def _combine(partials: Tensor, others: Tensor, block: int, triangle: bool) -> Tensor:
    _, slots, size = partials.shape
    out = partials.new_empty(size)
    combine_kernel[(ceil(size, 128),)](
        *partials, *others, out, size, block, slots, TRIANGLE=triangle, BLOCK=128, num_warps=4
    )
    return out


def _reduce(
    products: Tensor,
    scale: Tensor,
    diagonals: Sequence[int],
    rows: Tensor,
    columns: Tensor | None,
) -> None:
    fill_diagonals(products, diagonals, float("-inf"))
    n, m = products.shape
    reduce_kernel[(ceil(n, 4),)](
        products, scale, rows, n, m, m, 1, BLOCK=4, LENGTH=1024, num_warps=4
    )
    if columns is not None:
        reduce_kernel[(ceil(m, 64),)](
            products, scale, columns, m, n, 1, m, BLOCK=64, LENGTH=64, num_warps=4
        )


def _weigh(
    products: Tensor,
    scale: Tensor,
    diagonals: Sequence[int],
    row: Side,
    column: Side | None,
    out: Tensor,
) -> None:
    fill_diagonals(products, diagonals, float("-inf"))
    n, m = products.shape
    weigh_kernel[(ceil(n, 16), ceil(m, 256))](
        products,
        scale,
        *_closed(row),
        *(_closed(column) if column else (scale, scale)),  # not read
        out,
        n,
        m,
        COLUMN=column is not None,
        BM=16,
        BN=256,
        num_warps=4,
    )


def _largest(q: Tensor, k: Tensor) -> Tensor:
    """A length whose square no product of the rows of q and k exceeds; NaN where an input is."""

    def largest_norm(x: Tensor) -> Tensor:
        return torch.linalg.vector_norm(x, dim=1, dtype=torch.float32).amax()

    q_norm = largest_norm(q)
    return q_norm if k is q else (q_norm * largest_norm(k)).sqrt_()


def _closed(side: Side) -> Side:
    """Where everything is excluded, +inf: e^(s - inf) = 0."""
    lse = side.logsumexp
    return Side(lse.masked_fill(torch.isneginf(lse), float("inf")), side.grad)
