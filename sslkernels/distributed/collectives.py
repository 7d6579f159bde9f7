"""Differentiable collectives that torch.compile can trace."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from .._operator import Differentiable, accumulation_dtype, full_precision, operator
from .blocks import gather_blocks, row_counts
from .gather import Gather, Ranks, process_group, rank_of, ranks_of


def scale_gradient(x: Tensor, gather: Gather | None) -> Tensor:
    """x, whose gradient is divided by the number of ranks if ``grad_scale`` is "reference"."""
    ranks = ranks_of(gather)
    if gather is None or ranks is None or gather.grad_scale == "mean":
        return x
    return _ScaleGradient.apply(x, 1 / ranks.size)


def rows_of_all_ranks(x: Tensor, gather: Gather | None) -> Tensor:
    """The total number of rows on all ranks, a scalar in the dtype in which x is accumulated."""
    dtype = accumulation_dtype(x)
    return sum_over_ranks(x.new_full((), len(x), dtype=dtype), gather)


def mean_over_ranks(x: Tensor, gather: Gather | None) -> Tensor:
    """This rank's share of the mean over all ranks' entries, which is the mean of the shares."""
    return share_of_mean(x.sum(), x.numel(), gather)


def share_of_mean(total: Tensor, count: int, gather: Gather | None) -> Tensor:
    """As ``mean_over_ranks``, from this rank's sum and number of entries."""
    ranks = ranks_of(gather)
    if ranks is None:
        return total / count
    return total * (ranks.size / all_reduce(total.new_full((), count), "sum", ranks))


def logsumexp_over_ranks(x: Tensor, gather: Gather | None) -> Tensor:
    """Log-sum-exp over all entries of all ranks, a scalar that is the same on every rank."""
    ranks = ranks_of(gather)
    own = torch.logsumexp(x.flatten(), 0)
    if ranks is None:
        return own
    largest = all_reduce(own.detach(), "max", ranks)
    return largest + all_reduce(torch.exp(own - largest), "sum", ranks).log()


def sum_over_ranks(x: Tensor, gather: Gather | None) -> Tensor:
    """The sum over ranks, differentiable; x itself if there are no other ranks."""
    ranks = ranks_of(gather)
    return x if ranks is None else all_reduce(x, "sum", ranks)


def all_reduce(x: Tensor, operation: str, ranks: Ranks) -> Tensor:
    """The ``"sum"`` or ``"max"`` over ranks, on every rank. Sums are differentiable."""
    return _AllReduce.apply(x, operation, ranks.group)


def all_gather(x: Tensor, gather: Gather | None) -> Tensor:
    """All ranks' rows (Σ n, …), in rank order. Without gradient."""
    ranks = ranks_of(gather)
    return x.detach() if ranks is None else _all_gather_op(x.detach(), ranks.group)


def stack_ranks(x: Tensor, ranks: Ranks) -> Tensor:
    """(ranks, …): the tensors of all ranks, of one shape. Does not synchronise; no gradient."""
    return _stack_ranks_op(x.detach(), ranks.group, ranks.size)


def gather_rows(x: Tensor, gather: Gather | None) -> Tensor:
    """All ranks' rows (Σ n, …), in rank order, differentiable."""
    ranks = ranks_of(gather)
    return x if ranks is None else _GatherRows.apply(x, ranks.group)


def first_row(x: Tensor, gather: Gather | None) -> int:
    """The index of this rank's first row among all ranks' rows. Waits for the device."""
    ranks = ranks_of(gather)
    return 0 if ranks is None else sum(row_counts(x, ranks.group)[: rank_of(gather)])


def gram(x: Tensor, gather: Gather | None) -> Tensor:
    """XᵀX of all ranks' rows X, or XXᵀ if that is smaller."""
    ranks = ranks_of(gather)
    return _Gram.apply(x, None if ranks is None else ranks.group)


class _ScaleGradient(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, factor: float) -> Tensor:
        return x.view_as(x)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.factor = inputs[1]

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return grad * ctx.factor, None


class _AllReduce(Differentiable):
    @staticmethod
    def forward(x: Tensor, operation: str, group: str) -> Tensor:
        return _all_reduce_op(x, operation, group)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        _, ctx.operation, ctx.group = inputs

    @staticmethod
    def gradients(ctx: Any, saved: tuple[Tensor, ...], grad: Tensor) -> tuple[Tensor | None, ...]:
        if ctx.operation != "sum":
            return None, None, None
        return _all_reduce_op(grad, "sum", ctx.group), None, None


class _GatherRows(Differentiable):
    @staticmethod
    def forward(x: Tensor, group: str) -> Tensor:
        return _all_gather_op(x, group)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, ctx.group = inputs
        ctx.save_for_backward(x)

    @staticmethod
    def gradients(ctx: Any, saved: tuple[Tensor, ...], grad: Tensor) -> tuple[Tensor | None, ...]:
        return _sum_rows_op(grad, *saved, ctx.group), None


class _Gram(Differentiable):
    @staticmethod
    def forward(x: Tensor, group: str | None) -> Tensor:
        if group is not None:
            return _gram_op(x, group)
        return x @ x.T if x.shape[0] < x.shape[1] else x.T @ x

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, ctx.group = inputs
        ctx.save_for_backward(x)

    @staticmethod
    def gradients(ctx: Any, saved: tuple[Tensor, ...], grad: Tensor) -> tuple[Tensor | None, ...]:
        (x,) = saved
        grad = grad + grad.T
        if ctx.group is not None:
            return _gram_backward_op(grad, x, ctx.group), None
        with full_precision(x):  # torch.compile's backward may run under autocast
            return grad @ x if x.shape[0] < x.shape[1] else x @ grad, None


def _all_reduce(x: Tensor, operation: str, group: str) -> Tensor:
    out = x.clone(memory_format=torch.contiguous_format)
    dist.all_reduce(out, {"sum": dist.ReduceOp.SUM, "max": dist.ReduceOp.MAX}[operation],
                    group=process_group(group))  # fmt: skip
    return out


def _all_gather(x: Tensor, group: str) -> Tensor:
    sizes = row_counts(x, group)
    blocks = gather_blocks(x, sizes, group)
    return torch.cat([block[:size] for block, size in zip(blocks, sizes, strict=True)])


def _all_gather_fake(x: Tensor, group: str) -> Tensor:
    rows = torch.library.get_ctx().new_dynamic_size()
    return x.new_empty(rows, *x.shape[1:])


def _stack_ranks(x: Tensor, group: str, ranks: int) -> Tensor:
    return gather_blocks(x, [len(x)] * ranks, group)


def _sum_rows(rows: Tensor, own: Tensor, group: str) -> Tensor:
    """This rank's rows of the sum over ranks of contributions to all rows."""
    return _own_rows(_all_reduce(rows, "sum", group), own, group).clone()


def _own_rows(rows: Tensor, own: Tensor, group: str) -> Tensor:
    sizes, rank = row_counts(own, group), dist.get_rank(process_group(group))
    return rows.narrow(0, sum(sizes[:rank]), sizes[rank])


def _gram(x: Tensor, group: str) -> Tensor:
    if sum(row_counts(x, group)) < x.shape[1]:
        rows = _all_gather(x, group)
        return rows @ rows.T
    return _all_reduce(x.T @ x, "sum", group)


@torch.autocast("cuda", enabled=False)
@torch.autocast("cpu", enabled=False)
def _gram_backward(grad: Tensor, x: Tensor, group: str) -> Tensor:
    grad = _all_reduce(grad, "sum", group)
    if len(grad) < x.shape[1]:
        return _own_rows(grad, x, group) @ _all_gather(x, group)
    return x @ grad


def _gram_fake(x: Tensor, group: str) -> Tensor:
    size = torch.library.get_ctx().new_dynamic_size()
    return x.new_empty(size, size)


_all_reduce_op: Callable[..., Tensor] = operator(
    "all_reduce(Tensor x, str operation, str group) -> Tensor",
    _all_reduce,
    lambda x, operation, group: x.new_empty(x.shape),
)
_all_gather_op: Callable[..., Tensor] = operator(
    "all_gather(Tensor x, str group) -> Tensor", _all_gather, _all_gather_fake
)
_stack_ranks_op: Callable[..., Tensor] = operator(
    "stack_ranks(Tensor x, str group, int ranks) -> Tensor",
    _stack_ranks,
    lambda x, group, ranks: x.new_empty(ranks, *x.shape),
)
_sum_rows_op: Callable[..., Tensor] = operator(
    "sum_rows(Tensor rows, Tensor own, str group) -> Tensor",
    _sum_rows,
    lambda rows, own, group: own.new_empty(own.shape),
)
_gram_op: Callable[..., Tensor] = operator("gram(Tensor x, str group) -> Tensor", _gram, _gram_fake)
_gram_backward_op: Callable[..., Tensor] = operator(
    "gram_backward(Tensor grad, Tensor x, str group) -> Tensor",
    _gram_backward,
    lambda grad, x, group: x.new_empty(x.shape),
)
