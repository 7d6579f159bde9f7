"""For use within operators: exchange of blocks of rows among all ranks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from .gather import Ranks, process_group

Merge = Callable[[Tensor, Tensor], object]  # merges two contributions, in place of the first


def row_counts(x: Tensor, group: str) -> list[int]:
    """The number of rows on each rank. Waits for the device.

    Raises:
        ValueError: ranks that differ in the number of columns or in dtype.
    """
    ranks = process_group(group)
    dtypes = (torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.int64)
    code = dtypes.index(x.dtype)
    own = torch.tensor([len(x), x[:1].numel() // max(1, len(x[:1])), code], device=x.device)
    gathered = own.new_empty(dist.get_world_size(ranks), 3)
    _all_gather_single(gathered.view(-1), own, ranks)
    everyone = gathered.tolist()
    if len({tuple(row[1:]) for row in everyone}) > 1:
        found = ", ".join(
            f"{columns} of {dtypes[code]} on rank {rank}"
            for rank, (_, columns, code) in enumerate(everyone)
        )
        raise ValueError(f"ranks must agree in columns and dtype of what is gathered; got {found}")
    return [row[0] for row in everyone]


def gather_blocks(x: Tensor, sizes: Sequence[int], group: str) -> Tensor:
    """(ranks, largest size, …): every rank's rows, with undefined values as padding."""
    padded = _pad(x, max(sizes))
    blocks = x.new_empty(len(sizes), *padded.shape)
    _all_gather_single(blocks.view(-1), padded.view(-1), process_group(group))
    return blocks


def exchange_blocks(
    block: Sequence[Tensor],
    callback: Callable[..., Tensor | None],
    ranks: Ranks,
    own: Tensor | None = None,
    merge: Merge = Tensor.add_,
) -> Tensor | None:
    """Call ``callback(*block)`` with the block of every other rank.

    Args:
        block: this rank's tensors, each with n rows.
        callback: processes another rank's block; may return a contribution, a tensor with one row
            for each row of the block, which is sent to the block's owner.
        ranks: the ranks and the route of the exchange.
        own: this rank's contribution to its own block, if there are contributions.
        merge: merges two ranks' contributions, in place of the first.

    Returns:
        All ranks' contributions to this rank's block, merged; None if there are none.
    """
    travel = _around_the_ring if ranks.route == "ring" else _from_all
    sizes = row_counts(block[0], ranks.group)
    return travel(block, callback, sizes, process_group(ranks.group), own, merge)


def _from_all(
    block: Sequence[Tensor],
    callback: Callable[..., Any],
    sizes: Sequence[int],
    group: dist.ProcessGroup,
    own: Tensor | None,
    merge: Merge,
) -> Tensor | None:
    rank, largest = dist.get_rank(group), max(sizes)
    everyone = [gather_blocks(x, sizes, group.group_name) for x in block]
    if own is not None:
        contributions = own.new_zeros(len(sizes), largest, *own.shape[1:])
        contributions[rank, : len(own)] = own
    for other in _others(rank, len(sizes)):
        contribution = callback(*(blocks[other, : sizes[other]] for blocks in everyone))
        if own is not None:
            contributions[other, : sizes[other]] = contribution
    if own is None:
        return None
    del everyone
    home = torch.empty_like(contributions)
    dist.all_to_all_single(home, contributions, group=group)
    del contributions
    first, *others = home[:, : sizes[rank]].unbind(0)
    for x in others:
        merge(first, x)
    return first


def _around_the_ring(
    block: Sequence[Tensor],
    callback: Callable[..., Any],
    sizes: Sequence[int],
    group: dist.ProcessGroup,
    own: Tensor | None,
    merge: Merge,
) -> Tensor | None:
    rank, largest = dist.get_rank(group), max(sizes)
    arriving = _Shift([_pad(x, largest) for x in block], group)
    returning = None if own is None else _Shift([_pad(own, largest)], group)
    for step, other in enumerate(_others(rank, len(sizes)), 1):
        received = arriving.wait()
        if step < len(sizes) - 1:
            arriving = _Shift(received, group)  # sent while the callback computes
        contribution = callback(*(x[: sizes[other]] for x in received))
        if returning is not None:
            (carried,) = returning.wait()
            merge(carried[: sizes[other]], contribution)
            del contribution
            returning = _Shift([carried], group)
    return None if returning is None else returning.wait()[0][: sizes[rank]]


def _others(rank: int, size: int) -> Iterator[int]:
    """The other ranks, in the order in which the ring delivers their blocks."""
    return ((rank - step) % size for step in range(1, size))


class _Shift:
    """Tensors being sent to the next rank, while those of the previous rank are received."""

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
    # renamed in newer versions of torch
    gather = getattr(dist, "all_gather_single", None) or dist.all_gather_into_tensor
    gather(out, x, group=group)
