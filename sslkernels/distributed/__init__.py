"""Differentiable collectives; no other package here uses torch.distributed.

Losses are means over a rank's own rows. The backward pass gives each embedding the derivative of
the *sum* of all ranks' losses, so that after DistributedDataParallel's mean the parameters have the
gradient of one process with the global batch.
"""

from .batch_norm import SyncBatchNorm, synchronize_batch_norm
from .blocks import exchange_blocks
from .collectives import (
    all_gather,
    all_reduce,
    first_row,
    gather_rows,
    gram,
    logsumexp_over_ranks,
    mean_over_ranks,
    rows_of_all_ranks,
    scale_gradient,
    share_of_mean,
    stack_ranks,
    sum_over_ranks,
)
from .gather import ROUTES, Gather, Ranks, all_ranks, rank_of, ranks_of
from .pending import PendingMean
from .shares import Shares

__all__ = [
    "ROUTES",
    "Gather",
    "PendingMean",
    "Ranks",
    "Shares",
    "SyncBatchNorm",
    "all_gather",
    "all_ranks",
    "all_reduce",
    "exchange_blocks",
    "first_row",
    "gather_rows",
    "gram",
    "logsumexp_over_ranks",
    "mean_over_ranks",
    "rank_of",
    "ranks_of",
    "rows_of_all_ranks",
    "scale_gradient",
    "share_of_mean",
    "stack_ranks",
    "sum_over_ranks",
    "synchronize_batch_norm",
]
