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
from .tiled import Side


def _forward(
    q: Tensor,
    k: Tensor,
    scale: Tensor,
    exclude: Sequence[int],
    columns: bool,
    impl: str,
    *ranks: Any,
) -> Any:
    with plain(q):
        scale = scale.to(accumulation_dtype(q))
        return _implementation(impl, *ranks).forward(q, k, scale, exclude, columns)


def _backward(
    q: Tensor,
    k: Tensor,
    scale: Tensor,
    exclude: Sequence[int],
    row: Tensor,
    row_grad: Any,
    column: Tensor,
    column_grad: Any,
    needs: Sequence[bool],
    impl: str,
    *ranks: Any,
) -> Any:
    need_q, need_k, need_scale = needs
    with plain(q):
        grads = [grad.contiguous() for grad in (row_grad, column_grad) if grad is not None]
        peak = torch.stack([grad.abs().amax() for grad in grads]).amax()
        if any(ranks):  # gradients that are added must have the same unit
            peak = all_reduce(peak, "max", Ranks(*ranks))
        unit, factor = unit_of(peak), scale.to(accumulation_dtype(q))
        sides = [Side(lse, grad * unit) for lse, grad in zip((row, column), grads, strict=False)]
        dq, dk = _implementation(impl, *ranks).backward(
            q,
            k,
            factor,
            exclude,
            sides[0],
            sides[1] if column is not None else None,
            need_q or (need_scale and not need_k),
            need_k,
        )
        dscale = q.new_empty(0, dtype=scale.dtype)
        if need_scale:
            x, dx = (k, dk) if dq is None else (q, dq)
            dscale = torch.linalg.vecdot(dx, x.to(dx.dtype)).sum(dtype=torch.float64) / unit
            dscale = (dscale / 2 if k is None else dscale).to(scale.dtype)
        factor = factor / unit
        return (
            dq.mul_(factor).to(q.dtype) if need_q else q.new_empty(0),
            dk.mul_(factor).to(q.dtype) if need_k and k is not None else q.new_empty(0),
            dscale,
        )


def _implementation(impl: str, *ranks: Any) -> Any:
    found = kernels(impl)
    return AcrossRanks(found, Ranks(*ranks)) if any(ranks) else found


def _forward_fake(
    q: Tensor,
    k: Tensor,
    scale: Tensor,
    exclude: Sequence[int],
    columns: bool,
    impl: str,
    *ranks: Any,
) -> Any:
    dtype = accumulation_dtype(q)
    row = q.new_empty(q.shape[0], dtype=dtype)
    return row, q.new_empty((q if k is None else k).shape[0] if columns else 0, dtype=dtype)


def _backward_fake(
    q: Tensor,
    k: Tensor,
    scale: Tensor,
    exclude: Sequence[int],
    row: Tensor,
    row_grad: Any,
    column: Tensor,
    column_grad: Any,
    needs: Sequence[bool],
    impl: str,
    *ranks: Any,
) -> Any:
    need_q, need_k, need_scale = needs
    return (
        q.new_empty(q.shape if need_q else 0),
        q.new_empty(k.shape if need_k and k is not None else 0),
        q.new_empty(() if need_scale else 0, dtype=scale.dtype),
    )


_forward_op = operator(
    "pairwise_logsumexp(Tensor q, Tensor? k, Tensor scale, int[] exclude, bool columns, str impl,"
    f" {RANKS}) -> (Tensor, Tensor)",
    _forward,
    _forward_fake,
)
_backward_op = operator(
    "pairwise_logsumexp_backward(Tensor q, Tensor? k, Tensor scale, int[] exclude, Tensor row,"
    " Tensor row_grad, Tensor? column, Tensor? column_grad, bool[3] needs, str impl,"
    f" {RANKS}) -> (Tensor, Tensor, Tensor)",
    _backward,
    _backward_fake,
)


class PairwiseLogSumExp(Differentiable):
    """(rows, columns) of :func:`pairwise_logsumexp`; ``columns`` is empty unless requested."""

    @staticmethod
    def forward(
        q: Tensor,
        k: Tensor,
        scale: Tensor,
        exclude: Sequence[int],
        columns: bool,
        impl: str,
        ranks: Any,
    ) -> Any:
        return _forward_op(q, k, scale, exclude, columns, impl, *ranks)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        q, k, scale, ctx.exclude, ctx.columns, ctx.impl, ctx.ranks = inputs
        row, column = output
        ctx.save_for_backward(q, k, scale, row, column)

    @staticmethod
    def gradients(ctx: Any, saved: Any, row_grad: Any, column_grad: Any) -> Any:
        q, k, scale, row, column = saved
        needs = list(ctx.needs_input_grad[:3])
        dq, dk, dscale = _backward_op(
            q,
            k,
            scale,
            ctx.exclude,
            row,
            row_grad,
            column if ctx.columns else None,
            column_grad if ctx.columns else None,
            needs,
            ctx.impl,
            *ctx.ranks,
        )
        grads = (grad if need else None for grad, need in zip((dq, dk, dscale), needs, strict=True))
        return *grads, None, None, None, None
