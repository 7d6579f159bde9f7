"""Two views at once, for VICReg: each one's norm, and their squared distance.

As one operator it needs one gradient per view; the distance's own would be equally large.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from typing import Any

import torch
from torch import Tensor

from ..._operator import RANKS, Differentiable, accumulation_dtype, operator, plain
from .columns import some_rows
from .op import backward, forward, forward_fake, materialized


def _forward(a: Tensor, b: Tensor, impl: str, route: str, *ranks: Any) -> Any:
    sides = [forward(x, x, True, "centered", [], impl, route, *ranks)[:4] for x in (a, b)]
    dtype = accumulation_dtype(a)
    with plain(a):
        parts = [
            (x.to(dtype) - y.to(dtype)).square_().sum(dtype=torch.float64)
            for x, y in some_rows(a, b)
        ]
        distance = reduce(torch.add, parts)
    return *sides[0], *sides[1], distance.to(dtype)


def _backward(
    a: Tensor,
    b: Tensor,
    kept: Tensor,
    grads: Any,
    needs: Sequence[bool],
    impl: str,
    route: str,
    *ranks: Any,
) -> Any:
    found = []
    for x, other, start, need in ((a, b, 0, needs[0]), (b, a, 1, needs[1])):
        if not need:
            found.append(x.new_empty(0))
            continue
        diagonal, statistics, gram = kept[3 * start : 3 * start + 3]
        norm_grad, diagonal_grad = grads[2 * start : 2 * start + 2]
        nothing = x.new_empty(0)
        grad, _ = backward(
            x, x, statistics, diagonal, gram, nothing, norm_grad, diagonal_grad, [True, False],
            True, impl, route, *ranks,
        )  # fmt: skip
        with plain(a):
            _pull(grad, x, other, 2 * grads[4])
        found.append(grad)
    return tuple(found)


def _pull(grad: Tensor, x: Tensor, other: Tensor, factor: Tensor) -> None:
    """grad += factor · (x − other)."""
    for g, y, z in some_rows(grad, x, other):
        difference = y.to(factor.dtype) - z.to(factor.dtype)
        if g.dtype == factor.dtype:
            g.addcmul_(difference, factor)
        else:
            g.copy_(g.to(factor.dtype).addcmul_(difference, factor))


def _forward_fake(a: Tensor, b: Tensor, impl: str, route: str, *ranks: Any) -> Any:
    sides = [forward_fake(x, x, True, "centered", [], impl, route, *ranks)[:4] for x in (a, b)]
    return *sides[0], *sides[1], a.new_empty((), dtype=accumulation_dtype(a))


def _backward_fake(
    a: Tensor,
    b: Tensor,
    kept: Tensor,
    grads: Any,
    needs: Sequence[bool],
    impl: str,
    route: str,
    *ranks: Any,
) -> Any:
    return tuple(x.new_empty(x.shape if y else 0) for x, y in zip((a, b), needs, strict=True))


_forward_op = operator(
    "norms_of_views(Tensor a, Tensor b, str impl, str route, str gather='', str group='',"
    " int ranks=0)"
    " -> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)",
    _forward,
    _forward_fake,
)
_backward_op = operator(
    "norms_of_views_backward(Tensor a, Tensor b, Tensor[] kept, Tensor[] grads, bool[2] needs,"
    f" str impl, str route, {RANKS}) -> (Tensor, Tensor)",
    _backward,
    _backward_fake,
)


class NormsOfViews(Differentiable):
    """Norm, diagonal, statistics and Gram of each view, then the squared distance of the views."""

    @staticmethod
    def forward(a: Tensor, b: Tensor, impl: str, route: str, ranks: Any) -> Any:
        return _forward_op(a, b, impl, route, *ranks)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        a, b, *ctx.how = inputs
        ctx.save_for_backward(a, b, *output[1:4], *output[5:8])
        ctx.mark_non_differentiable(*output[2:4], *output[6:8])
        ctx.set_materialize_grads(False)  # zeros for the products would be large

    @staticmethod
    def gradients(
        ctx: Any,
        saved: Any,
        norm_a: Any,
        diagonal_a: Any,
        _: Any,
        __: Any,
        norm_b: Any,
        diagonal_b: Any,
        ___: Any,
        ____: Any,
        distance: Any,
    ) -> Any:
        a, b, *kept = saved
        impl, route, ranks = ctx.how
        needs = list(ctx.needs_input_grad[:2])
        of_a = materialized(norm_a, diagonal_a, kept[0])
        of_b = materialized(norm_b, diagonal_b, kept[3])
        distance = kept[0].new_zeros(()) if distance is None else distance
        grads = [*of_a, *of_b, distance]
        found = _backward_op(a, b, kept, grads, needs, impl, route, *ranks)
        da, db = (grad if need else None for grad, need in zip(found, needs, strict=True))
        return da, db, None, None, None
