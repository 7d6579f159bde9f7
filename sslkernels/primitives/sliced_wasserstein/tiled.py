"""Plain torch, some directions at a time: any device, any float dtype."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from ..._operator import accumulation_dtype
from .quantiles import quantiles

WORKSPACE = 64 << 20  # bytes
COPIES = 2  # of projections at a time, beside their order in 64 bits


def sliced_wasserstein(z: Tensor, directions: Tensor, wanted: bool) -> tuple[Tensor, Tensor]:
    """The value, and if ``wanted`` the gradient of z (V, N, D), flattened."""
    dtype = accumulation_dtype(z)
    count = z.shape[0] * z.shape[1] * directions.shape[1]
    targets = quantiles(z)
    z, rows = z.to(dtype), directions.T.to(dtype)  # (M, D)
    gradient = z.new_zeros(z.shape) if wanted else None
    total = z.new_zeros((), dtype=torch.float64)
    for views, slices in _parts(z, len(rows)):
        into = None if gradient is None else gradient[views]
        total += _sum(z[views], rows[slices], targets, into, 2 / count)
    return (total / count).to(dtype), z.new_empty(0) if gradient is None else gradient.flatten()


def _sum(
    z: Tensor, directions: Tensor, targets: Tensor, gradient: Tensor | None, factor: float
) -> Tensor:
    """The sum of squared differences, float64; adds factor · its derivative to the gradient."""
    directions = directions.expand(len(z), -1, -1)
    differences, order = (directions @ z.mT).sort(-1)  # (views, slices, N)
    differences -= targets
    if gradient is not None:
        # contiguous along slices, as directions are: some libraries then sum more exactly
        weights = differences.new_empty(len(z), z.shape[1], directions.shape[1])
        weights.mT.scatter_(-1, order, differences)
        gradient.baddbmm_(weights, directions, alpha=factor)
    return differences.square_().sum(-1).double().sum()


def _parts(z: Tensor, slices: int) -> Iterator[tuple[slice, slice]]:
    """Sets of samples and directions whose projections are computed together."""
    views, rows = z.shape[:2]
    most = max(1, WORKSPACE // (rows * (COPIES * z.element_size() + 8)))
    few, some = min(views, most), max(1, min(slices, most // min(views, most)))
    for view in range(0, views, few):
        for first in range(0, slices, some):
            yield slice(view, view + few), slice(first, first + some)
