"""The definition, in plain torch. With float64 inputs it is the oracle of every test."""

from __future__ import annotations

import torch
from torch import Tensor

from .._operator import accumulation_dtype
from .sums import moved


def sinkhorn_reference(
    logits: Tensor, epsilon: float, iterations: int, rows: Tensor | None
) -> Tensor:
    """(C, K) of logits (C, N, K). Computes in ``promote_types(dtype, float32)``."""
    x = logits.to(accumulation_dtype(logits))
    if rows is not None:
        x = x[:, : max(0, int(rows))]
    with torch.autocast(x.device.type, enabled=False):
        x = x / epsilon
        center = moved(0.0, x.logsumexp(1), epsilon)
        for _ in range(iterations - 1):
            samples = (x - center[:, None] / epsilon).logsumexp(2, keepdim=True)
            center = moved(0.0, (x - samples).logsumexp(1), epsilon)
        return center
