"""The two routes to the norm, over the kernels of one implementation.

With C = âᵀ b̂ of standardised columns â and b̂: the sample route uses only the Grams â âᵀ and b̂ b̂ᵀ,
(n, n); the feature route computes C itself and keeps it if it is no larger than an input.
Otherwise it computes some rows of C at a time, and recomputes them in the backward pass.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from ..._checks import check_choice
from ...distributed import Shares
from .columns import Columns, some_rows
from .kernels import Kernels, SquareSum

Grads = tuple[Tensor | None, Tensor | None]
ROUTES = ("auto", "sample", "feature")
FEWEST_ROWS = 128  # of C at a time


def choose(route: str, n: int, d: int) -> str:
    """The cheaper route if "auto"; raises for an unknown name.

    Above n = 3d/4 the sample route would also lose accuracy, because it subtracts the diagonal
    from all of C, which may be close to it.
    """
    check_choice("route", route, ROUTES)
    if route != "auto":
        return route
    return "sample" if 4 * n <= 3 * d else "feature"


def sample_forward(
    kernels: Kernels, a: Columns, b: Columns | None, shares: Shares
) -> tuple[Tensor, Tensor, list[Tensor]]:
    """Norm, diagonal, and the Grams. Each rank has some columns, with the rows of all ranks."""
    grams = [shares.total(kernels.gram(x)) for x in (a, b) if x is not None]
    diagonal = kernels.dot(a, b or a)
    square = _inner_product(grams[0], grams[-1])
    return square - shares.total(diagonal.square().sum()), diagonal, grams


def sample_backward(
    kernels: Kernels,
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


def fused_square_sum(kernels: Kernels, x: Tensor, is_shared: bool) -> SquareSum | None:
    """The kernel that computes the norm without storing any part of C, if there is one."""
    return None if is_shared else kernels.fused_square_sum(x)


def in_one_piece(n: int, d: int) -> bool:
    """Whether the feature route computes C as a whole: if it is no larger than an input."""
    return d <= n


def feature_forward(
    kernels: Kernels, a: Columns, b: Columns | None, shares: Shares
) -> tuple[Tensor, Tensor, list[Tensor]]:
    """Norm, diagonal, and C without its diagonal if it is kept."""
    kept = []
    square_sum = fused_square_sum(kernels, a.x, shares.ranks is not None)
    if square_sum is not None:
        norm = square_sum(a, b)
    else:
        norm = a.x.new_zeros((), dtype=torch.float64)
        for _, product in _rows_of_product(kernels, a, b, shares):
            norm = norm + _inner_product(product, product)
        if in_one_piece(shares.rows_per_rank, a.x.shape[1]):
            kept = [product]
    return norm, shares.total(kernels.dot(a, b or a)), kept


def feature_backward(
    kernels: Kernels,
    a: Columns,
    b: Columns | None,
    kept: list[Tensor],
    diagonal: Tensor,
    norm_grad: Tensor,
    diagonal_grad: Tensor,
    needs: tuple[bool, bool],
    shares: Shares,
) -> Grads:
    """Gradients of a.x and b.x, (n, d)."""
    other, times = (a, 2) if b is None else (b, 1)
    rest = 2 * times * norm_grad, shares.count, shares.total if shares.ranks else None
    weight = times * diagonal_grad
    if in_one_piece(shares.rows_per_rank, a.x.shape[1]):
        [product] = kept or [product for _, product in _rows_of_product(kernels, a, b, shares)]

        def gradient(own: Columns, other: Columns, product: Tensor) -> Tensor:
            out = own.x.new_empty(own.x.shape, dtype=weight.dtype)
            kernels.right(other, product, out, False)
            return kernels.finish(out, own, other, weight, *rest).to(own.x.dtype)

        return (
            gradient(a, other, product.T) if needs[0] else None,
            gradient(b, a, product) if b is not None and needs[1] else None,
        )
    da = torch.empty_like(a.x, memory_format=torch.contiguous_format) if needs[0] else None
    db = None
    if b is not None and needs[1]:
        db = a.x.new_empty(a.x.shape, dtype=weight.dtype)
    for rows, product in _rows_of_product(kernels, a, b, shares):
        if da is not None:
            target = part = da[:, rows]
            if part.dtype != weight.dtype:
                part = part.new_empty(part.shape, dtype=weight.dtype)
            kernels.right(other, product.T, part, False)
            part = kernels.finish(part, a.part(rows), other.part(rows), weight[rows], *rest)
            if part is not target:
                target.copy_(part)
        if db is not None:
            kernels.right(a.part(rows), product, db, rows.start > 0)
    if b is not None and db is not None:
        db = kernels.finish(db, b, a, weight, *rest)
    return da, db


def _rows_of_product(
    kernels: Kernels, a: Columns, b: Columns | None, shares: Shares
) -> Iterator[tuple[slice, Tensor]]:
    """Blocks of rows of C, summed over ranks, with zeros on its diagonal."""
    n, d = shares.rows_per_rank, a.x.shape[1]
    step = d if in_one_piece(n, d) else max(n // 8, FEWEST_ROWS)  # an eighth of an input
    for start in range(0, d, step):
        rows = slice(start, min(start + step, d))
        product = shares.total(kernels.cross(a, b, rows))
        product.diagonal(start).zero_()
        yield rows, product


def _inner_product(a: Tensor, b: Tensor) -> Tensor:
    """Σ a b in float64; some rows at a time, because the products of entries are stored."""
    return sum(torch.linalg.vecdot(x, y).sum(dtype=torch.float64) for x, y in some_rows(a, b))


FORWARD: dict[str, Callable[..., tuple[Tensor, Tensor, list[Tensor]]]] = {
    "sample": sample_forward,
    "feature": feature_forward,
}
BACKWARD: dict[str, Callable[..., Grads]] = {
    "sample": sample_backward,
    "feature": feature_backward,
}
