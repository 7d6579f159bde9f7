"""The definition, in plain torch: all projections are stored."""

from __future__ import annotations

from torch import Tensor

from ..._operator import accumulation_dtype, full_precision
from .quantiles import quantiles


def sliced_wasserstein_reference(z: Tensor, directions: Tensor) -> Tensor:
    with full_precision(z):
        dtype = accumulation_dtype(z)
        projections = (z.to(dtype) @ directions.to(dtype)).sort(-2).values  # (…, N, M)
        return (projections - quantiles(z)[:, None]).square().mean()
