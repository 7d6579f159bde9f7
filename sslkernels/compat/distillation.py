"""Additions to this package's self-distillation losses that other packages' losses need."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from .._operator import accumulation_dtype, full_precision
from ..distributed import Gather, PendingMean, all_gather, ranks_of, rows_of_all_ranks
from ..losses.distillation.centered import CenteredLoss
from ..losses.distillation.views import sum_of_logits

if TYPE_CHECKING:
    from ..losses.distillation.views import Prototypes, Views


class MeanOfRanks(CenteredLoss):
    """A centre that moves towards the mean of the ranks' means, whatever their numbers of rows.

    A rank without rows is left out; if no rank has rows, the centre does not change.
    """

    @torch.no_grad()
    def update_center(self, teacher_out: Views, prototypes: Prototypes | None = None) -> None:
        """Start the update with a batch: logits (…, B, K) or a list of them."""
        self.apply_center_update()
        total, count = sum_of_logits(teacher_out, prototypes)
        if isinstance(count, Tensor):  # of finite rows
            mean, one = total / count.clamp(min=1), count.clamp(max=1)
            self._update = PendingMean(mean, one, self.gather)
        elif count == 0 and ranks_of(self.gather) is None:
            return
        else:
            self._update = PendingMean(total / max(count, 1), min(count, 1), self.gather)
        if not self._update.travels:
            self.apply_center_update()


def koleo_of_one(x: Tensor, p: float, eps: float) -> Tensor:
    """KoLeo of a single embedding (1, D), its own neighbour: the gradient is 0."""
    with full_precision(x):
        x = F.normalize(x.to(accumulation_dtype(x)), dim=1)
        distance = F.pairwise_distance(x, x, p, eps)
        return -(distance + eps).log().mean()


def without_iterations(
    logits: Tensor, epsilon: float, gather: Gather | None, count: int | Tensor | None = None
) -> Tensor:
    """The initial Sinkhorn-Knopp plan (B, K) of logits (B, K): ``e^(logits/ε)``, normalised to the
    sum ``count``; None: the number of all ranks' rows."""
    with full_precision(logits):
        logits = logits.to(accumulation_dtype(logits)) / epsilon
        total = all_gather(logits.flatten().logsumexp(0, keepdim=True), gather).logsumexp(0)
        if count is None:
            count = rows_of_all_ranks(logits, gather)
        return torch.exp(logits - total) * count
