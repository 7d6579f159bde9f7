"""The torch operator: schema, fake, implementations, and its derivative."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..._operator import RANKS, Differentiable, accumulation_dtype, operator, plain
from ...distributed import Ranks, all_reduce
from .kernels import coefficients_shape, kernels


def forward(
    z: Tensor,
    directions: Tensor,
    step: float,
    weights: Sequence[float],
    impl: str,
    *ranks: Any,
) -> Any:
    with plain(z):
        found = kernels(impl)
        sums = found.sums(z, directions, step, len(weights))
        count: int | Tensor = z.shape[1]
        if any(ranks):
            sums = sums.sum(0, keepdim=True)
            own = sums.new_full((1,), z.shape[1])
            total = all_reduce(torch.cat([sums.flatten(), own]), "sum", Ranks(*ranks))
            sums, count = total[:-1].view(sums.shape), total[-1]
        return found.statistics(sums, step, weights, count)


def backward(
    z: Tensor,
    directions: Tensor,
    step: float,
    coefficients: Tensor,
    gradients: Tensor,
    impl: str,
    *ranks: Any,
) -> Any:
    with plain(z):
        if any(ranks):
            gradients = all_reduce(gradients, "sum", Ranks(*ranks))
        found = kernels(impl)
        return found.gradient(z, directions, step, coefficients, gradients).to(z.dtype)


def forward_fake(
    z: Tensor,
    directions: Tensor,
    step: float,
    weights: Sequence[float],
    impl: str,
    *ranks: Any,
) -> Any:
    views, slices, dtype = z.shape[0], directions.shape[1], accumulation_dtype(z)
    return (
        z.new_empty(views, slices, dtype=dtype),
        z.new_empty(coefficients_shape(impl, views, len(weights), slices), dtype=dtype),
    )


def backward_fake(
    z: Tensor,
    directions: Tensor,
    step: float,
    coefficients: Tensor,
    gradients: Tensor,
    impl: str,
    *ranks: Any,
) -> Any:
    return z.new_empty(z.shape)


_forward_op = operator(
    "sliced_epps_pulley(Tensor z, Tensor directions, float step, float[] weights, str impl,"
    f" {RANKS}) -> (Tensor, Tensor)",
    forward,
    forward_fake,
)
_backward_op = operator(
    "sliced_epps_pulley_backward(Tensor z, Tensor directions, float step, Tensor coefficients,"
    f" Tensor gradients, str impl, {RANKS}) -> Tensor",
    backward,
    backward_fake,
)


class SlicedEppsPulley(Differentiable):
    """The statistics, and the coefficients of their derivative."""

    @staticmethod
    def forward(
        z: Tensor,
        directions: Tensor,
        step: float,
        weights: Sequence[float],
        impl: str,
        ranks: Any,
    ) -> Any:
        return _forward_op(z, directions, step, weights, impl, *ranks)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        z, directions, ctx.step, _, ctx.impl, ctx.ranks = inputs
        ctx.mark_non_differentiable(output[1])
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(z, directions, output[1])

    @staticmethod
    def gradients(ctx: Any, saved: Any, gradients: Any, _: Any) -> Any:
        z, directions, coefficients = saved
        dz = None
        if gradients is not None and ctx.needs_input_grad[0]:
            dz = _backward_op(
                z, directions, ctx.step, coefficients, gradients, ctx.impl, *ctx.ranks
            )
        return dz, None, None, None, None, None
