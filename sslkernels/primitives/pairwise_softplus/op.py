"""The torch operator: schema, fake, implementations, and its derivative."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..._operator import RANKS, Differentiable, accumulation_dtype, operator, plain, unit_of
from ...distributed import Ranks, all_reduce
from .kernels import kernels
from .ranks import AcrossRanks


def _forward(
    q: Tensor,
    k: Tensor,
    scale: Tensor,
    bias: Tensor,
    exclude: Sequence[int],
    impl: str,
    *ranks: Any,
) -> Any:
    with plain(q):
        scale, bias = (x.to(accumulation_dtype(q)) for x in (scale, bias))
        return _implementation(impl, *ranks).forward(q, k, scale, bias, exclude)


def _backward(
    q: Tensor,
    k: Tensor,
    scale: Tensor,
    bias: Tensor,
    exclude: Sequence[int],
    row_grad: Any,
    needs: Sequence[bool],
    impl: str,
    *ranks: Any,
) -> Any:
    need_q, need_k, need_scale, need_bias = needs
    with plain(q):
        peak = row_grad.abs().amax()
        if any(ranks):  # gradients that are added must have the same unit
            peak = all_reduce(peak, "max", Ranks(*ranks))
        unit, factors = unit_of(peak), [x.to(accumulation_dtype(q)) for x in (scale, bias)]
        dq, dk, row_sigma = _implementation(impl, *ranks).backward(
            q,
            k,
            *factors,
            exclude,
            row_grad * unit,
            need_q or (need_scale and not need_k),
            need_k,
        )
        dscale, dbias = q.new_empty(0, dtype=scale.dtype), q.new_empty(0, dtype=bias.dtype)
        if need_scale:
            x, dx = (k, dk) if dq is None else (q, dq)
            dscale = _total(torch.linalg.vecdot(dx, x.to(dx.dtype)), unit).to(scale.dtype)
        if need_bias:
            dbias = _total(row_sigma, unit).to(bias.dtype)
        factor = scale.to(unit.dtype) / unit
        return (
            dq.mul_(factor).to(q.dtype) if need_q else q.new_empty(0),
            dk.mul_(factor).to(q.dtype) if need_k else q.new_empty(0),
            dscale,
            dbias,
        )


def _total(rows: Tensor, unit: Tensor) -> Tensor:
    return rows.sum(dtype=torch.float64) / unit  # rows of either sign cancel


def _implementation(impl: str, *ranks: Any) -> Any:
    found = kernels(impl)
    return AcrossRanks(found, Ranks(*ranks)) if any(ranks) else found


def _forward_fake(
    q: Tensor,
    k: Tensor,
    scale: Tensor,
    bias: Tensor,
    exclude: Sequence[int],
    impl: str,
    *ranks: Any,
) -> Any:
    return q.new_empty(q.shape[0], dtype=accumulation_dtype(q))


def _backward_fake(
    q: Tensor,
    k: Tensor,
    scale: Tensor,
    bias: Tensor,
    exclude: Sequence[int],
    row_grad: Any,
    needs: Sequence[bool],
    impl: str,
    *ranks: Any,
) -> Any:
    inputs = (q, k, scale, bias)
    return tuple(x.new_empty(x.shape if need else 0) for x, need in zip(inputs, needs, strict=True))


_forward_op = operator(
    "pairwise_softplus(Tensor q, Tensor k, Tensor scale, Tensor bias, int[] exclude, str impl,"
    f" {RANKS}) -> Tensor",
    _forward,
    _forward_fake,
)
_backward_op = operator(
    "pairwise_softplus_backward(Tensor q, Tensor k, Tensor scale, Tensor bias, int[] exclude,"
    f" Tensor row_grad, bool[4] needs, str impl, {RANKS})"
    " -> (Tensor, Tensor, Tensor, Tensor)",
    _backward,
    _backward_fake,
)


class PairwiseSoftplus(Differentiable):
    """The rows of :func:`pairwise_softplus`."""

    @staticmethod
    def forward(
        q: Tensor,
        k: Tensor,
        scale: Tensor,
        bias: Tensor,
        exclude: Sequence[int],
        impl: str,
        ranks: Any,
    ) -> Any:
        return _forward_op(q, k, scale, bias, exclude, impl, *ranks)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        q, k, scale, bias, ctx.exclude, ctx.impl, ctx.ranks = inputs
        ctx.save_for_backward(q, k, scale, bias)

    @staticmethod
    def gradients(ctx: Any, saved: Any, row_grad: Any) -> Any:
        q, k, scale, bias = saved
        needs = list(ctx.needs_input_grad[:4])
        grads = _backward_op(q, k, scale, bias, ctx.exclude, row_grad, needs, ctx.impl, *ctx.ranks)
        grads = (grad if need else None for grad, need in zip(grads, needs, strict=True))
        return *grads, None, None, None
