"""Fused Triton kernels; gradients of wide embeddings by library products. Without tensor cores,
matrix products and a Triton pass over each tile.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from .._chunks import gradients, launch_weights
from .._tile_table import (
    BACKWARD,
    DEEP,
    FORWARD,
    WEIGHTS,
    ceil,
    columns_per_split,
    in_pieces,
    is_deep,
    lookup,
    multiprocessors,
    parts,
    rows_per_block,
)
from .._tiles import fill_diagonals
from .._triton import RowKernel, fuses, launch, operand, total, vectors
from . import tiled
from .tiled import Side
from .triton_backward import backward_kernel, sides_kernel, weigh_kernel, weights_kernel
from .triton_kernels import combine_kernel, deep_forward_kernel, forward_kernel, reduce_kernel


class Partials(NamedTuple):
    """Partial sums over blocks: maxima and sums of e^(logits - maximum), (2, slots, size)."""

    rows: Tensor
    columns: Tensor
    same: Tensor  # with labels (2, slots, n): sum and number of logits of the same label
    block: int  # rows (and in a triangle, columns) per slot


def partial_sums(
    q: Tensor,
    k: Tensor,
    scale: Tensor,
    largest: Tensor,
    exclude: Sequence[int],
    columns: bool,
    triangle: bool,
    inverses: tuple[Tensor, Tensor] | None = None,
    labels: Tensor | None = None,
) -> Partials:
    """Partial sums of the rows, and with ``columns`` or ``triangle`` of the columns.

    ``largest``: maximum lengths, see ``is_free``. ``inverses``: factors of the rows of q and k.
    """
    if is_deep(FORWARD, q) or labels is not None:
        return _deep_sums(q, k, scale, exclude, columns, triangle, inverses, labels)
    # the resident side keeps its sums in registers: the rows, if only they have sums
    is_swapped = not (columns or triangle)
    rows, cols = (k, q) if is_swapped else (q, k)
    n, m, tile = rows.shape[0], cols.shape[0], lookup(FORWARD, q)
    if is_swapped:
        splits = parts(ceil(m, tile.BN), multiprocessors(q.device))
        block_rows, block_columns = tile.BM * ceil(ceil(n, tile.BM), splits), tile.BN
    else:
        block_rows = block_columns = rows_per_block(tile, max(n, m))
    row_blocks, column_blocks = ceil(n, block_rows), ceil(m, block_columns)
    by_row = q.new_empty((2, column_blocks, 0 if is_swapped else n), dtype=torch.float32)
    by_column = q.new_empty((2, row_blocks, m), dtype=torch.float32)
    factors = inverses or (scale, scale)  # not read
    launch(
        forward_kernel,
        (_programs(row_blocks, column_blocks, triangle),),
        tile,
        rows,
        cols,
        [scale, largest, *(factors[::-1] if is_swapped else factors), *by_row, *by_column],
        [largest.numel(), row_blocks, block_rows, block_columns],
        exclude if is_swapped else [-offset for offset in exclude],
        TRIANGLE=triangle,
        ROWS=not is_swapped,
        PARTS=largest.dim() > 0,
        INVERSE=inverses is not None,
    )
    sums = (by_column, by_row) if is_swapped else (by_row, by_column)
    return Partials(*sums, by_row[:, :, :0], block_rows)


def _deep_sums(
    q: Tensor,
    k: Tensor,
    scale: Tensor,
    exclude: Sequence[int],
    columns: bool,
    triangle: bool,
    inverses: tuple[Tensor, Tensor] | None,
    labels: Tensor | None,
) -> Partials:
    n, m = q.shape[0], k.shape[0]
    tile, has_columns = in_pieces(DEEP, q), columns or triangle
    if has_columns:
        block_rows = block_columns = rows_per_block(tile, max(n, m))
    else:
        block_rows, block_columns = tile.BM, columns_per_split(q, tile, m)
    row_blocks, column_blocks = ceil(n, block_rows), ceil(m, block_columns)
    by_row = q.new_empty((2, column_blocks, n), dtype=torch.float32)
    by_column = by_row.new_empty((2, row_blocks, m if has_columns else 0))
    same = by_row.new_empty((2, column_blocks, n if labels is not None else 0))
    launch(
        deep_forward_kernel,
        (_programs(row_blocks, column_blocks, triangle),),
        tile,
        q,
        k,
        [
            scale, *(inverses or (scale, scale)), scale if labels is None else labels,
            *by_row, *by_column, *same,
        ],
        [row_blocks, block_rows, block_columns],
        exclude,
        TRIANGLE=triangle,
        COLUMNS=has_columns,
        INVERSE=inverses is not None,
        LABELS=labels is not None,
    )  # fmt: skip
    return Partials(by_row, by_column, same, block_rows)


def _programs(row_blocks: int, column_blocks: int, triangle: bool) -> int:
    return row_blocks * (row_blocks + 1) // 2 if triangle else row_blocks * column_blocks


def forward(
    q: Tensor, k: Tensor | None, scale: Tensor, exclude: Sequence[int], columns: bool
) -> tuple[Tensor, Tensor]:
    """Row and column log-sum-exp, (n,) and (m,) or empty; ``k=None`` means the symmetric case."""
    if not fuses(q, exclude):
        return tiled.forward(q, k, scale, exclude, columns, reduce=_reduce)
    symmetric = k is None
    q = operand(q)
    k = q if k is None else operand(k)
    largest = scale if is_deep(FORWARD, q) else _largest(q, k)  # not read if deep
    sums = partial_sums(q, k, scale, largest, exclude, columns, symmetric)
    row = _combine(sums.rows, sums.columns, sums.block, symmetric)
    if symmetric or not columns:
        return row, q.new_empty(0, dtype=torch.float32)
    return row, _combine(sums.columns, sums.rows, sums.block, False)


class _Read(NamedTuple):
    """A side in the form that the kernels read."""

    logsumexp: Tensor  # +inf if everything is excluded
    grad: Tensor
    factor: Tensor  # grad · e^-logsumexp

    @staticmethod
    def of(side: Side) -> _Read:
        size = side.grad.shape[0]
        read = vectors(side.grad, 3, size)
        sides_kernel[(ceil(size, 1024),)](*side, *read, size, BLOCK=1024, num_warps=4)
        return _Read(*read)


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
    if not fuses(q, exclude):
        return tiled.backward(q, k, scale, exclude, row, column, need_q, need_k, weigh=_weigh)
    symmetric, d = k is None, q.shape[1]
    q = operand(q)
    k = q if k is None else operand(k)
    rows = _Read.of(row)
    cols = rows if symmetric else None if column is None else _Read.of(column)
    need_k = need_k and not symmetric
    if is_deep(BACKWARD, q):
        dq = torch.empty_like(q, dtype=torch.float32) if need_q else None
        dk = torch.empty_like(k, dtype=torch.float32) if need_k else None
        deep_gradients(q, k, scale, None, exclude, rows[:2], cols and cols[:2], dq, dk)
        return dq if dq is None else dq[:, :d], dk if dk is None else dk[:, :d]
    largest = _largest(q, k)
    dq = _gradient(q, k, d, scale, largest, exclude, rows, cols) if need_q else None
    if not need_k:
        return dq, None
    mirrored = [-offset for offset in exclude]
    return dq, _gradient(k, q, d, scale, largest, mirrored, cols, rows)


def deep_gradients(
    q: Tensor,
    k: Tensor,
    scale: Tensor,
    inverses: tuple[Tensor, Tensor] | None,
    exclude: Sequence[int],
    row: Sequence[Tensor],
    column: Sequence[Tensor] | None,
    dq: Tensor | None,
    dk: Tensor | None,
) -> None:
    """Gradients of wide embeddings into dq and dk, times ``inverses`` if given.

    ``row``, ``column``: log-sum-exps, +inf if everything is excluded, and their derivatives.
    """
    tile = in_pieces(WEIGHTS, q)

    def fill(first: int, weights: Tensor) -> None:
        launch_weights(
            weights_kernel, tile, q, k,
            [scale, *(inverses or (scale, scale)), *row, *(column or (scale, scale))],
            [], exclude, first, weights,
            COLUMN=column is not None, INVERSE=inverses is not None,
        )  # fmt: skip

    gradients(q, k, tile, fill, dq, dk)


def _gradient(
    q: Tensor,
    k: Tensor,
    d: int,
    scale: Tensor,
    largest: Tensor,
    exclude: Sequence[int],
    row: _Read | None,
    column: _Read | None,
) -> Tensor:
    kernel = RowKernel(backward_kernel, BACKWARD, q, k, exclude)
    gradient = q.new_empty((kernel.splits, *q.shape), dtype=torch.float32)
    nothing = (scale, scale, scale)  # is not read
    (*row_side, row_factor), (*column_side, column_factor) = row or nothing, column or nothing
    kernel(
        [
            scale, largest, *[scale] * 4, *row_side, *column_side, row_factor, column_factor,
            scale, scale, gradient, scale,
        ],
        [1, kernel.columns, 0],
        ROW=row is not None,
        COLUMN=column is not None,
        BOTH=False,
        PARTS=False,
        INVERSE=False,
        LABELS=False,
        SCALE=False,
    )  # fmt: skip
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
        *row,
        *(column or (scale, scale)),  # not read
        out,
        n,
        m,
        COLUMN=column is not None,
        BM=16,
        BN=256,
        num_warps=4,
    )


def _largest(q: Tensor, k: Tensor) -> Tensor:
    """A length whose square bounds all products of rows of q and k; NaN if an input is."""

    def largest_norm(x: Tensor) -> Tensor:
        return torch.linalg.vector_norm(x, dim=1, dtype=torch.float32).amax()

    q_norm = largest_norm(q)
    return q_norm if k is q else (q_norm * largest_norm(k)).sqrt_()
