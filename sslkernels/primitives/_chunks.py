"""Gradients of wide embeddings: the weights of all pairs for a chunk of rows, then matrix products.

For large depth, library matrix products are fastest; ``MOST_BYTES`` limits the memory of the
weights.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from ._tile_table import Tile, ceil, columns_per_split
from ._tiles import product
from ._triton import launch

MOST_BYTES = 1 << 28  # of the weights of a chunk, which has at least a tile's rows


def splits(q: Tensor, tile: Tile, m: int) -> int:
    """The number of splits of the columns, each with its own partial sums."""
    return ceil(m, _split(q, tile, m))


def gradients(
    q: Tensor,
    k: Tensor,
    tile: Tile,
    fill: Callable[[int, Tensor], None],
    dq: Tensor | None,
    dk: Tensor | None,
) -> None:
    """Add W k to dq and Wᵀ q to dk, in float32, for those that are not None.

    ``fill(first, out)`` writes the rows of W from ``first`` on to the matrix ``out``.
    """
    width = tile.BN * ceil(k.shape[0], tile.BN)
    height = _height(q, tile, width)
    weights = q.new_empty(height, width)
    scratch = None
    for first in range(0, q.shape[0], height):
        fill(first, weights)
        rows = q[first : first + height]
        part = weights[: rows.shape[0], : k.shape[0]]
        if dq is not None:
            product(part, k, dq[first : first + height])
        if dk is None:
            continue
        if first == 0:
            product(part.T, rows, dk)
        else:
            scratch = torch.empty_like(dk) if scratch is None else scratch
            dk += product(part.T, rows, scratch)


def launch_weights(
    kernel: Any,
    tile: Tile,
    q: Tensor,
    k: Tensor,
    pointers: Sequence[Tensor | None],
    numbers: Sequence[float],
    exclude: Sequence[int],
    first: int,
    weights: Tensor | None,
    **constants: bool,
) -> None:
    """Launch a kernel that writes weights from row ``first`` on; or only sums of all rows."""
    rows, stride = (q.shape[0], 0) if weights is None else weights.shape
    rows = min(rows, q.shape[0] - first)
    columns = _split(q, tile, k.shape[0])
    launch(
        kernel,
        (ceil(rows, tile.BM), ceil(k.shape[0], columns)),
        tile,
        q,
        k,
        [*pointers, weights],
        [*numbers, columns, first, stride],
        exclude,
        **constants,
    )


def _height(q: Tensor, tile: Tile, width: int) -> int:
    most = MOST_BYTES // (tile.BM * width * q.element_size())
    return tile.BM * max(1, min(most, ceil(q.shape[0], tile.BM)))


def _split(q: Tensor, tile: Tile, m: int) -> int:
    """Columns per program: a chunk's programs fill the device, and sums are equal in all chunks."""
    blocks = _height(q, tile, tile.BN * ceil(m, tile.BN)) // tile.BM
    return columns_per_split(q, tile, m, blocks)
