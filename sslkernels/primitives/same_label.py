"""Sums and log-sum-exps over the rows that share a label, without an N × N mask.

Rows are sorted by label, so that those with the same label are adjacent.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from .._operator import RANKS, Differentiable, operator, plain
from ..distributed import Gather, Ranks, exchange_blocks, ranks_of

TILE_ROWS, TILE_COLUMNS = 512, 2048


def same_label_sum(
    x: Tensor, labels: Tensor, gather: Gather | None = None
) -> tuple[Tensor, Tensor]:
    """``Σ_{j: y_j = y_i} x_j`` (N, D), including i itself, and their number (N,); in O(N·D).

    Args:
        x: (N, D), float32 or float64.
        labels: (N,) int64.
        gather: the ranks whose rows are included.
    """
    return _SameLabelSum.apply(x, labels, ranks_of(gather) or ())


def same_label_logsumexp(
    z: Tensor, scale: Tensor, labels: Tensor, gather: Gather | None = None
) -> Tensor:
    """``out_i = log Σ_{j≠i: y_j = y_i} exp(scale · ⟨z_i, z_j⟩)``; −inf if there is no such j.

    Plain torch on tiles with equal labels: N · (rows of a label) · D multiply-adds, and one wait
    for the device. Differentiable once, in z and scale.

    Args:
        z: (N, D).
        scale: scalar tensor in float32 (float64 for float64 rows).
        labels: (N,) int64.
        gather: the ranks whose rows are included.
    """
    return _SameLabelLogSumExp.apply(z, scale, labels, ranks_of(gather) or ())


class _SameLabelSum(Differentiable):
    @staticmethod
    def forward(x: Tensor, labels: Tensor, ranks: Any) -> Any:
        return _sum_op(x, labels, *ranks)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        *tensors, ctx.ranks = inputs
        ctx.save_for_backward(*tensors)
        ctx.mark_non_differentiable(output[1])

    @staticmethod
    def gradients(
        ctx: Any, saved: Any, grad: Any, _: Any
    ) -> Any:  # "shares a label" is symmetric: the sum is its own adjoint
        return _sum_op(grad, saved[1], *ctx.ranks)[0], None, None


class _SameLabelLogSumExp(Differentiable):
    @staticmethod
    def forward(z: Tensor, scale: Tensor, labels: Tensor, ranks: Any) -> Any:
        return _logsumexp_op(z, scale, labels, *ranks)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        z, scale, labels, ctx.ranks = inputs
        ctx.save_for_backward(z, scale, labels, output)

    @staticmethod
    def gradients(ctx: Any, saved: Any, grad: Any) -> Any:
        z, scale, labels, logsumexp = saved
        dz = _logsumexp_backward_op(z, scale, labels, logsumexp, grad, *ctx.ranks)
        dscale = torch.linalg.vecdot(z.to(dz.dtype), dz).sum() / 2
        return (dz * scale).to(z.dtype), dscale.to(scale.dtype), None, None


def _sum(x: Tensor, labels: Tensor, *ranks: Any) -> tuple[Tensor, Tensor]:
    ordered, order = labels.sort(stable=True)
    is_first = torch.ones_like(ordered, dtype=torch.bool)
    is_first[1:] = ordered[1:] != ordered[:-1]
    classes = is_first.cumsum(0) - 1  # of the ordered rows, counted on the device
    own_class = torch.empty_like(classes).index_copy_(0, order, classes)
    # float64: adding thousands of rows one by one would dominate the rounding error of a loss
    sums = _add_rows(x.new_zeros(x.shape, dtype=torch.float64), own_class, x)
    counts = x.new_zeros(len(x)).index_add_(0, own_class, x.new_ones(len(x)))

    def add_block(others: Tensor, their_labels: Tensor) -> None:
        at = torch.searchsorted(ordered, their_labels).clamp_(max=len(ordered) - 1)
        known = ordered[at] == their_labels
        _add_rows(sums, classes[at], others * known[:, None])
        counts.index_add_(0, classes[at], known.to(counts.dtype))

    if any(ranks):
        exchange_blocks([x, labels], add_block, Ranks(*ranks))
    return sums.to(x.dtype).index_select(0, own_class), counts.index_select(0, own_class)


def _add_rows(sums: Tensor, at: Tensor, rows: Tensor) -> Tensor:
    """``sums[at] += rows`` deterministically: index_add_ is not on CUDA, index_put_ on the CPU."""
    rows = rows.to(sums.dtype)
    if sums.is_cuda:
        return sums.index_put_((at,), rows, accumulate=True)
    return sums.index_add_(0, at, rows)


def _logsumexp(z: Tensor, scale: Tensor, labels: Tensor, *ranks: Any) -> Tensor:
    labels, order = labels.sort(stable=True)
    z = z[order]
    out = z.new_full(labels.shape, float("-inf"), dtype=scale.dtype)

    def add_block(other: Tensor, their_labels: Tensor, own: bool = False) -> None:
        for rows, _, scores in _tiles(z, other, scale, labels, their_labels, own):
            torch.logaddexp(out[rows], torch.logsumexp(scores, 1), out=out[rows])

    add_block(z, labels, own=True)
    if any(ranks):
        exchange_blocks([z, labels], add_block, Ranks(*ranks))
    return torch.empty_like(out).index_copy_(0, order, out)


def _logsumexp_backward(
    z: Tensor, scale: Tensor, labels: Tensor, logsumexp: Tensor, grad: Tensor, *ranks: Any
) -> Tensor:
    """Gradient of z over scale: each pair counts for both of its rows."""
    labels, order = labels.sort(stable=True)
    z, grad = z[order], grad[order].contiguous()
    logsumexp = logsumexp[order]
    logsumexp = logsumexp.masked_fill(torch.isneginf(logsumexp), float("inf"))  # passes no gradient
    dz = z.new_zeros(z.shape, dtype=scale.dtype)

    def add_block(
        other: Tensor, their_labels: Tensor, lse: Tensor, weight: Tensor, own: bool = False
    ) -> None:
        for rows, columns, scores in _tiles(z, other, scale, labels, their_labels, own):
            weights = torch.exp(scores - logsumexp[rows, None]) * grad[rows, None]
            weights += torch.exp(scores - lse[columns]) * weight[columns]
            dz[rows] += weights @ other[columns].to(weights.dtype)

    add_block(z, labels, logsumexp, grad, own=True)
    if any(ranks):
        exchange_blocks([z, labels, logsumexp, grad], add_block, Ranks(*ranks))
    return torch.empty_like(dz).index_copy_(0, order, dz)


def _tiles(
    z: Tensor, other: Tensor, scale: Tensor, labels: Tensor, their_labels: Tensor, own: bool
) -> Iterator[tuple[slice, slice, Tensor]]:
    """Yield (rows, columns, scores) where ordered labels may be equal; −inf where they differ."""
    n = len(z)
    starts = torch.arange(0, n, TILE_ROWS, device=z.device)
    lasts = (starts + TILE_ROWS - 1).clamp_(max=n - 1)
    first = torch.searchsorted(their_labels, labels[starts])
    end = torch.searchsorted(their_labels, labels[lasts], right=True)
    for start, (low, high) in zip(
        range(0, n, TILE_ROWS), torch.stack([first, end], 1).tolist(), strict=True
    ):
        rows = slice(start, start + TILE_ROWS)
        for j in range(low, high, TILE_COLUMNS):
            columns = slice(j, min(j + TILE_COLUMNS, high))
            scores = scale * (z[rows].to(scale.dtype) @ other[columns].to(scale.dtype).T)
            scores.masked_fill_(labels[rows, None] != their_labels[columns], float("-inf"))
            if own and -scores.shape[0] < start - j < scores.shape[1]:
                scores.diagonal(start - j).fill_(float("-inf"))
            yield rows, columns, scores


def _full_precision(function: Any) -> Any:
    def run(x: Tensor, *arguments: Any) -> Any:
        with plain(x):
            return function(x, *arguments)

    return run


_sum_op = operator(
    f"same_label_sum(Tensor x, Tensor labels, {RANKS}) -> (Tensor, Tensor)",
    _full_precision(_sum),
    lambda x, *_: (x.new_empty(x.shape), x.new_empty(x.shape[0])),
)
_logsumexp_op = operator(
    f"same_label_logsumexp(Tensor z, Tensor scale, Tensor labels, {RANKS}) -> Tensor",
    _full_precision(_logsumexp),
    lambda z, scale, *_: scale.new_empty(z.shape[0]),
)
_logsumexp_backward_op = operator(
    "same_label_logsumexp_backward(Tensor z, Tensor scale, Tensor labels, Tensor logsumexp,"
    f" Tensor grad, {RANKS}) -> Tensor",
    _full_precision(_logsumexp_backward),
    lambda z, scale, *_: scale.new_empty(z.shape),
)
