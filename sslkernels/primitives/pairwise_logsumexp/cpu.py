"""The C++ kernels: one pass over tiles of scale · q kᵀ that stay in the cache."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..._ext import address, extension, matrix
from .tiled import Side


def forward(
    q: Tensor, k: Tensor | None, scale: Tensor, exclude: Sequence[int], columns: bool
) -> tuple[Tensor, Tensor]:
    """Row and column log-sum-exp, (n,) and (m,) or empty; ``k=None`` means the symmetric case."""
    symmetric, k = k is None, q if k is None else k
    row = q.new_empty(q.shape[0], dtype=torch.float32)
    column = q.new_empty(k.shape[0] if columns else 0, dtype=torch.float32)
    extension().pairwise_logsumexp_forward(
        matrix(q),
        matrix(k),
        scale.item(),
        exclude,
        symmetric,
        torch.get_num_threads(),
        address(row),
        address(column if columns else None),
    )
    return row, column


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
    symmetric, k = k is None, q if k is None else k
    dq = q.new_zeros(q.shape, dtype=torch.float32) if need_q else None
    dk = k.new_zeros(k.shape, dtype=torch.float32) if need_k and not symmetric else None
    extension().pairwise_logsumexp_backward(
        matrix(q),
        matrix(k),
        scale.item(),
        exclude,
        symmetric,
        torch.get_num_threads(),
        *map(address, row),
        *map(address, column or (None, None)),
        address(dq),
        address(dk),
    )
    return dq, dk
