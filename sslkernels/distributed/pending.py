"""A mean over all ranks' rows that travels while other work goes on."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor

from .collectives import all_reduce
from .gather import Gather, process_group, ranks_of


class PendingMean:
    """The mean over rows of which this rank knows the sum and the number.

    Args:
        total: (K,), this rank's sum.
        count: of its rows.
        gather: the ranks; None: this one alone.
    """

    def __init__(self, total: Tensor, count: int, gather: Gather | None):
        self._sums = torch.cat([total, total.new_full((1,), count)])
        ranks = ranks_of(gather)
        self._work = None
        if ranks is not None and torch.compiler.is_compiling():
            self._sums = all_reduce(self._sums, "sum", ranks)
        elif ranks is not None:
            group = process_group(ranks.group)
            self._work = dist.all_reduce(self._sums, group=group, async_op=True)

    @property
    def travels(self) -> bool:
        """Whether other ranks have not answered yet."""
        return self._work is not None

    def wait(self) -> Tensor:
        """The mean (K,)."""
        if self._work is not None:
            self._work.wait()
            self._work = None
        return self._sums[:-1] / self._sums[-1]
