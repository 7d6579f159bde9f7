"""The two ways to the norm, over the kernels of one implementation.

With C = âᵀ b̂ of standardised columns â and b̂: the sample route knows C only by the Grams â âᵀ and
b̂ b̂ᵀ, (n, n); the feature route computes C itself, some rows at a time where it is larger than a.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import ModuleType

import torch
from torch import Tensor

from .columns import Columns

Sum = Callable[[Tensor], Tensor]  # over ranks; None where there are no others
Grads = tuple[Tensor | None, Tensor | None]
FEWEST_ROWS = 128  # of C at a time


def choose(route: str, n: int, d: int) -> str:
    """The cheaper route, if "auto". Beyond n = 3d/4 the sample route would also lose digits: all
    of C minus its diagonal may then be small."""
    if route != "auto":
        return route
    return "sample" if 4 * n <= 3 * d else "feature"


def sample_forward(
    kernels: ModuleType, a: Columns, b: Columns | None, total: Sum | None
) -> tuple[Tensor, Tensor, list[Tensor]]:
    """Norm, diagonal, and the Grams. Ranks hold some columns each, with the rows of all ranks."""
    total = total or _alone
    grams = [total(kernels.gram(x)) for x in (a, b) if x is not None]
    diagonal = kernels.dot(a, b or a)
    square = torch.linalg.vecdot(grams[0], grams[-1]).sum(dtype=torch.float64)
    return square - total(diagonal.square().sum()), diagonal, grams


def sample_backward(
    kernels: ModuleType,
    a: Columns,
    b: Columns | None,
    grams: list[Tensor],
    diagonal: Tensor,
    norm_grad: Tensor,
    diagonal_grad: Tensor,
    needs: tuple[bool, bool],
    count: int,
    total: Sum | None,
) -> Grads:
    """Gradients of a.x and b.x, (n, d)."""

    def gradient(own: Columns, other: Columns, gram: Tensor, times: int) -> Tensor:
        weight = times * (diagonal_grad - 2 * norm_grad * diagonal)
        factor = 2 * times * norm_grad
        return kernels.finish(kernels.left(gram, own), own, other, weight, factor, count, None)

    if b is None:
        return gradient(a, a, grams[0], 2) if needs[0] else None, None
    return (
        gradient(a, b, grams[1], 1) if needs[0] else None,
        gradient(b, a, grams[0], 1) if needs[1] else None,
    )


def feature_forward(
    kernels: ModuleType, a: Columns, b: Columns | None, total: Sum | None
) -> tuple[Tensor, Tensor, list[Tensor]]:
    """Norm, diagonal, and C without its diagonal where that is no larger than a."""
    if total is None and not _is_small(a) and hasattr(kernels, "fuses") and kernels.fuses(a.x):
        return kernels.square_sum(a, b), kernels.dot(a, b or a), []
    total = total or _alone
    norm, kept = 0.0, []
    for _, product in _rows_of_product(kernels, a, b, total):
        norm = norm + torch.linalg.vecdot(product, product).sum(dtype=torch.float64)
        if _is_small(a):
            kept.append(product)
    return norm, total(kernels.dot(a, b or a)), kept


def feature_backward(
    kernels: ModuleType,
    a: Columns,
    b: Columns | None,
    kept: list[Tensor],
    diagonal: Tensor,
    norm_grad: Tensor,
    diagonal_grad: Tensor,
    needs: tuple[bool, bool],
    count: int,
    total: Sum | None,
) -> Grads:
    """Gradients of a.x and b.x, (n, d); ``count`` are the rows of all ranks."""
    other, times = (a, 2) if b is None else (b, 1)
    factor, weight = 2 * times * norm_grad, times * diagonal_grad

    def finish(product: Tensor, own: Columns, other: Columns, weight: Tensor) -> Tensor:
        return kernels.finish(product, own, other, weight, factor, count, total)

    da, db = [], None
    if kept:
        blocks = [(slice(0, len(kept[0])), kept[0])]
    else:
        blocks = _rows_of_product(kernels, a, b, total or _alone)
    for rows, product in blocks:
        if needs[0]:
            part = kernels.right(other, product.T)
            da.append(finish(part, a.part(rows), other.part(rows), weight[rows]))
        if b is not None and needs[1]:
            part = kernels.right(a.part(rows), product)
            db = part if db is None else db.add_(part)
    return (
        (torch.cat(da, 1) if len(da) > 1 else da[0]) if needs[0] else None,
        None if db is None else finish(db, b, a, weight),
    )


def _alone(x: Tensor) -> Tensor:
    return x


def _is_small(a: Columns) -> bool:
    """Whether C is no larger than a."""
    return a.x.shape[1] <= a.x.shape[0]


def _rows_of_product(
    kernels: ModuleType, a: Columns, b: Columns | None, total: Sum
) -> Iterator[tuple[slice, Tensor]]:
    """Blocks of rows of C, summed over ranks, with zeros on its diagonal."""
    n, d = a.x.shape
    step = d if _is_small(a) else max(n // 2, FEWEST_ROWS)
    for start in range(0, d, step):
        rows = slice(start, min(start + step, d))
        product = total(kernels.cross(a, b, rows))
        product.diagonal(start).zero_()
        yield rows, product


FORWARD = {"sample": sample_forward, "feature": feature_forward}
BACKWARD = {"sample": sample_backward, "feature": feature_backward}
