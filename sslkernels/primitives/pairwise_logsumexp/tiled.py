"""Tiles of scale · q kᵀ by matrix products and one pass over each: any device, any float dtype.

The two passes are arguments, so that a kernel can replace plain torch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ..._operator import accumulation_dtype
from .._tiles import fill_diagonals, product, tiles


class Side(NamedTuple):
    """The inputs of the backward pass for rows, or for columns."""

    logsumexp: Tensor
    grad: Tensor

    def at(self, part: slice) -> Side:
        return Side(self.logsumexp[part], self.grad[part])


# Both passes get a tile of q kᵀ, which they may overwrite, the scale, and the excluded diagonals of
# the tile.
# reduce(products, scale, diagonals, rows, columns or None): fold it into running log-sum-exps.
Reduce = Callable[[Tensor, Tensor, Sequence[int], Tensor, Tensor | None], None]
# weigh(products, scale, diagonals, row side, column side or None, out): the gradient's weights.
Weigh = Callable[[Tensor, Tensor, Sequence[int], Side, Side | None, Tensor], None]


def reduce_torch(
    products: Tensor,
    scale: Tensor,
    diagonals: Sequence[int],
    rows: Tensor,
    columns: Tensor | None,
) -> None:
    scores = fill_diagonals(products.mul_(scale), diagonals, float("-inf"))
    for running, dim in ((rows, 1), (columns, 0)):
        if running is not None:
            torch.logaddexp(running, torch.logsumexp(scores, dim), out=running)


def weigh_torch(
    products: Tensor,
    scale: Tensor,
    diagonals: Sequence[int],
    row: Side,
    column: Side | None,
    out: Tensor,
) -> None:
    scores = fill_diagonals(products.mul_(scale), diagonals, float("-inf"))
    weights = _softmax(scores, row.logsumexp[:, None]).mul_(row.grad[:, None])
    if column is not None:
        weights.addcmul_(_softmax(scores, column.logsumexp[None, :]), column.grad[None, :])
    out.copy_(weights)


def _softmax(scores: Tensor, logsumexp: Tensor) -> Tensor:
    # exp(-inf - inf) = 0 if everything is excluded: no gradient
    return torch.exp(scores - logsumexp.masked_fill(torch.isneginf(logsumexp), float("inf")))


def forward(
    q: Tensor,
    k: Tensor | None,
    scale: Tensor,
    exclude: Sequence[int],
    columns: bool,
    *,
    reduce: Reduce = reduce_torch,
) -> tuple[Tensor, Tensor]:
    """Row and column log-sum-exp, (n,) and (m,) or empty; ``k=None`` means the symmetric case."""
    symmetric, k = k is None, q if k is None else k
    dtype = accumulation_dtype(q)
    row = q.new_full((q.shape[0],), float("-inf"), dtype=dtype)
    column = q.new_full((k.shape[0] if columns else 0,), float("-inf"), dtype=dtype)
    for i, j, products, diagonals in tiles(q, k, exclude, symmetric):
        part = (None if i == j else row[j]) if symmetric else column[j] if columns else None
        reduce(products, scale, diagonals, row[i], part)
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
    *,
    weigh: Weigh = weigh_torch,
) -> tuple[Tensor | None, Tensor | None]:
    """Gradients of q and k over scale, in ``promote_types(dtype, float32)``; None if not needed."""
    symmetric, k = k is None, q if k is None else k
    dtype = accumulation_dtype(q)
    dq = q.new_zeros(q.shape, dtype=dtype) if need_q else None
    dk = k.new_zeros(k.shape, dtype=dtype) if need_k and not symmetric else None
    if symmetric:
        column = row
    buffer = q.new_empty(0, dtype=q.dtype if q.is_cuda else dtype)
    scratch = q.new_empty(0, dtype=dtype)
    for i, j, products, diagonals in tiles(q, k, exclude, symmetric):
        weights = buffer.resize_(products.shape)
        # by rows on the diagonal, as in the forward pass: q_i·q_j and q_j·q_i may round differently
        part = None if column is None or (symmetric and i == j) else column.at(j)
        weigh(products, scale, diagonals, row.at(i), part, weights)
        if dq is not None:
            dq[i] += product(weights, k[j], scratch)
            if symmetric:
                dq[j] += product(weights.T, q[i], scratch)
        if dk is not None:
            dk[j] += product(weights.T, q[i], scratch)
    return dq, dk
