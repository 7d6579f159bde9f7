"""The C++ kernels: one pass over tiles of scale · q kᵀ + bias that stay in the cache."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..._ext import address, extension, matrix


def forward(q: Tensor, k: Tensor, scale: Tensor, bias: Tensor, exclude: Sequence[int]) -> Tensor:
    """Row sums (n,), in float32."""
    row = q.new_empty(q.shape[0], dtype=torch.float32)
    extension().pairwise_softplus_forward(
        matrix(q),
        matrix(k),
        scale.item(),
        bias.item(),
        exclude,
        torch.get_num_threads(),
        address(row),
    )
    return row


def backward(
    q: Tensor,
    k: Tensor,
    scale: Tensor,
    bias: Tensor,
    exclude: Sequence[int],
    row_grad: Tensor,
    need_q: bool,
    need_k: bool,
) -> tuple[Tensor | None, Tensor | None, Tensor]:
    """Gradients of q and k over scale (None if not needed), and row_grad_i · Σ_j σ(s_ij), (n,)."""
    dq = q.new_zeros(q.shape, dtype=torch.float32) if need_q else None
    dk = k.new_zeros(k.shape, dtype=torch.float32) if need_k else None
    row_sigma = q.new_empty(q.shape[0], dtype=torch.float32)
    row_grad = row_grad.contiguous()
    extension().pairwise_softplus_backward(
        matrix(q),
        matrix(k),
        scale.item(),
        bias.item(),
        exclude,
        torch.get_num_threads(),
        address(row_grad),
        address(dq),
        address(dk),
        address(row_sigma),
    )
    return dq, dk, row_sigma
