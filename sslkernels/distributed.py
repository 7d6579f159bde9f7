"""Collectives whose gradients are right; nothing else in the package talks to torch.distributed.

Losses are means over a rank's own rows. What a backward pass leaves in an embedding's gradient is
the derivative of the *sum* of all ranks' losses, so that after DistributedDataParallel's mean the
parameters hold the gradient of one process with the global batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd.function import once_differentiable

ROUTES = ("all", "ring")
GRADIENT_SCALES = ("mean", "reference")


@dataclass(frozen=True)
class Gather:
    """How a loss reaches the embeddings of the other ranks.

    Ranks may hold different numbers of rows; D and dtype must agree. Where torch.distributed is
    not initialised, or the group has one rank, nothing is gathered.

    Attributes:
        route: ``"all"`` gathers the global batch on every rank, by one collective. With ``"ring"``
            blocks travel from rank to rank while the resident one is computed, and no rank ever
            holds more than three blocks. Both are exact.
        group: the ranks that share a batch, as a process group or its name; None means all.
        grad_scale: ``"mean"`` gives the gradient of the global batch after
            DistributedDataParallel's mean. ``"reference"`` divides the embeddings' gradients by
            the number of ranks, as a plain all_gather without gradient does in public code
            (open_clip's defaults, for one); gradients of temperature, scale and bias stay.

    Raises:
        ValueError: an unknown ``route`` or ``grad_scale``.
    """

    route: str = "all"
    group: dist.ProcessGroup | str | None = None
    grad_scale: str = "mean"

    def __post_init__(self) -> None:
        if self.route not in ROUTES:
            raise ValueError(f"gather must be one of {', '.join(ROUTES)}; got {self.route!r}")
        if self.grad_scale not in GRADIENT_SCALES:
            raise ValueError(
                f"grad_scale must be one of {', '.join(GRADIENT_SCALES)}; got {self.grad_scale!r}"
            )
        if self.group is not None and not isinstance(self.group, str):
            object.__setattr__(self, "group", self.group.group_name)  # a name can be pickled


class Ranks(NamedTuple):
    """A gather that concerns more than one rank: what operators are told of it."""

    route: str
    group: str  # its name
    size: int


def ranks_of(gather: Gather | None) -> Ranks | None:
    """The ranks to meet; None if there are no others."""
    if gather is None:
        return None
    size, name = _size_and_name(gather.group)
    return Ranks(gather.route, name, size) if size > 1 else None


@torch.compiler.assume_constant_result
def rank_of(gather: Gather | None) -> int:
    """This rank's number in the group that it gathers from; 0 if it is alone."""
    ranks = ranks_of(gather)
    return 0 if ranks is None else dist.get_rank(_group(ranks.group))


@torch.compiler.assume_constant_result
def _size_and_name(group: str | None) -> tuple[int, str]:
    if not (dist.is_available() and dist.is_initialized()):
        return 1, ""
    group = dist.group.WORLD if group is None else _group(group)
    return dist.get_world_size(group), group.group_name


def _group(name: str) -> dist.ProcessGroup:
    return dist.distributed_c10d._resolve_process_group(name)


# Differentiable, and known to torch.compile.


def scale_gradient(x: Tensor, gather: Gather | None) -> Tensor:
    """x; its gradient is divided by the number of ranks where ``grad_scale`` is "reference"."""
    ranks = ranks_of(gather)
    if ranks is None or gather.grad_scale == "mean":
        return x
    return _ScaleGradient.apply(x, 1 / ranks.size)


def rows_of_all_ranks(x: Tensor, gather: Gather | None) -> int | Tensor:
    """How many rows all ranks hold together; where there are others, a float64 scalar."""
    ranks = ranks_of(gather)
    if ranks is None:
        return len(x)
    return all_reduce(x.new_full((), len(x), dtype=torch.float64), "sum", ranks)


def mean_over_ranks(x: Tensor, gather: Gather | None) -> Tensor:
    """This rank's share of the mean over all ranks' entries: the ranks' mean of it is that mean."""
    return share_of_mean(x.sum(), x.numel(), gather)


def share_of_mean(total: Tensor, count: int, gather: Gather | None) -> Tensor:
    """The same for entries of which this rank knows the sum and the number."""
    ranks = ranks_of(gather)
    if ranks is None:
        return total / count
    return total * (ranks.size / all_reduce(total.new_full((), count), "sum", ranks))


def logsumexp_over_ranks(x: Tensor, gather: Gather | None) -> Tensor:
    """Log-sum-exp of all entries of all ranks, a scalar that is the same on each of them."""
    ranks = ranks_of(gather)
    own = torch.logsumexp(x.flatten(), 0)
    if ranks is None:
        return own
    largest = all_reduce(own.detach(), "max", ranks)
    return largest + all_reduce(torch.exp(own - largest), "sum", ranks).log()


def sum_over_ranks(x: Tensor, gather: Gather | None) -> Tensor:
    """The sum over ranks, with gradient; x itself if there are no others."""
    ranks = ranks_of(gather)
    return x if ranks is None else all_reduce(x, "sum", ranks)


def all_reduce(x: Tensor, operation: str, ranks: Ranks) -> Tensor:
    """The ``"sum"`` or ``"max"`` over ranks, on each of them. Sums have gradients."""
    return _AllReduce.apply(x, operation, ranks.group)


def all_gather(x: Tensor, gather: Gather | None) -> Tensor:
    """All ranks' rows (Σ n, …), in the order of the ranks. No gradient passes."""
    ranks = ranks_of(gather)
    return x.detach() if ranks is None else _all_gather_op(x.detach(), ranks.group)


def gather_rows(x: Tensor, gather: Gather | None) -> Tensor:
    """All ranks' rows (Σ n, …), in the order of the ranks, with gradient."""
    ranks = ranks_of(gather)
    return x if ranks is None else _GatherRows.apply(x, ranks.group)


def gram(x: Tensor, gather: Gather | None) -> Tensor:
    """XᵀX of all ranks' rows X; or XXᵀ, where that is the smaller."""
    ranks = ranks_of(gather)
    return _Gram.apply(x, None if ranks is None else ranks.group)


class _ScaleGradient(torch.autograd.Function):
    @staticmethod
    def forward(x, factor):
        return x.view_as(x)

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.factor = inputs[1]

    @staticmethod
    def backward(ctx, grad):
        return grad * ctx.factor, None


class _AllReduce(torch.autograd.Function):
    @staticmethod
    def forward(x, operation, group):
        return _all_reduce_op(x, operation, group)

    @staticmethod
    def setup_context(ctx, inputs, output):
        _, ctx.operation, ctx.group = inputs

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        if ctx.operation != "sum":
            return None, None, None
        return _all_reduce_op(grad, "sum", ctx.group), None, None


class _GatherRows(torch.autograd.Function):
    @staticmethod
    def forward(x, group):
        return _all_gather_op(x, group)

    @staticmethod
    def setup_context(ctx, inputs, output):
        x, ctx.group = inputs
        ctx.save_for_backward(x)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        return _sum_rows_op(grad, *ctx.saved_tensors, ctx.group), None


class _Gram(torch.autograd.Function):
    @staticmethod
    def forward(x, group):
        if group is not None:
            return _gram_op(x, group)
        return x @ x.T if x.shape[0] < x.shape[1] else x.T @ x

    @staticmethod
    def setup_context(ctx, inputs, output):
        x, ctx.group = inputs
        ctx.save_for_backward(x)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        grad = grad + grad.T
        if ctx.group is not None:
            return _gram_backward_op(grad, x, ctx.group), None
        with torch.autocast(x.device.type, enabled=False):  # torch.compile's backward may be in one
            return grad @ x if x.shape[0] < x.shape[1] else x @ grad, None


_library = torch.library.Library("sslkernels", "FRAGMENT")
_library.define("all_reduce(Tensor x, str operation, str group) -> Tensor")
_library.define("all_gather(Tensor x, str group) -> Tensor")
_library.define("sum_rows(Tensor rows, Tensor own, str group) -> Tensor")
_library.define("gram(Tensor x, str group) -> Tensor")
_library.define("gram_backward(Tensor grad, Tensor x, str group) -> Tensor")


def _all_reduce(x: Tensor, operation: str, group: str) -> Tensor:
    out = x.clone(memory_format=torch.contiguous_format)
    dist.all_reduce(out, {"sum": dist.ReduceOp.SUM, "max": dist.ReduceOp.MAX}[operation],
                    group=_group(group))  # fmt: skip
    return out


def _all_gather(x: Tensor, group: str) -> Tensor:
    sizes = row_counts(x, group)
    blocks = gather_blocks(x, sizes, group)
    return torch.cat([block[:size] for block, size in zip(blocks, sizes, strict=True)])


def _all_gather_fake(x: Tensor, group: str) -> Tensor:
    rows = torch.library.get_ctx().new_dynamic_size()
    return x.new_empty(rows, *x.shape[1:])


def _sum_rows(rows: Tensor, own: Tensor, group: str) -> Tensor:
    """The sum over ranks of what each has for all rows; of that, what is for this rank's own."""
    return _own_rows(_all_reduce(rows, "sum", group), own, group).clone()


def _own_rows(rows: Tensor, own: Tensor, group: str) -> Tensor:
    sizes, rank = row_counts(own, group), dist.get_rank(_group(group))
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


for _key in ("CPU", "CUDA"):
    _library.impl("all_reduce", _all_reduce, _key)
    _library.impl("all_gather", _all_gather, _key)
    _library.impl("sum_rows", _sum_rows, _key)
    _library.impl("gram", _gram, _key)
    _library.impl("gram_backward", _gram_backward, _key)
torch.library.register_fake(
    "sslkernels::all_reduce", lambda x, operation, group: x.new_empty(x.shape), lib=_library
)
torch.library.register_fake("sslkernels::all_gather", _all_gather_fake, lib=_library)
torch.library.register_fake(
    "sslkernels::sum_rows", lambda rows, own, group: own.new_empty(own.shape), lib=_library
)
torch.library.register_fake("sslkernels::gram", _gram_fake, lib=_library)
torch.library.register_fake(
    "sslkernels::gram_backward", lambda grad, x, group: x.new_empty(x.shape), lib=_library
)
_all_reduce_op = torch.ops.sslkernels.all_reduce.default
_all_gather_op = torch.ops.sslkernels.all_gather.default
_sum_rows_op = torch.ops.sslkernels.sum_rows.default
_gram_op = torch.ops.sslkernels.gram.default
_gram_backward_op = torch.ops.sslkernels.gram_backward.default


# For the inside of operators: blocks of rows that meet every rank.

Merge = Callable[[Tensor, Tensor], object]  # of two contributions, into the first


def row_counts(x: Tensor, group: str) -> list[int]:
    """How many rows each rank holds. Waits for the device.

    Raises:
        ValueError: ranks that hold another number of columns or another dtype.
    """
    process_group = _group(group)
    dtypes = (torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.int64)
    code = dtypes.index(x.dtype)
    own = torch.tensor([len(x), x[:1].numel() // max(1, len(x[:1])), code], device=x.device)
    everyone = own.new_empty(dist.get_world_size(process_group), 3)
    _all_gather_single(everyone.view(-1), own, process_group)
    everyone = everyone.tolist()
    if len({tuple(row[1:]) for row in everyone}) > 1:
        found = ", ".join(
            f"{columns} of {dtypes[code]} on rank {rank}"
            for rank, (_, columns, code) in enumerate(everyone)
        )
        raise ValueError(f"ranks must agree in columns and dtype of what is gathered; got {found}")
    return [row[0] for row in everyone]


def gather_blocks(x: Tensor, sizes: Sequence[int], group: str) -> Tensor:
    """(ranks, largest size, …): every rank's rows, with anything in what pads them."""
    padded = _pad(x, max(sizes))
    blocks = x.new_empty(len(sizes), *padded.shape)
    _all_gather_single(blocks.view(-1), padded.view(-1), _group(group))
    return blocks


def meet_ranks(
    block: Sequence[Tensor],
    visit: Callable[..., Tensor | None],
    ranks: Ranks,
    own: Tensor | None = None,
    merge: Merge = Tensor.add_,
) -> Tensor | None:
    """Call ``visit(*block)`` with the block of every other rank.

    Args:
        block: this rank's tensors, each with n rows.
        visit: what to do with another rank's block; may return a contribution, a tensor with a row
            for each of the block's, which goes to the block's owner.
        ranks: whom to meet, and by which route.
        own: this rank's contribution to its own block, if there are contributions.
        merge: makes one of two ranks' contributions, in place of the first.

    Returns:
        All ranks' contributions to this rank's block, merged; None if there are none.
    """
    travel = _around_the_ring if ranks.route == "ring" else _from_all
    sizes = row_counts(block[0], ranks.group)
    return travel(block, visit, sizes, _group(ranks.group), own, merge)


def _from_all(block, visit, sizes, group, own, merge):
    rank, largest = dist.get_rank(group), max(sizes)
    everyone = [gather_blocks(x, sizes, group.group_name) for x in block]
    if own is not None:
        contributions = own.new_zeros(len(sizes), largest, *own.shape[1:])
        contributions[rank, : len(own)] = own
    for other in _others(rank, len(sizes)):
        contribution = visit(*(blocks[other, : sizes[other]] for blocks in everyone))
        if own is not None:
            contributions[other, : sizes[other]] = contribution
    if own is None:
        return None
    del everyone
    home = torch.empty_like(contributions)
    dist.all_to_all_single(home, contributions, group=group)
    del contributions
    first, *others = home[:, : sizes[rank]].unbind(0)
    for other in others:
        merge(first, other)
    return first


def _around_the_ring(block, visit, sizes, group, own, merge):
    rank, largest = dist.get_rank(group), max(sizes)
    arriving = _Shift([_pad(x, largest) for x in block], group)
    returning = None if own is None else _Shift([_pad(own, largest)], group)
    for step, other in enumerate(_others(rank, len(sizes)), 1):
        visitor = arriving.wait()
        if step < len(sizes) - 1:
            arriving = _Shift(visitor, group)  # on its way while it is computed here
        contribution = visit(*(x[: sizes[other]] for x in visitor))
        if own is not None:
            (carried,) = returning.wait()
            merge(carried[: sizes[other]], contribution)
            del contribution
            returning = _Shift([carried], group)
    return None if own is None else returning.wait()[0][: sizes[rank]]


class Shares:
    """The rows that each rank holds of a matrix, and how it is turned into columns and back.

    Without ranks there is one share, the matrix, and nothing travels.
    """

    def __init__(self, x: Tensor, *ranks):
        ranks = Ranks(*ranks) if any(ranks) else None
        self.group = _group(ranks.group) if ranks else None
        self.rows = row_counts(x, ranks.group) if ranks else [len(x)]
        self.rank = dist.get_rank(self.group) if ranks else 0
        self.ranks, self.columns = ranks, _split(x.shape[1], len(self.rows))
        self.count = sum(self.rows)
        self.rows_per_rank = self.count // len(self.rows)

    def total(self, x: Tensor) -> Tensor:
        """The sum over ranks."""
        return all_reduce(x, "sum", self.ranks) if self.ranks else x

    def to_columns(self, x: Tensor) -> Tensor:
        """From this rank's rows (n, d) to its share of the columns of all rows (Σ n, d / ranks)."""
        if not self.ranks:
            return x
        blocks = [block.flatten() for block in x.split(self.columns, 1)]
        return self._exchange(torch.cat(blocks), self._by_columns(), self._by_rows()).view(
            self.count, -1
        )

    def to_rows(self, x: Tensor) -> Tensor:
        """The way back."""
        if not self.ranks:
            return x
        arrived = self._exchange(x.flatten(), self._by_rows(), self._by_columns())
        blocks = arrived.split(self._by_columns())
        return torch.cat([block.view(self.rows[self.rank], -1) for block in blocks], 1)

    def all_columns(self, x: Tensor) -> Tensor:
        """From what each rank knows of its columns (d / ranks) to that of all (d)."""
        if not self.ranks:
            return x
        blocks = gather_blocks(x, self.columns, self.ranks.group)
        return torch.cat([b[:size] for b, size in zip(blocks, self.columns, strict=True)])

    def own_columns(self, x: Tensor) -> Tensor:
        """The way back."""
        return x.split(self.columns)[self.rank]

    def _by_rows(self) -> list[int]:
        """How many entries this rank's columns have on each rank."""
        return [rows * self.columns[self.rank] for rows in self.rows]

    def _by_columns(self) -> list[int]:
        """How many entries this rank's rows have in each rank's columns."""
        return [self.rows[self.rank] * columns for columns in self.columns]

    def _exchange(self, x: Tensor, sent: list[int], received: list[int]) -> Tensor:
        out = x.new_empty(sum(received))
        dist.all_to_all_single(out, x, received, sent, group=self.group)
        return out


def _split(size: int, parts: int) -> list[int]:
    return [size // parts + (i < size % parts) for i in range(parts)]


def _others(rank: int, size: int) -> Iterator[int]:
    """The other ranks in the order in which the ring brings their blocks."""
    return ((rank - step) % size for step in range(1, size))


class _Shift:
    """Tensors on their way to the next rank, while those of the rank before arrive."""

    def __init__(self, tensors: Sequence[Tensor], group: dist.ProcessGroup):
        rank, size = dist.get_rank(group), dist.get_world_size(group)
        after, before = (dist.get_global_rank(group, (rank + i) % size) for i in (1, -1))
        self.sent, self.received = tensors, [torch.empty_like(x) for x in tensors]
        self.works = dist.batch_isend_irecv(
            [dist.P2POp(dist.isend, x, after, group) for x in self.sent]
            + [dist.P2POp(dist.irecv, x, before, group) for x in self.received]
        )

    def wait(self) -> list[Tensor]:
        for work in self.works:
            work.wait()
        return self.received


def _pad(x: Tensor, size: int) -> Tensor:
    if len(x) == size:
        return x.contiguous()
    out = x.new_zeros(size, *x.shape[1:])
    out[: len(x)] = x
    return out


def _all_gather_single(out: Tensor, x: Tensor, group: dist.ProcessGroup) -> None:
    # the name changed; both are the same
    gather = getattr(dist, "all_gather_single", None) or dist.all_gather_into_tensor
    gather(out, x, group=group)
