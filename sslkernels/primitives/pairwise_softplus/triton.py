"""Fused Triton kernels; gradients of wide embeddings by library products. Without tensor cores,
matrix products and a Triton pass over each tile.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .._chunks import gradients, launch_weights, splits
from .._tile_table import BACKWARD, ROWS, WEIGHTS, ceil, in_pieces, is_deep
from .._tiles import fill_diagonals
from .._triton import RowKernel, fuses, operand, total
from . import tiled
from .triton_kernels import (
    backward_kernel,
    forward_kernel,
    reduce_kernel,
    weigh_kernel,
    weights_kernel,
)


def forward(q: Tensor, k: Tensor, scale: Tensor, bias: Tensor, exclude: Sequence[int]) -> Tensor:
    """Row sums (n,), in float32."""
    if not fuses(q, exclude):
        return tiled.forward(q, k, scale, bias, exclude, reduce=_reduce)
    q, k = operand(q), operand(k)
    kernel = RowKernel(forward_kernel, ROWS, q, k, exclude)
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
    if not fuses(q, exclude):
        return tiled.backward(q, k, scale, bias, exclude, row_grad, need_q, need_k, weigh=_weigh)
    d, q, k = q.shape[1], operand(q), operand(k)
    if is_deep(BACKWARD, q):
        dq = torch.empty_like(q, dtype=torch.float32) if need_q else None
        dk = torch.empty_like(k, dtype=torch.float32) if need_k else None
        sigma = q.new_empty(
            (splits(q, in_pieces(WEIGHTS, q), k.shape[0]), q.shape[0]), dtype=torch.float32
        )
        deep_gradients(q, k, scale, bias, None, exclude, row_grad, 1.0, None, sigma, dq, dk)
        return dq if dq is None else dq[:, :d], dk if dk is None else dk[:, :d], total(sigma)
    dq, sigma = _gradient(q, k, d, scale, bias, exclude, row_grad, True, need_q)
    row_sigma = total(sigma)
    if not need_k:
        return dq, None, row_sigma
    mirrored = [-offset for offset in exclude]
    dk, _ = _gradient(k, q, d, scale, bias, mirrored, row_grad, False, True)
    return dq, dk, row_sigma


def deep_gradients(
    q: Tensor,
    k: Tensor,
    scale: Tensor,
    bias: Tensor,
    inverses: tuple[Tensor, Tensor] | None,
    exclude: Sequence[int],
    grad: Tensor | None,
    unit: float,
    loss: Tensor | None,
    sigma: Tensor,
    dq: Tensor | None,
    dk: Tensor | None,
) -> None:
    """Gradients of wide embeddings into dq and dk, times ``inverses`` if given, and the sums of
    ``weights_kernel``.
    """
    tile = in_pieces(WEIGHTS, q)

    def fill(first: int, weights: Tensor | None) -> None:
        launch_weights(
            weights_kernel, tile, q, k,
            [scale, bias, *(inverses or (scale, scale)), grad, loss, sigma],
            [unit], exclude, first, weights, INVERSE=inverses is not None,
        )  # fmt: skip

    if dq is None and dk is None:
        fill(0, None)
    else:
        gradients(q, k, tile, fill, dq, dk)


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
    """Gradient of q if needed, and if ``grad`` belongs to its rows their sums of σ by split."""
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
