"""Tiles of scale · q kᵀ + bias by matrix products and one pass over each: any device, any dtype.

The two passes are arguments, so that a kernel can replace plain torch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ..._operator import accumulation_dtype
from .._tiles import fill_diagonals, product, tiles
from .reference import THRESHOLD

# Both passes get a tile of q kᵀ, which they may overwrite, the scale, the bias, and the excluded
# diagonals of the tile. Row sums are float64.
# reduce(products, scale, bias, diagonals, rows): add Σ_j softplus(s_ij) to the rows.
Reduce = Callable[[Tensor, Tensor, Tensor, Sequence[int], Tensor], None]
# weigh(products, scale, bias, diagonals, row_grad, row_sigma, out): the gradient's weights
# row_grad_i · σ(s_ij); their sums are added to row_sigma.
Weigh = Callable[[Tensor, Tensor, Tensor, Sequence[int], Tensor, Tensor, Tensor], None]


def reduce_torch(
    products: Tensor, scale: Tensor, bias: Tensor, diagonals: Sequence[int], rows: Tensor
) -> None:
    scores = fill_diagonals(products.mul_(scale).add_(bias), diagonals, float("-inf"))
    rows += F.softplus(scores, threshold=THRESHOLD).sum(1)


def weigh_torch(
    products: Tensor,
    scale: Tensor,
    bias: Tensor,
    diagonals: Sequence[int],
    row_grad: Tensor,
    row_sigma: Tensor,
    out: Tensor,
) -> None:
    scores = fill_diagonals(products.mul_(scale).add_(bias), diagonals, float("-inf"))
    weights = scores.sigmoid_().mul_(row_grad[:, None])
    row_sigma += weights.sum(1)
    out.copy_(weights)


def forward(
    q: Tensor,
    k: Tensor,
    scale: Tensor,
    bias: Tensor,
    exclude: Sequence[int],
    *,
    reduce: Reduce = reduce_torch,
) -> Tensor:
    """Row sums (n,), in ``promote_types(dtype, float32)``."""
    row = q.new_zeros(q.shape[0], dtype=torch.float64)
    for i, _, products, diagonals in tiles(q, k, exclude):
        reduce(products, scale, bias, diagonals, row[i])
    return row.to(accumulation_dtype(q))


def backward(
    q: Tensor,
    k: Tensor,
    scale: Tensor,
    bias: Tensor,
    exclude: Sequence[int],
    row_grad: Tensor,
    need_q: bool,
    need_k: bool,
    *,
    weigh: Weigh = weigh_torch,
) -> tuple[Tensor | None, Tensor | None, Tensor]:
    """Gradients of q and k over scale (None if not needed), and row_grad_i · Σ_j σ(s_ij), (n,)."""
    dtype = accumulation_dtype(q)
    dq = q.new_zeros(q.shape, dtype=dtype) if need_q else None
    dk = k.new_zeros(k.shape, dtype=dtype) if need_k else None
    row_sigma = q.new_zeros(q.shape[0], dtype=torch.float64)
    buffer = q.new_empty(0, dtype=q.dtype if q.is_cuda else dtype)
    scratch = q.new_empty(0, dtype=dtype)
    for i, j, products, diagonals in tiles(q, k, exclude):
        weights = buffer.resize_(products.shape)
        weigh(products, scale, bias, diagonals, row_grad[i], row_sigma[i], weights)
        for gradient, part, left, right in ((dq, i, weights, k[j]), (dk, j, weights.T, q[i])):
            if gradient is not None:
                gradient[part] += product(left, right, scratch)
    return dq, dk, row_sigma.to(dtype)
