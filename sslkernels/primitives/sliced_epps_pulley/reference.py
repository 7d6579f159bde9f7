"""The definition, in plain torch: samples × directions × knots are stored."""

from __future__ import annotations

import torch
from torch import Tensor

from ..._operator import accumulation_dtype, full_precision
from .quadrature import Quadrature


def sliced_epps_pulley_reference(
    z: Tensor, directions: Tensor, quadrature: Quadrature, scaled: bool
) -> Tensor:
    with full_precision(z):
        z, directions = (x.to(accumulation_dtype(z)) for x in (z, directions))
        weights = z.new_tensor(quadrature.weights)
        t = quadrature.step * torch.arange(1, len(weights) + 1, dtype=z.dtype, device=z.device)
        angles = (z @ directions)[..., None] * t  # (…, N, M, knots)
        cosine = angles.cos().mean(-3) - torch.exp(-t.square() / 2)
        sine = angles.sin().mean(-3)
        statistics = (cosine.square() + sine.square()) @ weights
        return statistics * z.shape[-2] if scaled else statistics
