"""The two ways to the norm, over the kernels of one implementation.

With C = âᵀ b̂ of standardised columns â and b̂: the sample route knows C only by the Grams â âᵀ and
b̂ b̂ᵀ, (n, n); the feature route computes C itself, some rows at a time, and in the backward pass
again.
"""

from __future__ import annotations

from collections.abc import Iterator
from types import ModuleType

import torch
from torch import Tensor

from ...distributed import Shares
from .columns import Columns

Grads = tuple[Tensor | None, Tensor | None]
FEWEST_ROWS = 128  # of C at a time


def choose(route: str, n: int, d: int) -> str:
    """The cheaper route, if "auto". Beyond n = 3d/4 the sample route would also lose digits: all
    of C minus its diagonal may then be small."""
    if route != "auto":
        return route
    return "sample" if 4 * n <= 3 * d else "feature"


def sample_forward(
    kernels: ModuleType, a: Columns, b: Columns | None, shares: Shares
) -> tuple[Tensor, Tensor, list[Tensor]]:
    """Norm, diagonal, and the Grams. Ranks hold some columns each, with the rows of all ranks."""
    grams = [shares.total(kernels.gram(x)) for x in (a, b) if x is not None]
    diagonal = kernels.dot(a, b or a)
    square = torch.linalg.vecdot(grams[0], grams[-1]).sum(dtype=torch.float64)
    return square - shares.total(diagonal.square().sum()), diagonal, grams


def sample_backward(
    kernels: ModuleType,
    a: Columns,
    b: Columns | None,
    grams: list[Tensor],
    diagonal: Tensor,
    norm_grad: Tensor,
    diagonal_grad: Tensor,
    needs: tuple[bool, bool],
    shares: Shares,
) -> Grads:
    """Gradients of a.x and b.x, (n, d)."""

    def gradient(own: Columns, other: Columns, gram: Tensor, times: int) -> Tensor:
        weight = times * (diagonal_grad - 2 * norm_grad * diagonal)
        factor = 2 * times * norm_grad
        product = kernels.left(gram, own)
        return kernels.finish(product, own, other, weight, factor, shares.count, None)

    if b is None:
        return gradient(a, a, grams[0], 2) if needs[0] else None, None
    return (
        gradient(a, b, grams[1], 1) if needs[0] else None,
        gradient(b, a, grams[0], 1) if needs[1] else None,
    )


def feature_forward(
    kernels: ModuleType, a: Columns, b: Columns | None, shares: Shares
) -> tuple[Tensor, Tensor, list[Tensor]]:
    """Norm, diagonal, and nothing to keep."""
    if not shares.ranks and hasattr(kernels, "fuses") and kernels.fuses(a.x):
        norm = kernels.square_sum(a, b)
    else:
        norm = sum(
            torch.linalg.vecdot(product, product).sum(dtype=torch.float64)
            for _, product in _rows_of_product(kernels, a, b, shares)
        )
    return norm, shares.total(kernels.dot(a, b or a)), []


def feature_backward(
    kernels: ModuleType,
    a: Columns,
    b: Columns | None,
    grams: list[Tensor],
    diagonal: Tensor,
    norm_grad: Tensor,
    diagonal_grad: Tensor,
    needs: tuple[bool, bool],
    shares: Shares,
) -> Grads:
    """Gradients of a.x and b.x, (n, d)."""
    other, times = (a, 2) if b is None else (b, 1)
    need_a, need_b = needs[0], needs[1] and b is not None
    factor, weight = 2 * times * norm_grad, times * diagonal_grad
    total = shares.total if shares.ranks else None
    da = torch.empty_like(a.x, memory_format=torch.contiguous_format) if need_a else None
    db = a.x.new_empty(a.x.shape, dtype=weight.dtype) if need_b else None
    for rows, product in _rows_of_product(kernels, a, b, shares):
        if need_a:
            target = part = da[:, rows]
            if part.dtype != weight.dtype:
                part = part.new_empty(part.shape, dtype=weight.dtype)
            kernels.right(other, product.T, part, False)
            columns = a.part(rows), other.part(rows)
            part = kernels.finish(part, *columns, weight[rows], factor, shares.count, total)
            if part is not target:
                target.copy_(part)
        if need_b:
            kernels.right(a.part(rows), product, db, rows.start > 0)
    if need_b:
        db = kernels.finish(db, b, a, weight, factor, shares.count, total)
    return da, db


def _rows_of_product(
    kernels: ModuleType, a: Columns, b: Columns | None, shares: Shares
) -> Iterator[tuple[slice, Tensor]]:
    """Blocks of rows of C, summed over ranks, with zeros on its diagonal."""
    n, d = shares.rows_per_rank, a.x.shape[1]
    # an eighth of an input at a time; all of C where half of it, which is symmetric, will do
    step = d if b is None and d <= n else max(n // 8, FEWEST_ROWS)
    for start in range(0, d, step):
        rows = slice(start, min(start + step, d))
        product = shares.total(kernels.cross(a, b, rows))
        product.diagonal(start).zero_()
        yield rows, product


FORWARD = {"sample": sample_forward, "feature": feature_forward}
BACKWARD = {"sample": sample_backward, "feature": feature_backward}
