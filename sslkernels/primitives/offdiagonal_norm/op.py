"""The torch operator: schema, fake, implementations, and its derivative."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..._operator import RANKS, Differentiable, accumulation_dtype, operator, plain
from ...distributed import Shares
from . import routes
from .columns import Columns, standardize
from .kernels import Kernels
from .kernels import kernels as kernels_of

# b is a if `symmetric`. kind: "raw", "centered", or "standardized" with the `numbers` of
# Standardized. Results: norm, diagonal, statistics of a and b, and the products that are kept:
# the Grams of the sample route, or C of the feature route.


def forward(
    a: Tensor,
    b: Tensor,
    symmetric: bool,
    kind: str,
    numbers: list[float],
    impl: str,
    route: str,
    *ranks: Any,
) -> Any:
    with plain(a):
        kernels, shares = kernels_of(impl), Shares(a, *ranks)
        route = routes.choose(route, shares.count, a.shape[1])
        sides = [a] if symmetric else [a, b]
        if route == "sample":
            sides = [shares.to_columns(x) for x in sides]
        found = [_columns(kernels, x, kind, numbers, shares, route) for x in sides]
        norm, diagonal, products = routes.FORWARD[route](kernels, *_pair(found), shares)
        if route == "sample":
            diagonal = shares.all_columns(diagonal)
        dtype = accumulation_dtype(a)
        statistics = [] if kind == "raw" else [torch.stack([_statistics(x) for x in found])]
        kept = *_filled(a, statistics, 1), *_filled(a, products, 2)
        return norm.to(dtype), diagonal.to(dtype), *kept


def backward(
    a: Tensor,
    b: Tensor,
    statistics: Tensor,
    diagonal: Tensor,
    first: Tensor,
    second: Tensor,
    norm_grad: Any,
    diagonal_grad: Any,
    needs: Sequence[bool],
    symmetric: bool,
    impl: str,
    route: str,
    *ranks: Any,
) -> Any:
    with plain(a):
        kernels, shares = kernels_of(impl), Shares(a, *ranks)
        route = routes.choose(route, shares.count, a.shape[1])
        norm_grad, diagonal_grad = shares.total(torch.cat([norm_grad[None], diagonal_grad])).split(
            [1, len(diagonal_grad)]
        )
        sides = [a] if symmetric else [a, b]
        if route == "sample":
            sides = [shares.to_columns(x) for x in sides]
            diagonal, diagonal_grad = map(shares.own_columns, (diagonal, diagonal_grad))
        if statistics.numel():
            columns = [Columns(x, *y.unbind()) for x, y in zip(sides, statistics, strict=True)]
        else:
            columns = [Columns(x) for x in sides]
        products = [x for x in (first, second) if x.numel()]
        grads = routes.BACKWARD[route](
            kernels, *_pair(columns), products, diagonal, norm_grad[0], diagonal_grad, needs, shares
        )
        if route == "sample":
            of_a, of_b = (x if x is None else shares.to_rows(x) for x in grads)
            grads = of_a, of_b
        return tuple(a.new_empty(0) if x is None else x.to(a.dtype) for x in grads)


def _columns(
    kernels: Kernels, x: Tensor, kind: str, numbers: list[float], shares: Shares, route: str
) -> Any:
    if kind == "raw":
        return Columns(x)
    mean, squares = kernels.statistics(x)
    if route == "feature":  # for this rank's rows
        center = shares.total(mean * len(x)) / shares.count
        squares = shares.total(squares + len(x) * (mean - center).square())
        mean = center
    return standardize(x, mean, squares, shares.count, numbers)


def _statistics(x: Columns) -> Tensor:
    """Mean, rest, scale and slope, (4, d)."""
    return torch.stack([y for y in x[1:] if y is not None])


def _filled(x: Tensor, tensors: Sequence[Tensor], count: int) -> list[Tensor]:
    """Padded with empty tensors: an operator's results must not share memory."""
    return [*tensors, *(x.new_empty(0, 0) for _ in range(count - len(tensors)))]


def _pair(sides: Sequence[Columns]) -> tuple[Columns, Columns | None]:
    return sides[0], sides[1] if len(sides) > 1 else None


def forward_fake(
    a: Tensor,
    b: Tensor,
    symmetric: bool,
    kind: str,
    numbers: list[float],
    impl: str,
    route: str,
    *ranks: Any,
) -> Any:
    # Not above: it loads sympy, which takes longer than the rest of this package.
    from torch.fx.experimental.symbolic_shapes import has_free_unbacked_symbols

    n, d = a.shape
    dtype = accumulation_dtype(a)
    parts = 1 if symmetric else 2
    width: Any = d
    if any(ranks) or has_free_unbacked_symbols((n, d)):  # the number of rows is not known yet
        size = torch.library.get_ctx().new_dynamic_size
        if any(ranks) and kind != "raw":
            width = size()
        products = [a.new_empty(size(), size(), dtype=dtype) for _ in range(parts)]
    elif routes.choose(route, n, d) == "sample":
        products = [a.new_empty(n, n, dtype=dtype) for _ in range(parts)]
    elif routes.in_one_piece(n, d) and routes.fused_square_sum(kernels_of(impl), a, False) is None:
        products = [a.new_empty(d, d, dtype=dtype)]
    else:
        products = []
    statistics = [] if kind == "raw" else [a.new_empty(parts, 4, width, dtype=dtype)]
    return (
        a.new_empty((), dtype=dtype), a.new_empty(d, dtype=dtype), *_filled(a, statistics, 1),
        *_filled(a, products, 2),
    )  # fmt: skip


def backward_fake(
    a: Tensor,
    b: Tensor,
    statistics: Tensor,
    diagonal: Tensor,
    first: Tensor,
    second: Tensor,
    norm_grad: Any,
    diagonal_grad: Any,
    needs: Sequence[bool],
    symmetric: bool,
    impl: str,
    route: str,
    *ranks: Any,
) -> Any:
    needs = [needs[0], needs[1] and not symmetric]
    return tuple(x.new_empty(x.shape if y else 0) for x, y in zip((a, b), needs, strict=True))


_forward_op = operator(
    "offdiagonal_norm(Tensor a, Tensor b, bool symmetric, str kind, float[] numbers, str impl,"
    f" str route, {RANKS})"
    " -> (Tensor, Tensor, Tensor, Tensor, Tensor)",
    forward,
    forward_fake,
)
_backward_op = operator(
    "offdiagonal_norm_backward(Tensor a, Tensor b, Tensor statistics, Tensor diagonal,"
    " Tensor first, Tensor second, Tensor norm_grad, Tensor diagonal_grad, bool[2] needs,"
    f" bool symmetric, str impl, str route, {RANKS})"
    " -> (Tensor, Tensor)",
    backward,
    backward_fake,
)


def materialized(
    norm_grad: Tensor | None, diagonal_grad: Tensor | None, diagonal: Tensor
) -> tuple[Tensor, Tensor]:
    """Zeros for gradients that are not needed."""
    return (
        diagonal.new_zeros(()) if norm_grad is None else norm_grad,
        torch.zeros_like(diagonal) if diagonal_grad is None else diagonal_grad,
    )


class OffdiagonalNorm(Differentiable):
    """Norm and diagonal of :func:`offdiagonal_norm`; the other results are for backward."""

    @staticmethod
    def forward(
        a: Tensor, b: Tensor, kind: str, numbers: list[float], impl: str, route: str, ranks: Any
    ) -> Any:
        other = a if b is None else b
        return _forward_op(a, other, b is None, kind, numbers, impl, route, *ranks)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        a, b, _, _, *ctx.how = inputs
        _, diagonal, *kept = output
        ctx.symmetric = b is None
        ctx.save_for_backward(a, a if b is None else b, diagonal, *kept)
        ctx.mark_non_differentiable(*kept)
        ctx.set_materialize_grads(False)  # zeros for the products would be large

    @staticmethod
    def gradients(ctx: Any, saved: Any, norm_grad: Any, diagonal_grad: Any, *_: Any) -> Any:
        a, b, diagonal, statistics, first, second = saved
        impl, route, ranks = ctx.how
        needs = list(ctx.needs_input_grad[:2])
        given = materialized(norm_grad, diagonal_grad, diagonal)
        grads = _backward_op(
            a, b, statistics, diagonal, first, second, *given, needs, ctx.symmetric, impl, route,
            *ranks,
        )  # fmt: skip
        da, db = (grad if need else None for grad, need in zip(grads, needs, strict=True))
        return da, None if ctx.symmetric else db, None, None, None, None, None
