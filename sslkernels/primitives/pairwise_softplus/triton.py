"""Fused Triton kernels for d ≤ 512; above, matrix products and a Triton pass over each tile."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .._tile_table import BACKWARD, FORWARD, ceil
from .._tiles import fill_diagonals
from .._triton import RowKernel, fuses, operand, total
from . import tiled
from .triton_kernels import backward_kernel, forward_kernel, reduce_kernel, weigh_kernel


def forward(q: Tensor, k: Tensor, scale: Tensor, bias: Tensor, exclude: Sequence[int]) -> Tensor:
    """Row sums (n,), in float32."""
    if not fuses(q, exclude, BACKWARD):
        return tiled.forward(q, k, scale, bias, exclude, reduce=_reduce)
    q, k = operand(q), operand(k)
    kernel = RowKernel(forward_kernel, FORWARD, q, k, exclude)
    rows = q.new_empty((kernel.splits, q.shape[0]), dtype=torch.float32)
    kernel([scale, bias, rows])
    return total(rows)


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
    row_grad = row_grad.contiguous()
    if not fuses(q, exclude, BACKWARD):
        return tiled.backward(q, k, scale, bias, exclude, row_grad, need_q, need_k, weigh=_weigh)
    d, q, k = q.shape[1], operand(q), operand(k)
    dq, sigma = _gradient(q, k, d, scale, bias, exclude, row_grad, True, need_q)
    row_sigma = total(sigma)
    if not need_k:
        return dq, None, row_sigma
    mirrored = [-offset for offset in exclude]
    dk, _ = _gradient(k, q, d, scale, bias, mirrored, row_grad, False, True)
    return dq, dk, row_sigma


def _gradient(
    q: Tensor,
    k: Tensor,
    d: int,
    scale: Tensor,
    bias: Tensor,
    exclude: Sequence[int],
    grad: Tensor,
    row: bool,
    need: bool,
) -> tuple[Tensor | None, Tensor]:
    """Gradient of q if needed, and where ``grad`` belongs to its rows their sums of σ by split."""
    kernel = RowKernel(backward_kernel, BACKWARD, q, k, exclude)
    gradient = q.new_empty((kernel.splits, *q.shape) if need else 0, dtype=torch.float32)
    sigma = q.new_empty((kernel.splits, q.shape[0]) if row else 0, dtype=torch.float32)
    kernel([scale, bias, grad, gradient, sigma], ROW=row, GRADIENT=need)
    return total(gradient[..., :d]) if need else None, sigma


def _reduce(
    products: Tensor, scale: Tensor, bias: Tensor, diagonals: Sequence[int], rows: Tensor
) -> None:
    fill_diagonals(products, diagonals, float("-inf"))
    n, m = products.shape
    reduce_kernel[(ceil(n, 4),)](
        products, scale, bias, rows, n, m, BLOCK=4, LENGTH=1024, num_warps=4
    )


def _weigh(
    products: Tensor,
    scale: Tensor,
    bias: Tensor,
    diagonals: Sequence[int],
    row_grad: Tensor,
    row_sigma: Tensor,
    out: Tensor,
) -> None:
    fill_diagonals(products, diagonals, float("-inf"))
    n, m = products.shape
    weigh_kernel[(ceil(n, 4),)](
        products, scale, bias, row_grad, row_sigma, out, n, m, BLOCK=4, LENGTH=512, num_warps=4
    )
