"""The fused Triton kernel for the one nearest neighbour."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import triton
from torch import Tensor

from .tiles import MOST_EXCLUDED, columns_per_split, tile_for
from .triton_kernels import nearest_kernel


def forward(q: Tensor, k: Tensor, topk: int, exclude: Sequence[int]) -> tuple[Tensor, Tensor]:
    """The largest product of each row, (n, 1), and its column, (n, 1); ``topk`` is 1."""
    q, k = _rows_contiguous(q), _rows_contiguous(k)
    (n, d), m = q.shape, k.shape[0]
    tile = tile_for(q)
    width = columns_per_split(q, tile, m)
    splits = triton.cdiv(m, width)
    similarities = q.new_empty((splits, n), dtype=torch.float32)
    indices = q.new_empty((splits, n), dtype=torch.int64)
    nearest_kernel[(triton.cdiv(n, tile.BM), splits)](
        q,
        k,
        similarities,
        indices,
        n,
        m,
        width,
        q.stride(0),
        k.stride(0),
        *exclude,
        *[0] * (MOST_EXCLUDED - len(exclude)),
        D=d,
        EXCLUDED=len(exclude),
        PRECISION="tf32" if q.dtype == torch.float32 else "ieee",
        **tile.arguments(),
    )
    if splits == 1:
        return similarities.view(n, 1), indices.view(n, 1)
    similarities, split = similarities.max(0)  # the first of equals, and of NaN
    return similarities.view(n, 1), indices.gather(0, split.view(1, n)).view(n, 1)


def _rows_contiguous(x: Tensor) -> Tensor:
    return x if x.stride(1) == 1 else x.contiguous()
