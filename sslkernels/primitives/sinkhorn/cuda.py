"""CUDA C++: a cluster of blocks holds a row of the plan, which is read once. ``impl="cuda"``.

The Triton kernels do all other steps.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..._ext import address, extension, stream
from .._tile_table import ceil, multiprocessors
from .._triton import total
from . import triton
from .cpu import problem_of
from .sums import LogSum
from .triton import columns as columns
from .triton import product as product
from .triton import rows as rows

BLOCKS = 2  # per multiprocessor


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
    if sums is not None:
        return triton.masses(x, center, epsilon, count, sums)
    x = x if x.stride(2) == 1 else x.contiguous()
    groups, n, k = x.shape
    blocks = extension(cuda=True).cuda_sinkhorn_cluster(k)
    if blocks == 0:
        raise ValueError(
            f"impl='cuda' holds a row in a cluster of blocks, and {k} prototypes are too many for "
            "this device; use impl='triton'"
        )
    clusters = min(n, ceil(BLOCKS * multiprocessors(x.device), blocks * groups))
    out = x.new_empty((clusters, groups, k), dtype=torch.float32)
    count = None if count is None else count.to(torch.int64)
    extension(cuda=True).cuda_sinkhorn_masses(
        problem_of(x, center, epsilon),
        address(count),
        clusters,
        address(out),
        stream(x),
    )
    return total(out)
