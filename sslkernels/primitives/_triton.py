"""What the Triton kernels share: loads and masks of a tile, and what their launchers decide."""

from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor

from ._tile_table import Table, fits

MOST_EXCLUDED = 4  # diagonals that the fused kernels take

LOG2E = tl.constexpr(1.4426950408889634)
LN2 = tl.constexpr(0.6931471805599453)


def fuses(q: Tensor, exclude: Sequence[int], table: Table) -> bool:
    """Tensor cores, and a gradient tile that fits the registers; float32 only where TF32 may be."""
    tensor_cores = q.dtype != torch.float32 or precision() == "tf32"
    return tensor_cores and fits(table, q) and len(exclude) <= MOST_EXCLUDED


def precision() -> str:
    return "tf32" if torch.backends.cuda.matmul.fp32_precision == "tf32" else "ieee"


def rows_contiguous(x: Tensor) -> Tensor:
    return x if x.stride(1) == 1 else x.contiguous()


def padded(exclude: Sequence[int]) -> list[int]:
    return [*exclude, *[0] * (MOST_EXCLUDED - len(exclude))]


@triton.jit
def load_rows(x_ptr, rows, size, stride, depths, D: tl.constexpr):
    """Rows of x, zero outside: (rows, depths)."""
    mask = (rows < size)[:, None] & (depths < D)[None, :]
    pointers = x_ptr + rows.to(tl.int64)[:, None] * stride + depths[None, :]
    return tl.load(pointers, mask=mask, other=0.0)


@triton.jit
def _crosses(row, column, offset, BM: tl.constexpr, BN: tl.constexpr):
    """Whether the diagonal j - i = offset passes through the tile."""
    return (offset > column - row - BM) & (offset < column - row + BN)


@triton.jit
def mask_tile(
    logits, row, column, n, m, e0, e1, e2, e3,
    EXCLUDED: tl.constexpr, TRIANGLE: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr,
    HALF: tl.constexpr,
):  # fmt: skip
    """Put -inf outside the matrix and on excluded diagonals, in the few tiles that have any.

    A triangle keeps each pair once and halves the entries of the main diagonal (takes ``HALF``, the
    logarithm of two, from their logits): they will count for their row and for their column.
    """
    special = (row + BM > n) | (column + BN > m)
    if TRIANGLE:
        special = special | (column < row + BM)
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
        keep = (rows < n)[:, None] & (cols < m)[None, :]
        if EXCLUDED > 0:
            keep = keep & (offset != e0)
        if EXCLUDED > 1:
            keep = keep & (offset != e1)
        if EXCLUDED > 2:
            keep = keep & (offset != e2)
        if EXCLUDED > 3:
            keep = keep & (offset != e3)
        if TRIANGLE:
            keep = keep & (offset >= 0)
            logits = tl.where(offset == 0, logits - HALF, logits)
        logits = tl.where(keep, logits, float("-inf"))
    return logits
