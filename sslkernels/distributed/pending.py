"""An asynchronous mean over all ranks' rows."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor

from .collectives import all_reduce
from .gather import Gather, process_group, ranks_of


class PendingMean:
    """The mean over rows, from each rank's sum and number; the all-reduce is asynchronous.

    Args:
        total: (K,), this rank's sum.
        count: the number of this rank's rows; may be a tensor on the device.
        gather: the ranks; None: this one alone.
    """

    def __init__(self, total: Tensor, count: int | Tensor, gather: Gather | None):
        ranks = ranks_of(gather)
        self._total = total
        self._count: int | Tensor = count
        self._work: dist.Work | None = None
        if ranks is None:
            return
        if not isinstance(count, Tensor):
            count = total.new_full((), count)
        sums = torch.cat([total, count.to(total.dtype).reshape(1)])
        if torch.compiler.is_compiling():
            sums = all_reduce(sums, "sum", ranks)
        else:
            group = process_group(ranks.group)
            self._work = dist.all_reduce(sums, group=group, async_op=True)
        self._total, self._count = sums[:-1], sums[-1]

    @property
    def travels(self) -> bool:
        """Whether the all-reduce is still pending."""
        return self._work is not None

    def wait(self) -> Tensor:
        """The mean (K,)."""
        self._arrive()
        return self._total / self._count

    def moved(self, center: Tensor, share: float) -> Tensor:
        """``center + share · (mean − center)``; entries with a mean that is not finite stay."""
        self._arrive()
        total, count = self._total.to(center).view_as(center), self._count
        if isinstance(count, Tensor):
            total, count = total / count.to(center), 1
        step = total.sub(center, alpha=count).nan_to_num_(0.0, 0.0, 0.0)
        return center.add(step, alpha=share / count)

    def _arrive(self) -> None:
        if self._work is not None:
            self._work.wait()
            self._work = None
