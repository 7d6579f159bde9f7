"""The tiles of q kᵀ, by matrix products: any device, any float dtype."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from .._operator import accumulation_dtype


def tiles(
    q: Tensor,
    k: Tensor,
    exclude: Sequence[int],
    symmetric: bool = False,
    sizes: tuple[int, int] | None = None,
) -> Iterator[tuple[slice, slice, Tensor, list[int]]]:
    """Yield (rows, columns, q kᵀ, diagonals); if symmetric, only tiles on or above the diagonal."""
    side = 2048 if q.is_cuda else 512  # a float32 tile then stays in the cache
    height, width = sizes or (side, side)
    buffer = q.new_empty(0, dtype=accumulation_dtype(q))
    for i in range(0, q.shape[0], height):
        for j in range(i if symmetric else 0, k.shape[0], width):
            rows, columns = slice(i, i + height), slice(j, j + width)
            products = product(q[rows], k[columns].T, buffer)
            starts = (i - j + offset for offset in exclude)  # their columns in the tile's first row
            n, m = products.shape
            yield rows, columns, products, [s for s in starts if -n < s < m]


def product(a: Tensor, b: Tensor, out: Tensor) -> Tensor:
    """a b in the dtype of ``out``, into the memory of ``out``."""
    out.resize_(a.shape[0], b.shape[1])
    if a.is_cuda and a.dtype != out.dtype:  # tensor cores: half-precision operands, float32 sums
        return torch.mm(a, b, out_dtype=out.dtype, out=out)
    return torch.mm(a.to(out.dtype), b.to(out.dtype), out=out)


def fill_diagonals(tile: Tensor, diagonals: Sequence[int], value: float) -> Tensor:
    for offset in diagonals:
        tile.diagonal(offset).fill_(value)
    return tile
