"""The targets of sorted projections."""

from __future__ import annotations

import torch
from torch import Tensor

from ..._operator import accumulation_dtype


def quantiles(z: Tensor) -> Tensor:
    """Φ⁻¹(i / (N + 1)) for i = 1 … N, for samples (…, N, D), in their dtype of computation."""
    count = z.shape[-2]
    places = torch.arange(1, count + 1, dtype=torch.float64, device=z.device)
    return torch.special.ndtri(places / (count + 1)).to(accumulation_dtype(z))
