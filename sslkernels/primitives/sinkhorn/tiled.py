"""The three passes in plain torch, some rows at a time: any device, any float dtype."""

from __future__ import annotations

from collections.abc import Iterator
from functools import reduce

import torch
from torch import Tensor

from ..._operator import accumulation_dtype
from .._tiles import product as product
from .sums import LogSum, log_sum, merge

CHUNK = {"cpu": 1 << 17, "cuda": 1 << 23}  # logits at a time


def columns(x: Tensor, epsilon: float | Tensor, count: Tensor | None) -> LogSum:
    """Log-sum-exp of logits / ε over the first ``count`` rows: (C, k) for x (C, N, k)."""
    blocks = _blocks(x, None, epsilon)
    return reduce(
        merge, (log_sum(_clear(y, block, count, float("-inf")), 1) for block, y in blocks)
    )


def rows(x: Tensor, center: Tensor, epsilon: float | Tensor) -> LogSum:
    """Log-sum-exp of (logits - center) / ε over these columns: (C, N)."""
    parts = [log_sum(logits, 2) for _, logits in _blocks(x, center, epsilon)]
    return LogSum(*(torch.cat(part, 1) for part in zip(*parts, strict=True)))


def masses(
    x: Tensor,
    center: Tensor,
    epsilon: float | Tensor,
    count: Tensor | None,
    sums: LogSum | None = None,
) -> Tensor:
    """Masses of these prototypes over the first ``count`` rows of the plan: (C, k).

    ``sums``: :func:`rows` over all columns; None if x has them all.
    """
    total = x.new_zeros((), dtype=accumulation_dtype(x))
    for block, logits in _blocks(x, center, epsilon):
        if sums is None:
            plan = logits.softmax(2)
        else:
            plan = logits.sub_(sums.maximum[:, block, None]).exp_()
            plan /= sums.total[:, block, None]
        total = total + _clear(plan, block, count, 0.0).sum(1)
    return total


def _blocks(
    x: Tensor, center: Tensor | None, epsilon: float | Tensor
) -> Iterator[tuple[slice, Tensor]]:
    """Blocks of rows, and their (logits - center) / ε, new tensors."""
    groups, n, width = x.shape
    size = max(1, CHUNK[x.device.type] // (groups * width))
    for start in range(0, n, size):
        block = slice(start, min(n, start + size))
        logits = x[:, block].to(accumulation_dtype(x), copy=True)
        if center is not None:
            logits -= center[:, None]
        yield block, logits.div_(epsilon)


def _clear(x: Tensor, block: slice, count: Tensor | None, value: float) -> Tensor:
    """x with this value in the rows from ``count`` on."""
    if count is None:
        return x
    rows = torch.arange(block.start, block.stop, device=x.device)
    return x.masked_fill_((rows >= count)[:, None], value)
