"""The fused Triton kernel for a single nearest neighbour."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .._tile_table import ROWS
from .._triton import MOST_EXCLUDED, RowKernel, operand, tensor_cores
from .triton_kernels import nearest_kernel


def obstacle(q: Tensor, topk: int, exclude: Sequence[int]) -> str | None:
    """Why the fused kernel does not support this problem; None if it does."""
    if topk > 1:
        return f"keeps one neighbour, got topk={topk}"
    if not tensor_cores(q):
        return "multiplies float32 in TF32, which torch.backends.cuda.matmul does not allow here"
    if len(exclude) > MOST_EXCLUDED:
        return f"leaves out at most {MOST_EXCLUDED} diagonals, got {len(exclude)}"
    return None


def forward(q: Tensor, k: Tensor, topk: int, exclude: Sequence[int]) -> tuple[Tensor, Tensor]:
    """The largest product of each row, (n, 1), and its column, (n, 1); ``topk`` is 1."""
    q, k = operand(q), operand(k)
    n = q.shape[0]
    kernel = RowKernel(nearest_kernel, ROWS, q, k, exclude)
    similarities = q.new_empty((kernel.splits, n), dtype=torch.float32)
    indices = q.new_empty((kernel.splits, n), dtype=torch.int64)
    kernel([similarities, indices])
    if kernel.splits == 1:
        return similarities.view(n, 1), indices.view(n, 1)
    similarities, split = similarities.max(0)  # the first of ties and of NaN
    return similarities.view(n, 1), indices.gather(0, split.view(1, n)).view(n, 1)
