"""The C++ kernel: tiles of q kᵀ that stay in the cache, and a scan for larger entries."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..._ext import address, extension, matrix

MOST_ROWS = 2**32 - 1  # of k: index and similarity share 64 bits


def forward(q: Tensor, k: Tensor, topk: int, exclude: Sequence[int]) -> tuple[Tensor, Tensor]:
    """The topk largest products of each row, (n, topk), and their columns, (n, topk)."""
    if k.shape[0] > MOST_ROWS:
        raise ValueError(
            f"impl='cpu' takes at most {MOST_ROWS} rows of k, got {k.shape[0]}; use impl='tiled'"
        )
    similarities = q.new_empty((q.shape[0], topk), dtype=torch.float32)
    indices = q.new_empty((q.shape[0], topk), dtype=torch.int64)
    extension().nearest_neighbor(
        matrix(q),
        matrix(k),
        topk,
        exclude,
        torch.get_num_threads(),
        address(similarities),
        address(indices),
    )
    return similarities, indices
